"""Counts on a grid, and distances against scipy."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from molbfn.evaluation.grid import GridCounter, total_variation, wasserstein


@pytest.mark.parametrize("seed", range(3))
def test_wasserstein_is_that_of_the_values(seed: int):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=700), rng.gamma(2, size=400) - 1
    counter = GridCounter(0.001)
    counter.add((1,), first)
    counter.add(np.full((400, 1), 2), second)
    found = 0.001 * wasserstein(counter.cells((1,)), counter.cells((2,)))
    assert found == pytest.approx(stats.wasserstein_distance(first, second), abs=0.001)
    gridded = [0.001 * np.rint(1000 * x) for x in (first, second)]
    assert found == pytest.approx(stats.wasserstein_distance(*gridded), abs=1e-9)
    assert wasserstein(counter.cells((1,)), counter.cells((3,))) is None


def test_grid_counter_in_many_small_parts_counts_the_same(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(0).normal(size=1000)
    whole = GridCounter(0.1)
    whole.add((), values)
    monkeypatch.setattr("molbfn.evaluation.grid._BUFFERED", 7)
    parts = GridCounter(0.1)
    for value in values:
        parts.add((), np.array([value, np.nan]))
    assert parts.kinds() == {(): 1000}
    assert np.array_equal(whole.cells(()), parts.cells(()))


def test_total_variation():
    assert total_variation(Counter("aab"), Counter("ab")) == pytest.approx(1 / 6)
    assert total_variation(Counter("a"), Counter("b")) == 1
    assert total_variation(Counter("a"), Counter()) == total_variation(Counter(), Counter("a")) == 1
    assert total_variation(Counter(), Counter()) is None
