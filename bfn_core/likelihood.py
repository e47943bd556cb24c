"""The variational bound on the likelihood (Graves et al. 2023, section 3).

``-ln p(x) <= L^n(x) + L^r(x)`` for n steps, and with L^infinity in place of L^n in continuous
time.  The bound is an expectation; what is returned is a Monte-Carlo estimate of it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bfn_core.flows.joint import Grid, JointFlow, Masks, Predictor
from bfn_core.times import low_discrepancy_times

_BEFORE_ONE = 1 - 2**-24  # the largest float32 below 1


class Bits:
    """A bound of so many nats on data of so many dimensions, in bits."""

    dimensions: Mapping[str, Tensor]

    @property
    def nats(self) -> Tensor:
        """The whole bound, [B]."""
        raise NotImplementedError

    @property
    def bits_per_dimension(self) -> Tensor:
        """``nats / (D ln 2)`` of each sample, [B]; 0 where there are no dimensions."""
        count = self._dimensions
        return torch.where(count > 0, self.nats / (count.clamp_min(1) * math.log(2)), 0.0)

    @property
    def mean_bits_per_dimension(self) -> Tensor:
        """``sum nats / (sum D ln 2)`` of the batch: the figure for data of different sizes."""
        return self.nats.sum() / (self._dimensions.sum() * math.log(2))

    @property
    def _dimensions(self) -> Tensor:
        return torch.stack(list(self.dimensions.values())).sum(0)


@dataclass(frozen=True)
class LikelihoodBound(Bits):
    """A bound on the negative log-likelihood, nats a sample, each tensor [B].

    Attributes:
        transmission: variable -> L^n or L^infinity.
        reconstruction: variable -> L^r.
        dimensions: variable -> number of dimensions.
    """

    transmission: Mapping[str, Tensor]
    reconstruction: Mapping[str, Tensor]
    dimensions: Mapping[str, Tensor]

    @property
    def nats(self) -> Tensor:
        """The whole bound, [B]."""
        parts = [*self.transmission.values(), *self.reconstruction.values()]
        return torch.stack(parts).sum(0)


@torch.no_grad()
def likelihood_bound(
    flows: JointFlow,
    predict: Predictor,
    data: Mapping[str, Tensor],
    *,
    n_steps: int | None = None,
    grid: Grid | None = None,
    repeats: int = 1,
    mask: Masks = None,
    generator: torch.Generator | None = None,
    samples: int = 1,
) -> LikelihoodBound:
    """Estimate the bound for each sample of a batch.

    Args:
        data: variable -> data [B, ...].  Times and states have the dtype of what a flow embeds
            its data as: float64 for float64 data.
        n_steps: n of L^n; None for continuous time.
        grid: times [n + 1] of the steps in place of n even ones, as for sampling, for all variables
            or one for each.  One that stays at 1 makes its variable a given one: the transmission
            of the others is then a bound on what they cost once it is known (to its noise at
            t = 1).
        repeats: times (or steps) drawn for each sample, and as many states at t = 1: two network
            calls each.  The bound is the mean over them.  Times are stratified over the repeats of
            a sample, so that their part of the error falls faster than 1 / sqrt(repeats) (that of
            the noise in the states does not), and over the samples of a batch, so that the mean
            over a batch has less noise than its samples tell.
        samples: Monte-Carlo draws a step where the KL has no closed form.

    Raises:
        ValueError: n_steps, repeats or samples < 1; n_steps and a grid; a grid that falls, leaves
            [0, 1] or ends before 1; a generator for each sample (times are stratified over all).
    """
    if generator is not None and not isinstance(generator, torch.Generator):
        raise ValueError("give one generator: times are stratified over the samples of a batch")
    grids = None if grid is None else _checked(flows, grid, n_steps)
    n_steps = n_steps if grids is None else len(next(iter(grids.values()))) - 1
    if repeats < 1 or samples < 1 or (n_steps is not None and n_steps < 1):
        raise ValueError(
            f"repeats, samples and n_steps must be at least 1, got {repeats}, {samples} and "
            f"{n_steps}"
        )
    first = data[next(iter(flows))]
    batch, device = first.shape[0], first.device
    transmission, reconstruction = (
        {name: torch.zeros(batch, device=device) for name in flows} for _ in range(2)
    )
    dtypes = flows.dtypes(data)
    finest = functools.reduce(torch.promote_types, dtypes.values())
    end = {name: torch.ones(batch, dtype=own, device=device) for name, own in dtypes.items()}
    shift = _shifts(batch, generator=generator, dtype=finest, device=device)
    for t in _stratified_times(shift, repeats, n_steps):
        times = _on_grid(grids, t, dtypes)
        states = flows.sample(data, times, mask=mask, generator=generator)
        outputs = predict(states, times)
        if n_steps is None:
            losses = flows.continuous_time_loss(data, outputs, times, mask=mask)
        else:
            ends = _on_grid(grids, t + 1 / n_steps, dtypes)
            steps = flows.step_loss(
                data, outputs, times, ends, mask=mask, generator=generator, samples=samples
            )
            losses = {name: n_steps * loss for name, loss in steps.items()}
        states = flows.sample(data, end, mask=mask, generator=generator)
        last = flows.reconstruction_loss(data, predict(states, end), mask=mask)
        for name in flows:
            transmission[name] = transmission[name] + losses[name] / repeats
            reconstruction[name] = reconstruction[name] + last[name] / repeats
    return LikelihoodBound(transmission, reconstruction, flows.dimensions(data, mask=mask))


def _checked(flows: JointFlow, grid: Grid, n_steps: int | None) -> dict[str, Tensor]:
    """Return a time grid for each variable, [n + 1]."""
    if n_steps is not None:
        raise ValueError("give n_steps or a grid, not both")
    grids = flows.times(grid)
    lengths = {tuple(g.shape) for g in grids.values()}
    if len(lengths) != 1 or len(shape := lengths.pop()) != 1 or shape[0] < 2:
        raise ValueError("grids must be rows of times, of one length of at least 2")
    for name, g in grids.items():
        if not (bool((g >= 0).all()) and bool((g <= 1).all()) and bool((g.diff() >= 0).all())):
            raise ValueError(f"the time grid of {name} must rise within [0, 1]")
        if not bool(g[-1] == 1):  # what is learned later would be told for nothing
            raise ValueError(f"the time grid of {name} must end at 1, got {float(g[-1])}")
    return grids


def _on_grid(
    grids: Mapping[str, Tensor] | None, t: Tensor, dtypes: Mapping[str, torch.dtype]
) -> dict[str, Tensor]:
    """Return the times [B] of each variable where even steps would have t."""
    if grids is None:
        return {name: t.clamp_max(1.0).to(own) for name, own in dtypes.items()}
    index = {name: (t * (len(g) - 1)).round().long() for name, g in grids.items()}
    return {name: g.to(t)[index[name]].to(dtypes[name]) for name, g in grids.items()}


def _shifts(
    count: int, *, generator: torch.Generator | None, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return ``count`` evenly spread times in a random order."""
    shift = low_discrepancy_times(max(count, 1), generator=generator, dtype=dtype, device=device)
    where = device if generator is None else generator.device
    order = torch.randperm(count, generator=generator, device=where)
    return shift[:count][order.to(device)]


def _stratified_times(shift: Tensor, repeats: int, n_steps: int | None) -> Iterator[Tensor]:
    """Yield ``repeats`` times [B], rounded down to steps if there are n of them.

    Of the B R equal parts of [0, 1) each has one time, and for each sample one lies in each of R.
    """
    for stratum in range(repeats):
        # Shifts within a stratum: all times of a batch differ, whatever its size and the repeats.
        t = ((shift + stratum) / repeats).clamp_max(_BEFORE_ONE)
        if n_steps is not None:
            t = (t * n_steps).floor().clamp_max(n_steps - 1) / n_steps
        yield t
