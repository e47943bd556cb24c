"""The cheapest path: against every path on small grids, and on surfaces with a known answer."""

from __future__ import annotations

import itertools

import pytest
import torch

from bfn_core.schedule_search import cheapest_grid, cheapest_path


def rising(count: int, generator: torch.Generator) -> torch.Tensor:
    return torch.cumsum(0.1 + torch.rand(count, generator=generator), 0)


def cost_of(path, a, b, first, second) -> float:
    total = 0.0
    for (i, j), (k, m) in itertools.pairwise(path):
        total += float(a[i, j] * (first[k] - first[i]) + b[i, j] * (second[m] - second[j]))
    return total


@pytest.mark.parametrize(("shape", "steps"), [((4, 5), 1), ((4, 5), 2), ((5, 4), 3), ((5, 5), 4)])
@pytest.mark.parametrize("seed", range(5))
def test_no_path_is_cheaper(shape, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(shape, generator=generator) for _ in range(2))
    first, second = (rising(size, generator) for size in shape)
    found = cheapest_path(a, b, first, second, steps=steps)
    every = [
        [(0, 0), *zip(left, right, strict=True), (shape[0] - 1, shape[1] - 1)]
        for left in itertools.combinations(range(1, shape[0] - 1), steps - 1)
        for right in itertools.combinations(range(1, shape[1] - 1), steps - 1)
    ]
    best = min(cost_of(path, a, b, first, second) for path in every)
    assert found.cost == pytest.approx(best)
    path = list(zip(found.first, found.second, strict=True))
    assert cost_of(path, a, b, first, second) == pytest.approx(best)
    assert len(path) == steps + 1


def test_steps_go_where_the_error_falls():
    """An error that falls by half at one time and is flat elsewhere: one step up to it, then on."""
    times = torch.linspace(0, 1, 11)
    error = torch.where(times < 0.35, 1.0, 0.1)[:, None].expand(11, 11)
    found = cheapest_path(error, torch.zeros(11, 11), times, times, steps=2)
    assert found.first == (0, 4, 10)
    assert found.cost == pytest.approx(0.4 + 0.6 * 0.1)


def test_the_variable_that_helps_the_other_goes_first():
    """The second group is free once the first is half known, and dear before."""
    times = torch.linspace(0, 1, 9)
    second = torch.where(times < 0.5, 5.0, 0.0)[:, None].expand(9, 9)
    found = cheapest_path(torch.full((9, 9), 0.1), second, times, times, steps=4)
    half = next(k for k, i in enumerate(found.first) if times[i] >= 0.5)
    assert found.second[half] == half  # as little as the steps allow until then
    assert found.cost < 0.1 + 5.0 * 0.5


def test_reach_limits_the_moves():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(9, 9, generator=generator) for _ in range(2))
    times = torch.linspace(0, 1, 9)
    found = cheapest_path(a, b, times, times, steps=4, reach=2)
    assert found.first == found.second == (0, 2, 4, 6, 8)


@pytest.mark.parametrize("steps", [1, 2, 4, 6])
@pytest.mark.parametrize("seed", range(4))
def test_no_grid_is_cheaper(steps, seed):
    costs = torch.rand(7, 7, generator=torch.Generator().manual_seed(seed))

    def cost(path):
        return sum(float(costs[i, k]) for i, k in itertools.pairwise(path))

    found = cheapest_grid(costs, steps=steps)
    every = [(0, *middle, 6) for middle in itertools.combinations(range(1, 6), steps - 1)]
    assert found in every
    assert cost(found) == pytest.approx(min(map(cost, every)))


def test_a_grid_has_limits():
    with pytest.raises(ValueError, match="7 steps cannot cross a grid of 7 times"):
        cheapest_grid(torch.ones(7, 7), steps=7)
    with pytest.raises(ValueError, match="must be square"):
        cheapest_grid(torch.ones(7, 6), steps=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "cannot cross"),
        ({"steps": 5}, "cannot cross"),
        ({"steps": 2, "reach": 1}, "2 steps of at most 1 points cannot cross"),
        ({"first_error": torch.zeros(4, 5)}, "do not fit"),
        ({"first_accuracy": torch.tensor([0.0, 1.0, 1.0, 2.0, 3.0])}, "must rise"),
    ],
)
def test_impossible_searches_are_refused(change, message):
    values = {
        "first_error": torch.ones(5, 5),
        "second_error": torch.ones(5, 5),
        "first_accuracy": torch.arange(5.0),
        "second_accuracy": torch.arange(5.0),
        "steps": 2,
    }
    with pytest.raises(ValueError, match=message):
        cheapest_path(**{**values, **change})


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_a_search_of_what_is_not_finite_is_refused(wrong):
    costs = torch.ones(4, 4)
    costs[3, 1] = wrong  # a step back: never taken
    assert cheapest_grid(costs, steps=2)[0] == 0
    costs[1, 2] = wrong
    with pytest.raises(ValueError, match="must be finite"):
        cheapest_grid(costs, steps=2)
    error, accuracy = torch.ones(3, 3), torch.tensor([0.0, 1.0, 2.0])
    bad = error.clone()
    bad[1, 1] = wrong
    with pytest.raises(ValueError, match="must be finite"):
        cheapest_path(error, bad, accuracy, accuracy, steps=2)
