"""Which times a sampler should take: the cheapest grid, or path of two groups of variables.

A sampler of n steps walks from (0, 0) to (1, 1) in the square of the two groups' times.  Its share
of the n-step variational bound is the sum over steps of ``1/2 A d(beta)`` for each group, with A
the error of the network at the start of the step (MolPilot, Qiu et al. 2025, searches such paths;
this sum needs none of its further weights).  That is exact for continuous data.  For classes and
bins it is what short steps cost and an upper limit of what long ones do, whose KL cannot be above
the data's own entropy: where these count, let ``costs[i, k]`` of :func:`cheapest_grid` be the mean
``step_loss`` from time i to time k.  For an exact network the bound does not depend on the
path (I-MMSE: the integrand is a gradient), so what a path can save is the excess error of a trained
network and the error of few steps.  Compare samples, not only bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PathCost:
    """A path and what it costs.

    Attributes:
        first, second: indices into the grids of times of the two groups, n + 1 each, rising.
        cost: nats.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    cost: float


def cheapest_grid(costs: Tensor, *, steps: int) -> tuple[int, ...]:
    """Return the cheapest way from the first of G times to the last in ``steps`` steps.

    For variables that share their time, ``costs[i, k]`` is the sum over them of
    ``1/2 A(t_i) (beta(t_k) - beta(t_i))``.

    Args:
        costs: [G, G], of a step from time i to time k; only i < k counts.
        steps: at least 1 and at most G - 1.

    Returns:
        Indices of the ``steps + 1`` times, rising.

    Raises:
        ValueError: costs that are not square or not finite, or steps out of range.
    """
    size = len(costs)
    if costs.shape != (size, size):
        raise ValueError(f"costs must be square, got {tuple(costs.shape)}")
    if not 1 <= steps <= size - 1:
        raise ValueError(f"{steps} steps cannot cross a grid of {size} times")
    later = torch.ones(size, size, dtype=torch.bool).triu(1)
    if not bool(costs[later].isfinite().all()):
        raise ValueError("costs of steps forward must be finite")
    step_cost = torch.where(later, costs.double(), torch.inf)
    total = torch.full((size,), torch.inf, dtype=torch.float64)
    total[0] = 0.0
    origins = []
    for _ in range(steps):
        total, origin = (total[:, None] + step_cost).min(0)
        origins.append(origin)
    path = [size - 1]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return tuple(reversed(path))


def cheapest_path(
    first_error: Tensor,
    second_error: Tensor,
    first_accuracy: Tensor,
    second_accuracy: Tensor,
    *,
    steps: int,
    reach: int | None = None,
) -> PathCost:
    """Return the path of ``steps`` steps with the least cost, by dynamic programming.

    Every step moves forward in both groups, from the first grid point to the last.

    Args:
        first_error, second_error: [G, H], the factor of ``d(beta)`` in the bound at each pair of
            times: ``E ||x - x_hat||^2 / 2`` (Gaussian inputs), ``K E ||e - p||^2 / 2`` (classes).
        first_accuracy: [G], beta at the first group's times, rising.
        second_accuracy: [H], the same for the second group.
        steps: n, at least 1 and at most the smaller grid minus 1.
        reach: grid points that a step may move at most; None: no limit.

    Raises:
        ValueError: shapes that do not fit, errors that are not finite, accuracies that do not
            rise, or steps that cannot lead from one end to the other.
    """
    shape = (len(first_accuracy), len(second_accuracy))
    if first_error.shape != shape or second_error.shape != shape:
        raise ValueError(
            f"errors {tuple(first_error.shape)} and {tuple(second_error.shape)} do not fit "
            f"accuracies {shape}"
        )
    if not bool((first_error.isfinite() & second_error.isfinite()).all()):
        raise ValueError("errors must be finite")
    for accuracy in (first_accuracy, second_accuracy):
        if not bool((accuracy[1:] > accuracy[:-1]).all()):
            raise ValueError("accuracies must rise")
    furthest = max(shape) - 1
    reach = furthest if reach is None else min(reach, furthest)
    if not 1 <= steps <= min(shape) - 1 or steps * reach < furthest:
        raise ValueError(f"{steps} steps of at most {reach} points cannot cross a grid of {shape}")
    a, b = first_error.double(), second_error.double()
    total = torch.full(shape, torch.inf, dtype=torch.float64)
    total[0, 0] = 0.0
    origins: list[Tensor] = []
    for _ in range(steps):
        best = torch.full(shape, torch.inf, dtype=torch.float64)
        origin = torch.zeros(shape, dtype=torch.int64)
        for i in range(1, reach + 1):
            gain_a = (first_accuracy[i:] - first_accuracy[:-i]).double()[:, None]
            for j in range(1, reach + 1):
                gain_b = (second_accuracy[j:] - second_accuracy[:-j]).double()[None]
                before = (slice(None, -i), slice(None, -j))
                cost = total[before] + a[before] * gain_a + b[before] * gain_b
                view = best[i:, j:]
                better = cost < view
                best[i:, j:] = torch.where(better, cost, view)
                origin[i:, j:] = torch.where(better, i * (furthest + 1) + j, origin[i:, j:])
        total = best
        origins.append(origin)
    return _walk_back(origins, total, furthest)


def _walk_back(origins: list[Tensor], total: Tensor, furthest: int) -> PathCost:
    place = (total.shape[0] - 1, total.shape[1] - 1)
    path = [place]
    for origin in reversed(origins):
        i, j = divmod(int(origin[place]), furthest + 1)
        place = (place[0] - i, place[1] - j)
        path.append(place)
    path.reverse()
    first, second = zip(*path, strict=True)
    return PathCost(first, second, float(total[-1, -1]))
