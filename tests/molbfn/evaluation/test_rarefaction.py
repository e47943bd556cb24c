from __future__ import annotations

import itertools

import numpy as np
import pytest

from molbfn.evaluation.intervals import Ratio, interval
from molbfn.evaluation.rarefaction import Structures, share_at


def structures(labels: list[int], counted: list[bool] | None = None, *, among_all: bool = True):
    found = max(labels) + 1
    return Structures(
        np.array(labels), np.array(counted or [True] * found, dtype=bool), among_all=among_all
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
def test_is_the_mean_over_every_subsample(size: int) -> None:
    """Duplicates, a molecule without a structure, and a structure that does not count."""
    labels, counted = [0, 0, 1, 2, 2, -1], [True, False, True]
    subsets = list(itertools.combinations(labels, size))
    exact = np.mean([len({s for s in drawn if s >= 0 and counted[s]}) / size for drawn in subsets])
    assert share_at(structures(labels, counted), size).value == pytest.approx(exact)


def test_a_share_among_the_structures_is_a_ratio_of_means() -> None:
    labels, counted, size = [0, 0, 1, 2, 2, 2], [True, False, True], 3
    subsets = list(itertools.combinations(labels, size))
    every = np.mean([len(set(drawn)) for drawn in subsets])
    new = np.mean([len({s for s in drawn if counted[s]}) for drawn in subsets])
    found = share_at(structures(labels, counted, among_all=False), size)
    assert found.value == pytest.approx(new / every)


def test_at_the_full_number_it_is_the_jackknife_of_the_single_file() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(60, size=100)
    _, labels, occurrences = np.unique(labels, return_inverse=True, return_counts=True)
    single = (occurrences[labels] == 1).astype(np.int64)
    parts = np.stack([single, np.ones_like(single)], axis=1)
    expected = interval(Ratio(len(occurrences), 100, parts, additive=False), seed=0)
    found = share_at(structures(labels.tolist()), 100)
    assert found.value == len(occurrences) / 100
    assert found.interval.low == pytest.approx(expected.low)
    assert found.interval.high == pytest.approx(expected.high)


def test_the_variance_is_that_of_leaving_each_molecule_out() -> None:
    labels, size = [0, 0, 1, 2, 2, 2, 3, -1], 4
    leave = [share_at(structures(labels[:k] + labels[k + 1 :], [True] * 4), size).value
             for k in range(len(labels))]  # fmt: skip
    n = len(labels)
    variance = (n - 1) / n * np.sum((np.array(leave) - np.mean(leave)) ** 2)
    found = share_at(structures(labels), size)
    p = found.value
    reach = 1.959964 * np.sqrt(variance) / (p * (1 - p))
    assert np.log(found.interval.high / (1 - found.interval.high)) == pytest.approx(
        np.log(p / (1 - p)) + reach, abs=1e-5
    )


def test_edges() -> None:
    assert share_at(structures([-1, -1, 0]), 0) is None
    nothing = Structures(np.array([-1] * 30), np.zeros(0, bool), among_all=True)
    assert share_at(nothing, 20).value == 0  # of 20 molecules none counts
    assert 0 < share_at(nothing, 20).interval.high < 0.2
    assert share_at(Structures(np.array([-1]), np.zeros(0, bool), among_all=False), 1) is None
    distinct = share_at(structures([0, 1, 2]), 2)
    assert distinct.value == 1
    assert distinct.interval.method == "binomial bound"
    assert distinct.interval.low == pytest.approx(0.025 ** (1 / 2))
    with pytest.raises(ValueError, match="4 of 3"):
        share_at(structures([0, 1, 2]), 4)


def test_no_spread_is_still_half_a_structure() -> None:
    found = share_at(structures([0] * 10 + [1] * 10), 20)
    assert found.value == 0.1
    reach = 1.959964 * (0.5 / 20) / (0.1 * 0.9)
    odds = [end / (1 - end) for end in (found.interval.low, found.interval.high)]
    assert np.log(odds) == pytest.approx([np.log(1 / 9) - reach, np.log(1 / 9) + reach], abs=1e-5)
