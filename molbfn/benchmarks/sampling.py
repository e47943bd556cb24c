"""Samples of a benchmark's model: named samplers, a number of network calls, a seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bfn_core import (
    MidpointSolver,
    bayesian_sampler,
    ode_solver,
    piecewise_grid,
    sample_steps,
    sde_solver,
    truncated_grid,
)
from bfn_core.sampling.loop import Sampler
from molbfn.benchmarks.model import BenchModel
from molbfn.corners import Corners, read_corners
from molbfn.devices import autocast
from molbfn.errors import UserError, nearest
from molbfn.seeds import numbered_seed

SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "original": bayesian_sampler,
    "sde1": lambda: sde_solver(order=1),
    "sde2": lambda: sde_solver(order=2),
    "ode1": lambda: ode_solver(order=1),
    "ode2": lambda: ode_solver(order=2),
    "ode2s": MidpointSolver,
}
"""Name -> sampler; "original" is Graves et al.'s, the others are Xue et al.'s.

"ode2s" is their single-step solver of second order, which makes two network calls a step; it has no
stochastic form.
"""


@dataclass(frozen=True)
class Scheme:
    """How to sample.

    Attributes:
        sampler: how a state moves from one time to the next.
        knots: (share of the steps, time) corners of the time grid; none: even steps.
        eta: time at which it starts, from noise alone (Xue et al. 2024); 0: from the prior.
    """

    sampler: Sampler
    knots: Corners = ()
    eta: float = 0.0

    def grid(self, steps: int) -> Tensor:
        """Return ``steps + 1`` times from eta to 1."""
        return truncated_grid(piecewise_grid(steps, self.knots), self.eta)

    def steps(self, calls: int) -> int:
        """Return the steps that make just so many network calls, the last one at t = 1.

        Raises:
            UserError: fewer than a step and the last call need, or no whole number of steps.
        """
        own = self.sampler.calls_per_step
        if calls < own + 1:
            needed = "a step" if own == 1 else f"the {own} of a step"
            raise UserError(f"--calls {calls}: at least {own + 1}, {needed} and the last call")
        steps, over = divmod(calls - 1, own)
        if over:
            raise UserError(
                f"--calls {calls}: this sampler makes {own} calls a step and one at the end, so "
                f"{own * steps + 1} or {own * (steps + 1) + 1}"
            )
        return steps


def find_scheme(name: str) -> Scheme:
    """Return what a name stands for: a sampler, corners of its time grid after an @, eta after a ~.

    ``sde2`` takes even steps, ``sde2@0.85:0.6`` 85 % of its steps up to t = 0.6, ``sde2~0.001``
    starts at t = 0.001, from noise alone, and so does ``sde2@0.85:0.6~0.001``: its times are those
    of the whole grid, pushed together.

    Raises:
        UserError: unknown sampler, corners that do not rise, or an eta that is no time.
    """
    rest, tilde, start = name.partition("~")
    sampler, at, corners = rest.partition("@")
    if sampler not in SAMPLERS:
        raise UserError(
            f"no sampler '{sampler}';{nearest(sampler, SAMPLERS)} known: {', '.join(SAMPLERS)}"
        )
    try:
        knots = read_corners(corners) if at else ()
    except ValueError:
        raise UserError(
            f"sampler '{name}': expected share:time after the @, both rising strictly between 0 "
            f"and 1, such as {sampler}@0.85:0.6"
        ) from None
    return Scheme(SAMPLERS[sampler](), knots, _eta(name, start) if tilde else 0.0)


def _eta(name: str, text: str) -> float:
    """Return the time that a sampler starts at.

    Raises:
        UserError: it is not one.
    """
    try:
        eta = float(text)
    except ValueError:
        eta = math.nan
    if not 0 < eta < 1:
        raise UserError(
            f"sampler '{name}': expected the time it starts at after the ~, between 0 and 1, such "
            f"as {name.partition('~')[0]}~0.001"
        )
    return eta


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
        calls: network calls a sample, the last of which gives the result; see
            :meth:`Scheme.steps`.
        sampler: see :func:`find_scheme`.
        precision: "fp32" or "bf16" network calls.
        progress: called with (network calls so far, in all), over all batches.

    Raises:
        UserError: unknown sampler, calls that make no whole number of steps, or a model that has
            diverged.
    """
    scheme = find_scheme(sampler)
    grid = scheme.grid(scheme.steps(calls))
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
                grid=grid,
                sampler=scheme.sampler,
                whole=scheme.eta == 0,
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
