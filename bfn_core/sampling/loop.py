"""The sampling loop: walk a time grid, call the network at each time, and once at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bfn_core.flows.base import Flow, Output, State
from bfn_core.flows.joint import Grid, JointFlow, Masks, Predictor
from bfn_core.sampling.midpoint import MidpointSolver
from bfn_core.sampling.samplers import ObservationSampler
from bfn_core.sampling.solvers import SolverSampler
from bfn_core.tensors import Generators, apply_mask, check_precision, expand_right

Sampler = ObservationSampler | SolverSampler | MidpointSolver
"""``init`` and ``step`` over explicit state, with ``calls_per_step`` network calls."""


@dataclass(frozen=True)
class SampleStep:
    """What the loop shows after each network call.

    Attributes:
        index: number of network calls made so far; the last step has ``index = calls``.
        calls: network calls of the whole run (steps times calls a step, and 1).
        times: variable -> time [B] of this call.
        states: the states the network saw.
        outputs: the output distributions it returned.
    """

    index: int
    calls: int
    times: Mapping[str, Tensor]
    states: Mapping[str, State]
    outputs: Mapping[str, Output]


def sample_steps(
    flows: JointFlow,
    predict: Predictor,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    grid: Grid,
    sampler: Sampler,
    whole: bool = True,
    start: Mapping[str, State] | None = None,
    mask: Masks = None,
    generator: Generators = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Iterator[SampleStep]:
    """Yield every step of a sampling run; the last one's outputs are the sample.

    Args:
        flows, predict: the flows and a network bound to them (``flows.predictor(network)``).
        shapes: data shape [B, ...] of each variable.
        grid: times from 0 to 1, the same number for every variable.
        sampler: how a state moves from one time to the next.
        whole: the grid has to run from 0 to 1.  False admits parts of it: from a time eta > 0 on,
            where the latent is then the flow's noise alone (Xue et al. 2024), and up to a time
            below 1, where the estimate is then returned ("last drop" in their code).
        start: variable -> state at the grid's first time, to begin from in place of noise: that of
            data (``flows.sample(data, t)``), to vary or to edit them, or one of an earlier run.
        mask, generator: as everywhere; one generator a sample makes results independent of the
            rest of the batch.

    Raises:
        TypeError: a grid that is no tensor; a sampler that was not made, by calling it.
        ValueError: a grid that is missing, is not one row of times, has fewer than two or another
            number than the others, leaves [0, 1], does not run from 0 to 1 if it has to, or falls
            somewhere; a dtype of half precision, in which accuracies are lost.

    Gradients are recorded as everywhere in torch: wrap the loop in ``torch.no_grad()`` where they
    are not wanted.
    """
    check_precision(dtype, "states")
    if isinstance(sampler, type) or not hasattr(sampler, "calls_per_step"):
        raise TypeError(f"sampler must be one that was made, such as sde_solver(), not {sampler!r}")
    checked = _grids(flows, grid, whole=whole)
    grids = {name: _with_middles(g, sampler.calls_per_step) for name, g in checked.items()}
    steps = len(next(iter(grids.values()))) - 1  # of the network: parts of steps count
    batch = _batch_of(shapes)

    def times(index: int) -> dict[str, Tensor]:
        return {
            name: torch.full((batch,), g[index], dtype=dtype, device=device)
            for name, g in grids.items()
        }

    states: dict[str, State] = flows.prior(shapes, dtype=dtype, device=device)
    if start is not None:
        flows.check_names(start, "starting state")
        states = dict(start)
    for name, flow in flows.flows.items():
        if start is None and grids[name][0] > 0:
            states[name] = _noise_at(
                flow, states[name], times(0)[name], flows.mask_of(name, mask), generator
            )
    history: Any = sampler.init(states, times(0))  # each sampler has a kind of its own
    for index in range(steps + 1):
        now = times(index)
        outputs = predict(history.current, now)
        flows.check_outputs(outputs, shapes)
        yield SampleStep(index + 1, steps + 1, now, history.current, outputs)
        if index < steps:
            history = sampler.step(
                flows, history, outputs, times(index + 1), mask=mask, generator=generator
            )


def _batch_of(shapes: Mapping[str, tuple[int, ...]]) -> int:
    sizes = {name: shape[0] for name, shape in shapes.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"all variables must have the same number of samples, got {sizes}")
    return next(iter(sizes.values()))


def sample(
    flows: JointFlow,
    predict: Predictor,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    grid: Grid,
    sampler: Sampler,
    whole: bool = True,
    start: Mapping[str, State] | None = None,
    mask: Masks = None,
    generator: Generators = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    on_step: Callable[[SampleStep], None] | None = None,
) -> dict[str, Tensor]:
    """Run :func:`sample_steps` to its end and return the data that the last outputs say.

    Padding is exactly zero, centred variables are centred.

    ``on_step`` is called after each network call (progress, trajectories).

    Raises:
        ValueError: as :func:`sample_steps`; the last output is not finite, as of a network that
            diverged.
    """
    last: SampleStep | None = None
    for last in sample_steps(
        flows,
        predict,
        shapes,
        grid=grid,
        sampler=sampler,
        whole=whole,
        start=start,
        mask=mask,
        generator=generator,
        device=device,
        dtype=dtype,
    ):
        if on_step is not None:
            on_step(last)
    assert last is not None
    for name, flow in flows.flows.items():
        expected = flow.expectation(last.outputs[name])
        if not bool(apply_mask(expected, flows.mask_of(name, mask)).isfinite().all()):
            raise ValueError(f"the last output for {name} is not finite")
    return {
        name: _data(flow, last.outputs[name], flows.mask_of(name, mask))
        for name, flow in flows.flows.items()
    }


def _data(flow: Flow, output: Output, mask: Tensor | None) -> Tensor:
    """Return the decoded output, exactly zero on padding and centred if the flow is."""
    return flow.project(flow.decode(output), mask=mask)


def _noise_at(
    flow: Flow, prior: State, t: Tensor, mask: Tensor | None, generator: Generators
) -> State:
    """Return a state at time t [B] that has the flow's noise and no signal."""
    noise = flow.latent_noise(flow.latent(prior), mask=mask, generator=generator)
    return flow.from_latent(expand_right(flow.latent_scales(t).noise, noise) * noise, t)


def _with_middles(grid: Tensor, parts: int) -> list[float]:
    """Return the grid's times with each step divided into equal parts."""
    shares = torch.arange(parts, dtype=grid.dtype, device=grid.device) / parts
    inner = grid[:-1, None] + shares * grid.diff()[:, None]
    return [*inner.flatten().tolist(), float(grid[-1])]


def _grids(flows: JointFlow, grid: Grid, *, whole: bool) -> dict[str, Tensor]:
    given = grid if isinstance(grid, Mapping) else dict.fromkeys(flows, grid)
    missing = [name for name in flows if name not in given]
    if missing:
        raise ValueError(f"no time grid given for {', '.join(missing)}")
    grids = {name: given[name] for name in flows}
    for name, g in grids.items():
        if not isinstance(g, Tensor):
            raise TypeError(f"the time grid of {name} must be a tensor, not {type(g).__name__}")
        if g.dim() != 1:
            raise ValueError(
                f"the time grid of {name} must be one row of times, not of shape {tuple(g.shape)}"
            )
    lengths = {len(g) for g in grids.values()}
    if len(lengths) != 1 or min(lengths) < 2:
        raise ValueError(f"time grids need one common length of at least 2, got {lengths}")
    for name, g in grids.items():
        first, last = float(g[0]), float(g[-1])
        if not whole and not 0.0 <= first < last <= 1.0:
            raise ValueError(f"the time grid of {name} must rise within [0, 1]")
        falls = not bool((g[1:] >= g[:-1]).all())  # so that NaN falls
        if falls or (whole and (first != 0.0 or last != 1.0)):
            raise ValueError(f"the time grid of {name} must run from 0 to 1 without falling")
    return grids
