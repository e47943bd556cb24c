"""Times for losses and grids for samplers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bfn_core.times import (
    low_discrepancy_steps,
    low_discrepancy_times,
    piecewise_grid,
    power_grid,
    truncated_grid,
    uniform_grid,
)

SETTINGS = settings(max_examples=40, deadline=None, derandomize=True)


@SETTINGS
@given(count=st.integers(1, 300), seed=st.integers(0, 2**20))
def test_one_time_in_each_stratum(count, seed):
    generator = torch.Generator().manual_seed(seed)
    t = low_discrepancy_times(count, generator=generator, dtype=torch.float64)
    assert t.shape == (count,)
    assert bool(((t >= 0) & (t < 1)).all())
    gaps = torch.cat([t, t.min()[None] + 1]).sort().values.diff()
    assert float(gaps.max()) == pytest.approx(1 / count, abs=1e-9)


def test_each_time_is_uniform(generator):
    draws = torch.stack([low_discrepancy_times(5, generator=generator) for _ in range(2000)])
    for column in draws.T:
        assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-5


def test_lower_variance_than_independent_times(generator):
    def spread(draw):
        return torch.stack([draw().square().mean() for _ in range(300)]).std()

    together = spread(lambda: low_discrepancy_times(64, generator=generator))
    apart = spread(lambda: torch.rand(64, generator=generator))
    assert together < apart / 5


@SETTINGS
@given(n_steps=st.integers(1, 40), copies=st.integers(1, 5), seed=st.integers(0, 2**20))
def test_steps_are_balanced(n_steps, copies, seed):
    generator = torch.Generator().manual_seed(seed)
    steps = low_discrepancy_steps(n_steps * copies, n_steps, generator=generator)
    counts = torch.bincount(steps, minlength=n_steps)
    assert len(counts) == n_steps
    # A time that lands on a stratum's edge may round into its neighbour.
    assert bool(((counts - copies).abs() <= 1).all())


def test_same_generator_same_times():
    first, second = (
        low_discrepancy_times(7, generator=torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first, second)


@SETTINGS
@given(steps=st.integers(1, 200), power=st.floats(0.2, 5))
def test_grids_run_from_zero_to_one(steps, power):
    for grid in (
        uniform_grid(steps),
        power_grid(steps, power),
        piecewise_grid(steps, [(0.8, 0.6)]),
    ):
        assert grid.shape == (steps + 1,)
        assert grid.dtype == torch.float64
        assert float(grid[0]) == 0.0
        assert float(grid[-1]) == 1.0
        assert bool((grid.diff() >= 0).all())


def test_power_grid_values():
    expected = torch.tensor([0, 1 / 16, 1 / 4, 9 / 16, 1], dtype=torch.float64)
    torch.testing.assert_close(power_grid(4, 2.0), expected)


def test_piecewise_grid_is_linear_between_knots():
    grid = piecewise_grid(10, [(0.8, 0.6)])
    early = torch.arange(9, dtype=torch.float64) * 0.6 / 8
    torch.testing.assert_close(grid[:9], early)
    torch.testing.assert_close(grid[9:], torch.tensor([0.8, 1.0], dtype=torch.float64))
    torch.testing.assert_close(piecewise_grid(7, []), uniform_grid(7))


@pytest.mark.parametrize("knots", [[(0.0, 0.5)], [(0.5, 1.0)], [(0.5, 0.5), (0.4, 0.6)], [(1, 1)]])
def test_bad_knots(knots):
    with pytest.raises(ValueError, match="knots"):
        piecewise_grid(5, knots)


def test_bad_steps_and_power():
    with pytest.raises(ValueError, match="steps"):
        uniform_grid(0)
    with pytest.raises(ValueError, match="power"):
        power_grid(3, 0.0)
    for call in (lambda: low_discrepancy_times(0), lambda: low_discrepancy_steps(3, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            call()


def test_truncated_grid():
    assert truncated_grid(uniform_grid(4), 0.2).tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert truncated_grid(uniform_grid(3), 1e-5)[-1] == 1
    for eta in (-0.1, 1.0):
        with pytest.raises(ValueError, match="eta must lie in"):
            truncated_grid(uniform_grid(2), eta)
