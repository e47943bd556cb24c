"""Optimisers: AdamW, and Muon for the matrices inside a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from molbfn.config import RunConfig
from molbfn.training.clipping import can_skip
from molbfn.training.muon import Muon, call_closure


def build_optimiser(
    network: nn.Module, hidden: Iterable[nn.Parameter], training: RunConfig
) -> torch.optim.Optimizer:
    """Return the optimiser of a network.

    Args:
        network: whose parameters are trained.
        hidden: those of its parameters that are matrices between hidden features.
        training: names the optimiser and its settings.
    """
    adamw = {
        "lr": training.learning_rate,
        "betas": training.betas,
        "weight_decay": training.weight_decay,
        "amsgrad": training.amsgrad,
        "fused": not training.amsgrad,
    }
    if training.optimiser == "adamw":
        return torch.optim.AdamW(_groups(network.parameters(), training), **adamw)
    matrices = list(hidden)
    chosen = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in network.parameters() if id(parameter) not in chosen]
    # Scaled to AdamW's root-mean-square step, so that one learning rate serves both.
    muon = Muon(matrices, lr=training.learning_rate, weight_decay=training.weight_decay)
    rest = [torch.optim.AdamW([group], **adamw) for group in _groups(others, training)]
    return Together(muon, *rest)


def _groups(parameters: Iterable[nn.Parameter], training: RunConfig) -> list[dict[str, Any]]:
    """Return AdamW's parameter groups: one, or apart what does not decay."""
    parameters = list(parameters)
    if training.decayed == "all":
        return [{"params": parameters}]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2]},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class Together(torch.optim.Optimizer):
    """Several optimisers, each with its own parameters, that step and are saved as one.

    Lightning's automatic optimisation and torch's schedules want a single optimiser.  All state
    and all groups live here; the parts borrow theirs for the length of a step, and are told what
    ``found_inf`` says (see :func:`~molbfn.training.clipping.can_skip`).

    Args:
        parts: fresh optimisers of one parameter group each, over disjoint parameters.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        self._parts = parts
        super().__init__([dict(group) for part in parts for group in part.param_groups], {})
        self._step_supports_amp_scaling = all(can_skip(part) for part in parts)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Step each part once, after ``closure`` (which computes gradients) if there is one."""
        loss = call_closure(closure)
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.state, part.param_groups = self.state, [group]
            part.found_inf = getattr(self, "found_inf", None)
            part.step()
        return loss
