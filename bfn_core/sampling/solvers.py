"""BFN-Solvers: integrators of the SDEs and ODEs that a BFN's sampler is a discretisation of.

Xue et al. 2024, "Unifying Bayesian Flow Networks and Diffusion Models through Stochastic
Differential Equations" (arXiv 2404.15766), for continuous and for categorical inputs, here as one
rule.  With the latent ``l_t = a_t s + b_t eps`` (:class:`~bfn_core.flows.base.LatentScales`), the
step from s to t, ``e^-h = sqrt(beta_s / beta_t)`` and the estimate's signal x::

    l_t = a_t (1 - e^-(1 + c) h) x + (b_t / b_s) e^-(c h) l_s + b_t sqrt(1 - e^-(2 c h)) u

``c`` is the churn.  c = 0 keeps the noise that is there: the probability-flow ODE (BFN-Solver1 and
++1, first order).  c = 1 is the reverse SDE and, step for step, the Bayesian update with the
expectation as the estimate (SDE-BFN-Solver1).  c = infinity forgets the state: re-noising
(:func:`~bfn_core.sampling.samplers.renoise_sampler`).  Second order replaces x by an extrapolation
from the last two estimates, linear in ``ln sqrt(beta)``: ``x + (x - x_before) h / (2 h_before)``
(BFN-Solver++2 and SDE-BFN-Solver++2), with one network call a step as well.  For categorical
inputs the paper extrapolates linearly in t, that is in ``q = sqrt(beta)``, and integrates that
exactly (BFN-Solver2 and SDE-BFN-Solver2): the estimate is taken at the mean of q in the step under
the weight ``d q^(1 + c)``.  ``slope = "paper"`` does so, "log" treats all variables alike; both are
of second order.  The correction can
be scaled: by 0 it is the first order, by 1 the second, by anything else formally the first again,
which for strong churn (biased anyway, see re-noising) trades spread against certainty.

The first step starts at t = 0, where nothing is known and h is infinite: it is re-noising,
whatever the churn.  So is what the solvers start from at a small time eta in the paper.  It puts
the expectation, all but a constant, in place of the data, whose spread S is then missing at the
step's end: samples begin too near the middle, by much if the step is long.  ``spread`` adds it, as
``a_t S u``; Gaussian data have their law after the first step then, however long it is.  The ODE
(c = 0) takes its further steps about Gaussian data of that spread too
(:mod:`~bfn_core.sampling.gaussian_ode`), and is exact for them throughout.

``renoise_from`` divides the work in two.  Before that time the solver keeps the law of the data,
while what is decided is coarse; from it on the state is forgotten at every step, which heals the
errors that few steps and an imperfect network leave.  Re-noising all the way draws samples to
what is common, for it halves the spread of Gaussian data; here only what is decided late is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from bfn_core.flows.base import Flow, Output, State
from bfn_core.flows.discrete import DiscreteFlow
from bfn_core.flows.joint import JointFlow, Masks
from bfn_core.sampling.gaussian_ode import (
    GaussianFrame,
    advance,
    centre_of,
    left_over,
    middle_share,
)
from bfn_core.tensors import Generators, expand_right, logarithm, may_be_zero, root


@dataclass(frozen=True)
class SolverHistory:
    """Where a solver is.

    Attributes:
        current: variable -> state, what the network sees next.
        times: variable -> time [B] of the states.
        signals: variable -> signal of the estimate of the step before, if it is needed; of an ODE
            about Gaussian data what these do not explain of it.
        times_before: variable -> time [B] at which ``signals`` were estimated.
        centres: variable -> signal of the estimate at t = 0, the centre of these Gaussian data; of
            samples that begin later, what their first estimate says of it.
        taken: number of steps taken so far.
    """

    current: Mapping[str, State]
    times: Mapping[str, Tensor]
    signals: Mapping[str, Tensor] | None = None
    times_before: Mapping[str, Tensor] | None = None
    centres: Mapping[str, Tensor] = field(default_factory=dict)
    taken: int = 0


@dataclass(frozen=True)
class _Step:
    """A step of one variable.

    Attributes:
        flow, name: of the variable.
        latent, signal: the latent at the start and the estimate's signal.
        start, end: times [B].
        blank: whether nothing is known at the start, [B]: at t = 0, or wherever beta is still 0.
        noise: standard normal, for the latent.
    """

    flow: Flow
    name: str
    latent: Tensor
    signal: Tensor
    start: Tensor
    end: Tensor
    blank: Tensor
    noise: Tensor


@dataclass(frozen=True)
class _Moved:
    """What a step makes: the new latent, what it keeps of the estimate, and the centre."""

    latent: Tensor
    kept: Tensor
    centre: Tensor | None = None


@dataclass(frozen=True)
class SolverSampler:
    """One member of the family: see the module.

    Attributes:
        churn: c, from 0 (ODE) over 1 (SDE) to infinity (re-noising).
        extrapolation: factor on the second-order correction.
        draw: estimate categorical variables by a draw from the output distribution.
        temperature: multiplies the variance of the fresh noise u, of the ODE that of the noise it
            starts from; 1 is the exact law.  With ``renoise_from``, of the noise from that time on.
        renoise_from: re-noise in steps that start at this time or later, without extrapolation;
            None for never.
        slope: the variable in which estimates are extrapolated: "log" is ``ln sqrt(beta)``;
            "paper" the same for Gaussian and ``sqrt(beta)`` for categorical inputs.
        spread: variable -> standard deviation of its data's signal around the estimate at t = 0,
            which a step from there adds, and about which the ODE is solved; 0, as published, for
            variables that are not named.  Of K classes, all as common, it is ``sqrt(K)``: K - 1 is
            the variance of an element of the signal ``K e - 1``, K that of any direction within
            the subspace of sum 0, which is all that a softmax sees.
    """

    churn: float = 0.0
    extrapolation: float = 1.0
    draw: bool = False
    temperature: float = 1.0
    renoise_from: float | None = None
    slope: Literal["log", "paper"] = "log"
    spread: Mapping[str, float] = field(default_factory=dict, hash=False)

    calls_per_step = 1

    @property
    def order(self) -> int:
        """Order of convergence of the ODE's solution, and weakly of the SDE's.

        From a state at a time above 0, or with the ``spread`` of Gaussian data: without it the
        first step from t = 0 leaves an error of the order of beta where it ends.  And up to
        ``renoise_from``: re-noising converges to no law.
        """
        return 2 if self.extrapolation == 1.0 else 1

    def __post_init__(self) -> None:
        if not self.churn >= 0:
            raise ValueError(f"churn must not be negative, got {self.churn}")
        if not self.extrapolation >= 0:
            raise ValueError(f"extrapolation must not be negative, got {self.extrapolation}")
        if not self.temperature >= 0:
            raise ValueError(f"temperature must not be negative, got {self.temperature}")
        if self.renoise_from is not None and not 0 <= self.renoise_from <= 1:
            raise ValueError(f"renoise_from must be a time from 0 to 1, got {self.renoise_from}")
        if self.slope not in ("log", "paper"):
            raise ValueError(f"slope must be 'log' or 'paper', got {self.slope!r}")
        for name, spread in self.spread.items():
            if not 0 <= spread < math.inf:
                raise ValueError(f"spread of {name} must be a number of at least 0, got {spread}")

    def init(self, states: Mapping[str, State], times: Mapping[str, Tensor]) -> SolverHistory:
        """Start from ``states`` at ``times`` (the prior at t = 0, or a given state)."""
        return SolverHistory(states, times)

    def step(
        self,
        flows: JointFlow,
        history: SolverHistory,
        outputs: Mapping[str, Output],
        times_next: Mapping[str, Tensor],
        *,
        mask: Masks = None,
        generator: Generators = None,
    ) -> SolverHistory:
        """Move to ``times_next`` given the network's outputs at the current state.

        Raises:
            ValueError: ``spread`` names a variable that is not there.
        """
        if unknown := sorted(set(self.spread) - set(flows.flows)):
            raise ValueError(
                f"spread names {', '.join(unknown)}; the variables are {', '.join(flows.flows)}"
            )
        signals: dict[str, Tensor] = {}
        centres: dict[str, Tensor] = {}
        states: dict[str, State] = {}
        for name, flow in flows.flows.items():
            own_mask = flows.mask_of(name, mask)
            estimate = flow.estimate(
                outputs[name], draw=self.draw, mask=own_mask, generator=generator
            )
            signal = flow.signal(estimate, mask=own_mask)
            old = flow.latent_scales(history.times[name].to(signal.dtype))
            # where nothing is known there is no noise to keep: in the first step, or a late start
            fresh = self.churn > 0 or self.renoise_from is not None
            fresh = fresh or history.taken == 0 or may_be_zero(old.noise)
            noise = (
                flow.latent_noise(signal, mask=own_mask, generator=generator)
                if fresh
                else torch.zeros_like(signal)
            )
            step = _Step(
                flow=flow,
                name=name,
                latent=flow.latent(history.current[name]),
                signal=signal,
                start=history.times[name],
                end=times_next[name],
                blank=old.noise == 0,
                noise=noise,
            )
            about = self.churn == 0 and self.spread.get(name, 0.0) > 0
            moved = (self._about_gaussian if about else self._about_nothing)(history, step)
            states[name] = flow.from_latent(moved.latent, times_next[name].to(moved.latent.dtype))
            signals[name] = moved.kept
            if moved.centre is not None:
                centres[name] = moved.centre
        keep = self.extrapolation > 0
        return SolverHistory(
            current=states,
            times=times_next,
            signals=signals if keep else None,
            times_before=history.times if keep else None,
            centres=centres,
            taken=history.taken + 1,
        )

    def _about_nothing(self, history: SolverHistory, step: _Step) -> _Moved:
        """Take a step that holds the estimate constant, or extrapolates it."""
        signal = self._extrapolated(history, step)
        spread = self.spread.get(step.name, 0.0)
        return _Moved(self._advance(step, signal, spread=spread), step.signal)

    def _about_gaussian(self, history: SolverHistory, step: _Step) -> _Moved:
        """Take a step of the ODE about Gaussian data, or one that re-noises."""
        spread, signal, latent = self.spread[step.name], step.signal, step.latent
        now, ahead = (
            GaussianFrame.at(step.flow, t, spread, latent) for t in (step.start, step.end)
        )
        known = history.centres.get(step.name)
        if known is None:
            known = centre_of(now, latent, signal, spread=spread)
        centre = torch.where(expand_right(step.blank, signal), signal, known)
        residual = left_over(now, latent, signal, centre=centre, spread=spread)
        drive = residual
        if history.signals is not None and history.times_before is not None:
            time = history.times_before[step.name]
            before = GaussianFrame.at(step.flow, time, spread, latent)
            share = self.extrapolation * middle_share(before, now, ahead)
            drive = residual + share * (residual - history.signals[step.name])
        noise = step.noise if self.renoise_from is not None else self.temperature**0.5 * step.noise
        moved = advance(now, ahead, latent, drive, centre=centre, spread=spread, noise=noise)
        renoised = self._advance(step, signal, spread=0.0)
        renoises = expand_right(self._renoises(step.start), signal)
        return _Moved(torch.where(renoises, renoised, moved), residual, centre)

    def _extrapolated(self, history: SolverHistory, step: _Step) -> Tensor:
        """Return the estimate's signal at the middle of the step, in ``ln sqrt(beta)``."""
        signal = step.signal
        if history.signals is None or history.times_before is None:
            return signal
        before = history.times_before[step.name]
        if self.slope == "paper" and isinstance(step.flow, DiscreteFlow):
            share = self._root_share(step.flow, before, step.start, step.end)
        else:
            share = _log_share(step.flow, before, step.start, step.end)
        share = torch.where(self._renoises(step.start), 0.0, self.extrapolation * share)
        weight = expand_right(share.to(signal.dtype), signal)
        return signal + weight * (signal - history.signals[step.name])

    def _root_share(self, flow: Flow, before: Tensor, now: Tensor, end: Tensor) -> Tensor:
        """Return ``(mean of q - q_now) / (q_now - q_before)`` for ``q = sqrt(beta)``, [B]."""
        q_before, q_now, q_end = (root(flow.schedule.beta(t)) for t in (before, now, end))
        known = (q_before < q_now) & (q_now < q_end)
        step = torch.where(known, _log_step(flow, now, end), 1.0)
        power = 1 + self.churn
        ratio = power / (power + 1) if math.isfinite(power) else 1.0
        mean = ratio * torch.expm1(-(power + 1) * step) / torch.expm1(-power * step)
        share = (mean - torch.exp(-step)) * q_end / torch.where(known, q_now - q_before, 1.0)
        return torch.where(known, share, 0.0)

    def _advance(self, step: _Step, signal: Tensor, *, spread: float) -> Tensor:
        """Return the latent at the step's end for an estimate that is constant in it."""
        flow, latent, start = step.flow, step.latent, step.start
        dtype = latent.dtype
        old, new = (flow.latent_scales(t.to(dtype)) for t in (start, step.end))
        h = _log_step(flow, start, step.end).to(dtype)
        known = h.isfinite() & ~step.blank
        h = torch.where(known, h, 0.0)
        # What is left of the old noise, and of the old latent's part that is not signal.
        kept = torch.exp(-self.churn * h) if math.isfinite(self.churn) else (h == 0).to(dtype)
        renoises = self._renoises(start)
        kept = torch.where(known & ~(renoises & (h > 0)), kept, 0.0)
        heat = torch.full_like(h, self.temperature)
        if self.renoise_from is not None:
            heat = torch.where(renoises, heat, 1.0)
        shrink = torch.where(known, torch.exp(-h), 0.0)
        carried = kept * new.noise / torch.where(step.blank, 1.0, old.noise)
        fresh = root((1 - kept * kept) * heat) * new.noise
        if spread > 0:
            wide = root(fresh.square() + (spread * new.signal).square())
            fresh = torch.where(step.blank, wide, fresh)
        return (
            expand_right(new.signal * (1 - kept * shrink), signal) * signal
            + expand_right(carried, latent) * latent
            + expand_right(fresh, latent) * step.noise
        )

    def _renoises(self, start: Tensor) -> Tensor:
        """Return, for each sample, whether a step from this time [B] forgets the state."""
        if self.renoise_from is None:
            return torch.zeros_like(start, dtype=torch.bool)
        # a grid's corner at that time may have been rounded
        return start > self.renoise_from - 1e-6


def _log_step(flow: Flow, start: Tensor, end: Tensor) -> Tensor:
    """Return ``h = ln sqrt(beta_end / beta_start)``, [B]; infinite from beta = 0."""
    return 0.5 * (logarithm(flow.schedule.beta(end)) - logarithm(flow.schedule.beta(start)))


def _log_share(flow: Flow, before: Tensor, now: Tensor, end: Tensor) -> Tensor:
    """Return ``h / (2 h_before)``, [B]; 0 after a step from t = 0, which was infinitely long."""
    ahead, behind = _log_step(flow, now, end), _log_step(flow, before, now)
    known = behind.isfinite() & ahead.isfinite() & (behind > 0)
    return torch.where(known, 0.5 * ahead / torch.where(known, behind, 1.0), 0.0)


def ode_solver(*, order: int = 2, slope: Literal["log", "paper"] = "paper") -> SolverSampler:
    """BFN-Solver (discrete) and BFN-Solver++ (continuous) of Xue et al. 2024, section 4 and 5.

    ``slope = "log"`` extrapolates classes as it does real numbers, which is coarser in few steps.

    Raises:
        ValueError: order other than 1 or 2.
    """
    return SolverSampler(churn=0.0, extrapolation=_extrapolation(order), slope=slope)


def sde_solver(
    *, order: int = 2, temperature: float = 1.0, slope: Literal["log", "paper"] = "paper"
) -> SolverSampler:
    """SDE-BFN-Solver (discrete) and SDE-BFN-Solver++ (continuous) of Xue et al. 2024.

    ``slope`` as of :func:`ode_solver`.

    Of first order it is :func:`~bfn_core.sampling.samplers.bayesian_sampler` without the draw.

    Raises:
        ValueError: order other than 1 or 2, or temperature < 0.
    """
    return SolverSampler(
        churn=1.0, extrapolation=_extrapolation(order), temperature=temperature, slope=slope
    )


def _extrapolation(order: int) -> float:
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order}")
    return float(order - 1)
