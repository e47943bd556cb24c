"""Parts of the sizes asked for, structures whole, and parts by the names of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molbfn.data.splits import part_of, random_split


@given(st.integers(0, 500), st.integers(0, 2**31))
def test_random_split_has_the_sizes_asked_for(count: int, seed: int):
    split = random_split(count, seed=seed, fractions=(0.7, 0.2, 0.1))
    sizes = np.bincount(split, minlength=3)
    assert sizes.sum() == count
    off = 1.2 if count == 3 else 1  # each part has one of 3, which is more than its share
    np.testing.assert_allclose(sizes, np.array([0.7, 0.2, 0.1]) * count, atol=off)
    assert [part for part in range(3) if sizes[part]] == list(range(min(count, 3)))
    np.testing.assert_array_equal(split, random_split(count, seed=seed, fractions=(0.7, 0.2, 0.1)))


@pytest.mark.parametrize(
    ("count", "fractions", "sizes"),
    [
        (1, (0.8, 0.1, 0.1), [1, 0, 0]),
        (2, (0.8, 0.1, 0.1), [1, 1, 0]),
        (2, (0.5, 0.1, 0.4), [1, 1, 0]),
        (2, (0.1, 0.1, 0.8), [1, 1, 0]),
        (3, (0.8, 0.1, 0.1), [1, 1, 1]),
        (5, (0.8, 0.1, 0.1), [3, 1, 1]),
        (5, (0.9, 0.0, 0.1), [4, 0, 1]),
        (5, (0.0, 0.0, 1.0), [0, 0, 5]),
        (0, (0.8, 0.1, 0.1), [0, 0, 0]),
    ],
)
def test_few_molecules_train_then_validate_then_test(count: int, fractions, sizes: list[int]):
    for seed in range(5):
        split = random_split(count, seed=seed, fractions=fractions)
        assert np.bincount(split, minlength=3).tolist() == sizes


@given(
    st.lists(st.sampled_from(["A", "B", "C", "D", "E", "F", ""]), max_size=60),
    st.integers(0, 9),
    st.sampled_from([(0.6, 0.2, 0.2), (0.98, 0.01, 0.01), (0.2, 0.0, 0.8)]),
)
def test_conformers_stay_together(smiles: list[str], seed: int, fractions):
    split = random_split(len(smiles), seed=seed, fractions=fractions, smiles=smiles)
    alone = random_split(len(smiles), seed=seed, fractions=fractions)
    structures = len(set(smiles) - {""}) + smiles.count("")
    wanted = {part for part in range(3) if fractions[part]}
    if structures < min(len(wanted), len(smiles)) or structures == len(smiles):
        np.testing.assert_array_equal(split, alone)  # too few, or nothing to keep together
        return
    assert set(split.tolist()) == wanted
    for text in set(smiles) - {""}:
        assert len({part for part, own in zip(split, smiles, strict=True) if own == text}) == 1


def test_a_split_by_structure_has_about_the_sizes_asked_for():
    smiles = [f"S{k % 500}" for k in range(5000)]
    split = random_split(5000, seed=3, fractions=(0.8, 0.1, 0.1), smiles=smiles)
    np.testing.assert_allclose(np.bincount(split), [4000, 500, 500], atol=10)
    assert all(len(set(split[k::500])) == 1 for k in range(500))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train_data.pickle", 0),
        ("my.VALID.sdf", 1),
        ("val_data.pickle", 1),
        ("TEST.xyz", 2),
        ("test/latest_1.sdf", 2),
        ("train/1.sdf", 0),
    ],
)
def test_parts_by_names(name: str, part: int):
    assert part_of(Path("/data") / name) == part
