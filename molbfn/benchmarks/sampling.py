"""Samples of a benchmark's model: named samplers, a number of network calls, a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bfn_core import bayesian_sampler, ode_solver, piecewise_grid, sample_steps, sde_solver
from bfn_core.sampling.loop import Sampler
from molbfn.benchmarks.model import BenchModel
from molbfn.devices import autocast
from molbfn.errors import UserError, nearest
from molbfn.seeds import numbered_seed

SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "original": bayesian_sampler,
    "sde1": lambda: sde_solver(order=1),
    "sde2": lambda: sde_solver(order=2),
    "ode1": lambda: ode_solver(order=1),
    "ode2": lambda: ode_solver(order=2),
}
"""Name -> sampler; "original" is Graves et al.'s, the others are Xue et al.'s."""


@dataclass(frozen=True)
class Scheme:
    """How to sample.

    Attributes:
        sampler: how a state moves from one time to the next.
        knots: (share of the steps, time) corners of the time grid; none: even steps.
    """

    sampler: Sampler
    knots: tuple[tuple[float, float], ...] = ()

    def grid(self, steps: int) -> Tensor:
        """Return ``steps + 1`` times from 0 to 1."""
        return piecewise_grid(steps, self.knots)


def find_scheme(name: str) -> Scheme:
    """Return what a name stands for: a sampler, and corners of its time grid after an @.

    ``sde2`` takes even steps, ``sde2@0.85:0.6`` 85 % of its steps up to t = 0.6.

    Raises:
        UserError: unknown sampler, or corners that do not rise.
    """
    sampler, at, corners = name.partition("@")
    if sampler not in SAMPLERS:
        raise UserError(
            f"no sampler '{sampler}';{nearest(sampler, SAMPLERS)} known: {', '.join(SAMPLERS)}"
        )
    try:
        pairs = [corner.split(":") for corner in corners.split("+")] if at else []
        knots = tuple((float(share), float(time)) for share, time in pairs)
        piecewise_grid(1, knots)
    except ValueError:
        raise UserError(
            f"sampler '{name}': expected share:time after the @, both rising strictly between 0 "
            f"and 1, such as {sampler}@0.85:0.6"
        ) from None
    return Scheme(SAMPLERS[sampler](), knots)


@torch.no_grad()
def draw_samples(
    model: BenchModel,
    count: int,
    *,
    calls: int,
    sampler: str = "sde2",
    seed: int = 0,
    batch_size: int = 100,
    precision: str = "fp32",
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return ``count`` samples [count, ...] in the data's own form, on the CPU.

    A sample depends on (model, sampler, calls, seed, its number) only.

    Args:
        calls: network calls a sample, the last of which gives the result; at least 2.
        sampler: see :func:`find_scheme`.
        precision: "fp32" or "bf16" network calls.
        progress: called with (network calls so far, in all), over all batches.

    Raises:
        UserError: unknown sampler, fewer than 2 calls, or a model that has diverged.
    """
    if calls < 2:
        raise UserError(f"--calls {calls}: at least 2, a step and the last call")
    scheme = find_scheme(sampler)
    flow = model.flows["x"]
    found = []
    batches = -(-count // batch_size)
    for number, start in enumerate(range(0, count, batch_size)):
        indices = range(start, min(start + batch_size, count))
        noise = [torch.Generator().manual_seed(numbered_seed(seed, index)) for index in indices]
        with autocast(precision, model.device):
            for step in sample_steps(
                model.flows,
                model.predictor(),
                {"x": (len(noise), *model.shape)},
                grid=scheme.grid(calls - 1),
                sampler=scheme.sampler,
                generator=noise,
                device=str(model.device),
            ):
                if progress is not None:
                    progress(number * calls + step.index, batches * calls)
        if not bool(flow.expectation(step.outputs["x"]).isfinite().all()):
            raise UserError(
                f"model {model.info.config.name}: what it makes is no finite numbers, as where "
                f"weights have diverged"
            )
        found.append(flow.decode(step.outputs["x"]).cpu())
    return torch.cat(found)
