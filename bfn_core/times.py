"""Times at which losses are taken, and grids along which samplers walk."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from bfn_core.tensors import Generators, standard_uniform


def low_discrepancy_times(
    count: int,
    *,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return ``count`` times that are each U[0, 1) and together evenly spread.

    ``(u + i / count) mod 1`` with one shared u (Kingma et al. 2021, VDM, appendix I): a loss
    averaged over them is unbiased with far less variance than independent times.

    Returns:
        [count], of the given dtype.

    Raises:
        ValueError: count < 1.
    """
    if count < 1:
        raise ValueError(f"the count of times must be at least 1, got {count}")
    shift = _one_uniform(generator, dtype, device)
    return (shift + torch.arange(count, dtype=dtype, device=device) / count) % 1.0


def low_discrepancy_steps(
    count: int,
    n_steps: int,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return ``count`` step indices in 0..n_steps-1, each uniform and together evenly spread.

    Returns:
        int64 [count].

    Raises:
        ValueError: count or n_steps < 1.
    """
    _check_steps(n_steps)
    times = low_discrepancy_times(count, generator=generator, dtype=torch.float64, device=device)
    return (times * n_steps).long().clamp_max(n_steps - 1)


def _one_uniform(generator: Generators, dtype: torch.dtype, device: torch.device | str) -> Tensor:
    return standard_uniform((1,), generator=generator, dtype=dtype, device=torch.device(device))


def uniform_grid(steps: int) -> Tensor:
    """Return ``steps + 1`` evenly spaced times from 0 to 1, float64.

    Raises:
        ValueError: steps < 1.
    """
    _check_steps(steps)
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64)


def power_grid(steps: int, power: float) -> Tensor:
    """Return ``uniform_grid ** power``: more steps early for power > 1, late for power < 1.

    Raises:
        ValueError: steps < 1 or power not positive.
    """
    if not power > 0:
        raise ValueError(f"power must be positive, got {power}")
    return uniform_grid(steps) ** power


def piecewise_grid(steps: int, knots: Sequence[tuple[float, float]]) -> Tensor:
    """Return a grid that runs linearly between knots ``(share of the steps, time)``.

    ``[(0.8, 0.6)]`` spends 80 % of the steps uniformly in t in [0, 0.6] and the rest up to 1.
    The points (0, 0) and (1, 1) are added; knots must increase strictly in both.

    Raises:
        ValueError: steps < 1, or knots that do not increase strictly inside (0, 1).
    """
    points = [(0.0, 0.0), *((float(share), float(t)) for share, t in knots), (1.0, 1.0)]
    for before, after in itertools.pairwise(points):
        if not (before[0] < after[0] and before[1] < after[1]):
            raise ValueError(f"knots must increase strictly inside (0, 1), got {list(knots)}")
    u = uniform_grid(steps)
    grid = torch.zeros_like(u)
    for (share_0, t_0), (share_1, t_1) in itertools.pairwise(points):
        inside = (u >= share_0) & (u <= share_1)
        grid = torch.where(inside, t_0 + (u - share_0) * (t_1 - t_0) / (share_1 - share_0), grid)
    grid[0], grid[-1] = 0.0, 1.0
    return grid


def truncated_grid(grid: Tensor, eta: float) -> Tensor:
    """Return the grid mapped from [0, 1] to [eta, 1], as the solvers of Xue et al. 2024 start.

    ``truncated_grid(uniform_grid(n), 1e-5)`` is the grid of their code; for ``whole = False``.

    Raises:
        ValueError: eta outside [0, 1).
    """
    if not 0 <= eta < 1:
        raise ValueError(f"eta must lie in [0, 1), got {eta}")
    return torch.where(grid == 1, grid, eta + (1 - eta) * grid)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
