"""Sizes and elements."""

from __future__ import annotations

import numpy as np
import pytest

from molbfn.evaluation.composition import Composition, CompositionCounter


def test_counter_counts(named):
    counter = CompositionCounter()
    for molecule in named("methane", "water", "methane", "hydrogen chloride"):
        counter.add(molecule)
    found = counter.composition()
    assert found.sizes == {2: 1, 3: 1, 5: 2}
    assert found.elements == {1: 4 + 2 + 4 + 1, 6: 2, 8: 1, 17: 1}
    assert (found.molecules, found.atoms, found.mean_size) == (4, 15, 3.75)
    expected = {"H": 11, "C": 2, "N": 0, "O": 1, "F": 0, "Cl": 1}
    assert found.element_percent() == {s: pytest.approx(100 * n / 15) for s, n in expected.items()}
    assert list(found.element_percent()) == list(expected)


def test_quantiles_are_those_of_the_list():
    rng = np.random.default_rng(0)
    sizes = rng.integers(3, 30, 101)
    values, counts = np.unique(sizes, return_counts=True)
    found = Composition(dict(zip(values.tolist(), counts.tolist(), strict=True)), {})
    for share in (0.25, 0.5, 0.75, 1.0):
        assert found.size_quantile(share) == np.quantile(sizes, share, method="inverted_cdf")


def test_size_distance():
    one = Composition({3: 1, 4: 1}, {})
    assert one.size_distance(Composition({3: 50, 4: 50}, {})) == 0
    assert one.size_distance(Composition({5: 7}, {})) == 1
    assert one.size_distance(Composition({3: 1}, {})) == 0.5
    assert one.size_distance(Composition({}, {})) is None


def test_nothing_is_not_a_crash():
    empty = Composition({}, {})
    assert empty.mean_size is None
    assert empty.size_quantile(0.5) is None
    assert empty.to_dict()["size"]["largest"] is None
    assert set(empty.element_percent().values()) == {0.0}
