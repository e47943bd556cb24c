"""The sampling loop: walk a time grid, call the network once a step, and once at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bfn_core.flows.base import Output, State
from bfn_core.flows.joint import JointFlow, Masks, Predictor
from bfn_core.sampling.samplers import ObservationSampler
from bfn_core.sampling.solvers import SolverSampler
from bfn_core.tensors import Generators

Sampler = ObservationSampler | SolverSampler
"""``init`` and ``step`` over explicit state, with ``calls_per_step`` network calls."""

Grid = Tensor | Mapping[str, Tensor]
"""Times [steps + 1] from 0 to 1 for all variables, or one such tensor for each variable."""


@dataclass(frozen=True)
class SampleStep:
    """What the loop shows after each network call.

    Attributes:
        index: number of network calls made so far; the last step has ``index = calls``.
        calls: network calls of the whole run (steps + 1).
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
        mask, generator: as everywhere; one generator a sample makes results independent of the
            rest of the batch.

    Raises:
        ValueError: a grid that is missing, has fewer than two times or another length than the
            others, does not run from 0 to 1, or falls somewhere.

    Gradients are recorded as everywhere in torch: wrap the loop in ``torch.no_grad()`` where they
    are not wanted.
    """
    grids = {name: g.tolist() for name, g in _grids(flows, grid).items()}
    steps = len(next(iter(grids.values()))) - 1
    batch = next(iter(shapes.values()))[0]

    def times(index: int) -> dict[str, Tensor]:
        return {
            name: torch.full((batch,), g[index], dtype=dtype, device=device)
            for name, g in grids.items()
        }

    history = sampler.init(flows.prior(shapes, dtype=dtype, device=device), times(0))
    for index in range(steps + 1):
        now = times(index)
        outputs = predict(history.current, now)
        yield SampleStep(index + 1, steps + 1, now, history.current, outputs)
        if index < steps:
            history = sampler.step(
                flows, history, outputs, times(index + 1), mask=mask, generator=generator
            )


def sample(
    flows: JointFlow,
    predict: Predictor,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    grid: Grid,
    sampler: Sampler,
    mask: Masks = None,
    generator: Generators = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    on_step: Callable[[SampleStep], None] | None = None,
) -> dict[str, Tensor]:
    """Run :func:`sample_steps` to its end and return the mode of the last outputs.

    ``on_step`` is called after each network call (progress, trajectories).
    """
    last: SampleStep | None = None
    for last in sample_steps(
        flows,
        predict,
        shapes,
        grid=grid,
        sampler=sampler,
        mask=mask,
        generator=generator,
        device=device,
        dtype=dtype,
    ):
        if on_step is not None:
            on_step(last)
    assert last is not None
    return {name: flow.mode(last.outputs[name]) for name, flow in flows.flows.items()}


def _grids(flows: JointFlow, grid: Grid) -> dict[str, Tensor]:
    missing = [] if isinstance(grid, Tensor) else [name for name in flows if name not in grid]
    if missing:
        raise ValueError(f"no time grid given for {', '.join(missing)}")
    grids = {name: grid if isinstance(grid, Tensor) else grid[name] for name in flows}
    lengths = {len(g) for g in grids.values()}
    if len(lengths) != 1 or min(lengths) < 2:
        raise ValueError(f"time grids need one common length of at least 2, got {lengths}")
    for name, g in grids.items():
        if bool((g[1:] < g[:-1]).any()) or float(g[0]) != 0.0 or float(g[-1]) != 1.0:
            raise ValueError(f"the time grid of {name} must run from 0 to 1 without falling")
    return grids
