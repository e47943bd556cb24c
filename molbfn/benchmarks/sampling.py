"""Samples of a benchmark's model: named samplers, a number of network calls, a seed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bfn_core import bayesian_sampler, ode_solver, sample_steps, sde_solver, uniform_grid
from bfn_core.sampling.loop import Sampler
from molbfn.benchmarks.model import BenchModel
from molbfn.devices import autocast
from molbfn.errors import UserError, nearest
from molbfn.generation.seeds import molecule_seed

SAMPLERS: dict[str, Callable[[], Sampler]] = {
    "original": bayesian_sampler,
    "sde1": lambda: sde_solver(order=1, slope="paper"),
    "sde2": lambda: sde_solver(order=2, slope="paper"),
    "ode1": lambda: ode_solver(order=1, slope="paper"),
    "ode2": lambda: ode_solver(order=2, slope="paper"),
}
"""Name -> sampler; "original" is Graves et al.'s, the others are Xue et al.'s."""


def find_sampler(name: str) -> Sampler:
    """Return a sampler by its name.

    Raises:
        UserError: unknown.
    """
    if name not in SAMPLERS:
        raise UserError(
            f"no sampler '{name}';{nearest(name, SAMPLERS)} known: {', '.join(SAMPLERS)}"
        )
    return SAMPLERS[name]()


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
        sampler: a name of :data:`SAMPLERS`.
        precision: "fp32" or "bf16" network calls.
        progress: called with (network calls so far, in all), over all batches.

    Raises:
        UserError: unknown sampler, or fewer than 2 calls.
    """
    if calls < 2:
        raise UserError(f"--calls {calls}: at least 2, a step and the last call")
    chosen, grid = find_sampler(sampler), uniform_grid(calls - 1)
    flow = model.flows["x"]
    found = []
    batches = -(-count // batch_size)
    for number, start in enumerate(range(0, count, batch_size)):
        indices = range(start, min(start + batch_size, count))
        noise = [torch.Generator().manual_seed(molecule_seed(seed, index)) for index in indices]
        with autocast(precision, model.device):
            for step in sample_steps(
                model.flows,
                model.predictor(),
                {"x": (len(noise), *model.shape)},
                grid=grid,
                sampler=chosen,
                generator=noise,
                device=str(model.device),
            ):
                if progress is not None:
                    progress(number * calls + step.index, batches * calls)
        found.append(flow.mode(step.outputs["x"]).cpu())
    return torch.cat(found)
