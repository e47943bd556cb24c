"""Densities by the probability-flow ODE, beside the variational bound.

The ODE of Xue et al. 2024 (arXiv 2404.15766) has the same law at every time as the network's
reverse process.  With the latent scaled to ``z = s + sigma eps`` (``sigma`` the noise-to-signal
ratio of :class:`~bfn_core.flows.base.LatentScales`, ``sigma^2 = 1 / beta`` for Gaussian inputs and
``K / beta`` for categories, s the signal of the data) it reads, for each variable::

    dz / dt = -c(t) (z - s_hat(z, t)),    c = beta' / (2 beta)

and the density follows by the instantaneous change of variables (Chen et al. 2018, "Neural ODEs",
theorem 1; Song et al. 2021, "Score-based generative modeling", eq. 39)::

    ln p_1(z_1) = ln p_eta(z_eta) + int_eta^1 c (D - tr d s_hat / d z) dt

This is the density of the *noised* data at t = 1.  A number on the data themselves needs what was
added: with ``q(z | x) = N(s(x), sigma_1^2)``,

    -ln p(x) <= E_q [ln q(z | x) - ln p_1(z)] + L^r(x)

(:func:`flow_bound`).  For an exact network the first part equals L^infinity; for a trained one the
two differ, since the ODE's law and the network's reverse process then do, and neither has to be the
smaller.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bfn_core.flows.base import Flow, Output, State
from bfn_core.flows.joint import JointFlow, Masks, Predictor
from bfn_core.likelihood import Bits
from bfn_core.tensors import apply_mask, expand_right, standard_uniform, sum_per_sample

_MESH = 4096
"""points of the mesh on which the time grid is found"""


@dataclass(frozen=True)
class FlowDensity:
    """What the ODE says of latents at t = 1.

    Attributes:
        log_density: ln p_1(z), nats, of all variables together, [B].
        start: variable -> z at t = eta.
        calls: network calls made.
    """

    log_density: Tensor
    start: Mapping[str, Tensor]
    calls: int


@dataclass(frozen=True)
class FlowBound(Bits):
    """A bound on ``-ln p(x)`` in which the ODE stands for L^infinity, nats a sample.

    Attributes:
        transmission: one draw of ``ln q(z | x) - ln p_1(z)``, [B]; its mean bounds.
        reconstruction: variable -> L^r, [B].
        dimensions: variable -> number of dimensions, [B].
        calls: network calls made.
    """

    transmission: Tensor
    reconstruction: Mapping[str, Tensor]
    dimensions: Mapping[str, Tensor]
    calls: int

    @property
    def nats(self) -> Tensor:
        """The whole bound, [B]."""
        return self.transmission + torch.stack(list(self.reconstruction.values())).sum(0)


def flow_density(
    flows: JointFlow,
    predict: Predictor,
    latents: Mapping[str, Tensor],
    *,
    steps: int = 50,
    eta: float = 1e-4,
    spread: float | Mapping[str, float] = 0.0,
    probes: int | None = None,
    mask: Masks = None,
    generator: torch.Generator | None = None,
) -> FlowDensity:
    """Return the log-density of scaled latents at t = 1, integrated back to t = eta.

    Fourth-order Runge-Kutta after the part of the ODE that is linear in z, which is solved exactly;
    four network calls and as many backward passes (times ``probes``, or times the number of
    coordinates) a step; steps are evenly spread over ``ln beta``.

    Args:
        flows, predict: the flows and a network bound to them.  It must not detach its outputs from
            the states: their derivative is what is integrated.
        latents: variable -> z = latent / signal scale at t = 1, as :func:`flow_bound` draws it:
            [B, ...], for categorical data [B, ..., K]; zero on padding, centred if the flow is.
        steps: of the integrator.
        eta: where it stops; there z is taken for ``N(0, sigma_eta^2 + spread^2)``.
        spread: standard deviation of the data's signal, of all variables or variable -> its own (0
            for those not named), which matters little for small eta.
        probes: random vectors of Hutchinson's unbiased trace estimate of ``d s_hat / d z``; None:
            the exact trace, one backward pass a coordinate.  Their entries are +-1, so that what
            lies on the diagonal adds no variance; the D of z itself is exact in any case.

    Raises:
        ValueError: no latents of a variable, steps or probes < 1, eta outside (0, 1) or so small
            that beta is 0 there, a spread that is negative or of no variable.
        RuntimeError: called in inference mode, in which nothing can be differentiated.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("the density differentiates the network: use torch.no_grad() instead")
    if steps < 1 or (probes is not None and probes < 1):
        raise ValueError(f"steps and probes must be at least 1, got {steps} and {probes}")
    flows.check_names(latents, "latent")
    spreads = _spreads(flows, spread)
    grid = _time_grid(flows, steps, eta).tolist()
    vectors = _probes(flows, latents, probes, mask, generator)
    field = _Field(flows, predict, mask, vectors, weight=1 / (probes or 1))
    z = {name: latent.detach() for name, latent in latents.items()}
    gained = torch.zeros_like(sum_per_sample(next(iter(z.values())), None))
    for start, end in itertools.pairwise(grid):
        z, change = _runge_kutta(flows, field, z, start, end)
        gained = gained - change
    log_start = torch.zeros_like(gained)
    for name, flow in flows.flows.items():
        free = _free_dimensions(flow, z[name], flows.mask_of(name, mask))
        gained = gained + free * math.log(_level(flow, eta) / _level(flow, 1.0))
        sigma = _sigma(flow, torch.tensor(eta, dtype=torch.float64))
        variance = float(sigma**2) + spreads[name] ** 2
        squares = sum_per_sample(z[name] ** 2, None)
        log_start = log_start - 0.5 * (free * math.log(2 * math.pi * variance) + squares / variance)
    # Walking from 1 to eta, what was gained on the way has the other sign.
    return FlowDensity(log_start - gained, z, field.calls)


def flow_bound(
    flows: JointFlow,
    predict: Predictor,
    data: Mapping[str, Tensor],
    *,
    steps: int = 50,
    eta: float = 1e-4,
    spread: float | Mapping[str, float] = 0.0,
    probes: int | None = None,
    mask: Masks = None,
    generator: torch.Generator | None = None,
) -> FlowBound:
    """Estimate the bound on each sample's ``-ln p`` with one draw of its noise.

    Args:
        flows, predict: see :func:`flow_density`.
        data: variable -> data [B, ...].  Times and states have the dtype of what a flow embeds
            its data as: float64 for float64 data.
        steps, eta, spread, probes, mask: see :func:`flow_density`.
        generator: of the noise and the probes.

    Raises:
        ValueError: see :func:`flow_density`.
    """
    flows.check_names(data, "data")
    latents: dict[str, Tensor] = {}
    log_noise = torch.zeros(())
    for name, flow in flows.flows.items():
        own = flows.mask_of(name, mask)
        signal = flow.signal(flow.embed(data[name]), mask=own)
        noise = flow.latent_noise(signal, mask=own, generator=generator)
        sigma = float(_sigma(flow, torch.ones((), dtype=torch.float64)))
        latents[name] = signal + sigma * noise
        free = _free_dimensions(flow, signal, own)
        squares = sum_per_sample(noise**2, None)
        log_noise = log_noise - 0.5 * (free * math.log(2 * math.pi * sigma**2) + squares)
    density = flow_density(
        flows,
        predict,
        latents,
        steps=steps,
        eta=eta,
        spread=spread,
        probes=probes,
        mask=mask,
        generator=generator,
    )
    times = _times(latents, 1.0)
    with torch.no_grad():
        outputs = predict(_states(flows, latents, times), times)
        reconstruction = flows.reconstruction_loss(data, outputs, mask=mask)
    return FlowBound(
        transmission=log_noise - density.log_density,
        reconstruction=reconstruction,
        dimensions=flows.dimensions(data, mask=mask),
        calls=density.calls + 1,
    )


@dataclass(frozen=True)
class _Slope:
    """``t c s_hat`` of each variable, and the trace of its derivative by z, summed, [B]."""

    drive: Mapping[str, Tensor]
    trace: Tensor


class _Field:
    """The ODE's right-hand side in ``ln t``; counts its network calls."""

    def __init__(
        self,
        flows: JointFlow,
        predict: Predictor,
        mask: Masks,
        probes: list[dict[str, Tensor]],
        *,
        weight: float,
    ) -> None:
        self._flows, self._predict, self._mask = flows, predict, mask
        self._probes, self._weight = probes, weight
        self.calls = 0

    def __call__(self, z: Mapping[str, Tensor], t: float) -> _Slope:
        self.calls += 1
        with torch.enable_grad():
            points = {name: value.detach().requires_grad_() for name, value in z.items()}
            times = _times(points, t)
            outputs = self._predict(_states(self._flows, points, times), times)
            self._flows.check_names(outputs, "output")
            signals = {name: self._signal(name, outputs[name], z) for name in outputs}
            rates = {name: _rate(flow, t) for name, flow in self._flows.flows.items()}
            trace = self._trace(points, signals, rates)
        drives = {name: rates[name] * signal.detach() for name, signal in signals.items()}
        return _Slope(drives, trace)

    def _signal(self, name: str, output: Output, z: Mapping[str, Tensor]) -> Tensor:
        flow, mask = self._flows[name], self._flows.mask_of(name, self._mask)
        signal = flow.signal(flow.expectation(output), mask=mask)
        if signal.shape != z[name].shape:
            raise ValueError(
                f"the predictor returned an output for {name} of shape {tuple(output.shape)}, "
                f"which does not fit latents of shape {tuple(z[name].shape)}"
            )
        return signal

    def _trace(
        self,
        points: Mapping[str, Tensor],
        signals: Mapping[str, Tensor],
        rates: Mapping[str, float],
    ) -> Tensor:
        """Return ``sum_v t c_v tr d s_hat / dz`` by one backward pass a probe, [B]."""
        total = torch.zeros_like(sum_per_sample(next(iter(points.values())), None))
        for index, probe in enumerate(self._probes):
            weighted = torch.stack(
                [rates[name] * (vector * signals[name]).sum() for name, vector in probe.items()]
            ).sum()
            if not weighted.requires_grad:  # outputs that depend on no state
                continue
            names = list(probe)
            found = torch.autograd.grad(
                weighted,
                [points[name] for name in names],
                retain_graph=index + 1 < len(self._probes),
                materialize_grads=True,
            )
            for name, gradient in zip(names, found, strict=True):
                total = total + sum_per_sample(gradient * probe[name], None)
        return self._weight * total


def _probes(
    flows: JointFlow,
    latents: Mapping[str, Tensor],
    count: int | None,
    mask: Masks,
    generator: torch.Generator | None,
) -> list[dict[str, Tensor]]:
    """Return vectors whose quadratic forms average (or, one variable each, add up) to the trace."""
    if count is not None:
        return [
            {
                name: flow.project(_signs(latents[name], generator), mask=flows.mask_of(name, mask))
                for name, flow in flows.flows.items()
            }
            for _ in range(count)
        ]
    found = []
    for name, flow in flows.flows.items():
        like = latents[name]
        places = math.prod(like.shape[1:])
        for place in range(places):
            unit = like.new_zeros(len(like), places)
            unit[:, place] = 1.0
            projected = flow.project(unit.view_as(like), mask=flows.mask_of(name, mask))
            if bool(projected.any()):
                found.append({name: projected})
    return found


def _signs(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return +1 and -1, equally likely, in the shape, dtype and device of ``like``."""
    drawn = standard_uniform(
        tuple(like.shape), generator=generator, dtype=like.dtype, device=like.device
    )
    return torch.where(drawn < 0.5, -1.0, 1.0).to(like.dtype)


def _runge_kutta(
    flows: JointFlow,
    field: Callable[[Mapping[str, Tensor], float], _Slope],
    z: Mapping[str, Tensor],
    start: float,
    end: float,
) -> tuple[dict[str, Tensor], Tensor]:
    """Return z at ``end`` and the integral of ``c tr d s_hat / dz`` from start to end.

    In ``ln t``, in which the field is smooth down to t = 0: ``t c(t)`` tends to a constant.  Of
    ``y = sqrt(beta) z``, whose slope is ``sqrt(beta) t c s_hat``: as much of z as is noise grows
    without bound towards t = 0, in y it stands still.
    """
    step, middle = math.log(end / start), math.sqrt(start * end)
    levels = {
        t: {name: _level(flow, t) for name, flow in flows.flows.items()}
        for t in (start, middle, end)
    }

    def at(t: float, moves: Iterable[tuple[float, float, _Slope]]) -> dict[str, Tensor]:
        """Return z at a time, after moves of (share of the step, time of the slope, slope)."""
        return {
            name: levels[start][name] / levels[t][name] * value
            + step
            * sum(
                share * levels[own][name] / levels[t][name] * slope.drive[name]
                for share, own, slope in moves
            )
            for name, value in z.items()
        }

    first = field(z, start)
    second = field(at(middle, [(0.5, start, first)]), middle)
    third = field(at(middle, [(0.5, middle, second)]), middle)
    fourth = field(at(end, [(1.0, middle, third)]), end)
    stages = [
        (1 / 6, start, first),
        (1 / 3, middle, second),
        (1 / 3, middle, third),
        (1 / 6, end, fourth),
    ]
    trace = torch.stack([weight * slope.trace for weight, _, slope in stages]).sum(0)
    return at(end, stages), step * trace


def _level(flow: Flow, t: float) -> float:
    """Return ``sqrt(beta)``."""
    with torch.no_grad():
        return math.sqrt(float(flow.schedule.beta(torch.tensor(t, dtype=torch.float64))))


def _times(z: Mapping[str, Tensor], t: float) -> dict[str, Tensor]:
    """Return time t for each sample, in the dtype of each variable's latents."""
    return {name: value.new_full(value.shape[:1], t) for name, value in z.items()}


def _states(
    flows: JointFlow, z: Mapping[str, Tensor], times: Mapping[str, Tensor]
) -> dict[str, State]:
    """Return the states with these scaled latents."""
    states: dict[str, State] = {}
    for name, flow in flows.flows.items():
        scale = expand_right(flow.latent_scales(times[name]).signal, z[name])
        states[name] = flow.from_latent(scale * z[name], times[name])
    return states


@torch.no_grad()
def _sigma(flow: Flow, t: Tensor) -> Tensor:
    scales = flow.latent_scales(t)
    return scales.noise / scales.signal


@torch.no_grad()
def _rate(flow: Flow, t: float) -> float:
    """Return t c(t) = t beta' / (2 beta)."""
    now = torch.tensor(t, dtype=torch.float64)
    return float(now * flow.schedule.rate(now) / (2 * flow.schedule.beta(now)))


def _free_dimensions(flow: Flow, like: Tensor, mask: Tensor | None) -> Tensor:
    """Return the dimension of the space that latents live in, [B]."""
    places = apply_mask(torch.ones_like(like), mask)
    count = sum_per_sample(places, None)
    if flow.centred:
        return count - like.shape[-1] * (count > 0)
    return count


def _spreads(flows: JointFlow, spread: float | Mapping[str, float]) -> dict[str, float]:
    """Return the spread of each variable.

    Raises:
        ValueError: one that is negative, or of no variable.
    """
    given = spread if isinstance(spread, Mapping) else dict.fromkeys(flows, spread)
    if unknown := sorted(set(given) - set(flows)):
        raise ValueError(f"spread names {', '.join(unknown)}; the variables are {', '.join(flows)}")
    for name, own in given.items():
        if not 0 <= own < math.inf:
            raise ValueError(f"spread of {name} must be a number of at least 0, got {own}")
    return {name: given.get(name, 0.0) for name in flows}


@torch.no_grad()
def _time_grid(flows: JointFlow, steps: int, eta: float) -> Tensor:
    """Return ``steps + 1`` times from 1 down to eta, even in the variables' mean ``ln beta``.

    Raises:
        ValueError: eta outside (0, 1), or where a beta is 0.
    """
    if not 0 < eta < 1:
        raise ValueError(f"eta must lie in (0, 1), got {eta}")
    for name, flow in flows.flows.items():
        if not _level(flow, eta) > 0:
            raise ValueError(
                f"beta of {name} is 0 at eta = {eta}, where nothing is known of it: "
                "take a larger eta"
            )
    mesh = torch.logspace(math.log10(eta), 0, _MESH, dtype=torch.float64)
    level = torch.stack([flow.schedule.beta(mesh).log() for flow in flows.flows.values()]).mean(0)
    wanted = torch.linspace(float(level[-1]), float(level[0]), steps + 1, dtype=torch.float64)
    right = torch.searchsorted(level, wanted).clamp(1, _MESH - 1)
    share = (wanted - level[right - 1]) / (level[right] - level[right - 1])
    grid = mesh[right - 1] + share * (mesh[right] - mesh[right - 1])
    grid[0], grid[-1] = 1.0, eta
    return grid
