"""The single-step solver of second order: the ODE by the midpoint rule, two network calls a step.

BFN-Solver2 of Xue et al. 2024 (arXiv 2404.15766) in its single-step form.  From s to t, with m the
middle time, the latent ``l = a x + b eps`` and ``e^-h = sqrt(beta_s / beta_t)``::

    l_m from l_s and the estimate at s, by the step of first order
    l_t = a_t (1 - e^-h) x_m + (b_t / b_s) l_s

The paper gives it for categorical inputs; for Gaussian ones it is the analogue.  Not to be confused
with :class:`~bfn_core.sampling.solvers.SolverSampler` of second order, which uses the estimate of
the step before and needs one call a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bfn_core.flows.base import Flow, Output, State
from bfn_core.flows.joint import JointFlow, Masks
from bfn_core.tensors import Generators, expand_right, may_be_zero, root


@dataclass(frozen=True)
class StepStart:
    """Where a step began.

    Attributes:
        latents: variable -> latent.
        times: variable -> time [B].
        noises: variable -> noise that a step from nothing takes, the same in both of its halves.
    """

    latents: Mapping[str, Tensor]
    times: Mapping[str, Tensor]
    noises: Mapping[str, Tensor]


@dataclass(frozen=True)
class MidpointHistory:
    """Where the solver is.

    Attributes:
        current: variable -> state, what the network sees next.
        times: variable -> time [B] of the states.
        start: the start of the step in whose middle it is; None between steps.
        taken: number of half steps taken so far.
    """

    current: Mapping[str, State]
    times: Mapping[str, Tensor]
    start: StepStart | None = None
    taken: int = 0


@dataclass(frozen=True)
class MidpointSolver:
    """Steps alternate: to the middle of a step of the grid, then from its start to its end.

    The loop puts the middles into the grid.
    """

    calls_per_step = 2
    order = 2
    """From a state at a time above 0; the first step from t = 0 leaves an error of order beta."""

    def init(self, states: Mapping[str, State], times: Mapping[str, Tensor]) -> MidpointHistory:
        """Start from ``states`` at ``times`` (the prior at t = 0, or a given state)."""
        return MidpointHistory(states, times)

    def step(
        self,
        flows: JointFlow,
        history: MidpointHistory,
        outputs: Mapping[str, Output],
        times_next: Mapping[str, Tensor],
        *,
        mask: Masks = None,
        generator: Generators = None,
    ) -> MidpointHistory:
        """Move to ``times_next``: the middle of a step, or its end."""
        signals = {
            name: flow.signal(flow.expectation(outputs[name]), mask=flows.mask_of(name, mask))
            for name, flow in flows.flows.items()
        }
        start = history.start or _start(flows, history, signals, mask, generator)
        states = {
            name: flow.from_latent(
                _ode_step(flow, name, start, signals[name], times_next[name]),
                times_next[name].to(signals[name].dtype),
            )
            for name, flow in flows.flows.items()
        }
        return MidpointHistory(
            current=states,
            times=times_next,
            start=start if history.start is None else None,
            taken=history.taken + 1,
        )


def _start(
    flows: JointFlow,
    history: MidpointHistory,
    signals: Mapping[str, Tensor],
    mask: Masks,
    generator: Generators,
) -> StepStart:
    noises = {}
    for name, flow in flows.flows.items():
        noises[name] = torch.zeros_like(signals[name])
        if may_be_zero(flow.latent_scales(history.times[name].to(signals[name].dtype)).noise):
            noises[name] = flow.latent_noise(
                signals[name], mask=flows.mask_of(name, mask), generator=generator
            )
    latents = {name: flow.latent(history.current[name]) for name, flow in flows.flows.items()}
    return StepStart(latents, history.times, noises)


def _ode_step(flow: Flow, name: str, start: StepStart, signal: Tensor, end: Tensor) -> Tensor:
    dtype = signal.dtype
    begin, end = start.times[name].to(dtype), end.to(dtype)
    old, new = flow.latent_scales(begin), flow.latent_scales(end)
    beta_old, beta_new = flow.schedule.beta(begin), flow.schedule.beta(end)
    # A variable that waits at t = 0 has beta = 0 at both ends, and stays at 0 all the same.
    shrink = root(beta_old / torch.where(beta_new > 0, beta_new, 1.0))
    known = old.noise > 0
    carried = torch.where(known, new.noise / torch.where(known, old.noise, 1.0), 0.0)
    fresh = torch.where(known, 0.0, new.noise)
    return (
        expand_right(new.signal * (1 - shrink), signal) * signal
        + expand_right(carried, signal) * start.latents[name]
        + expand_right(fresh, signal) * start.noises[name]
    )
