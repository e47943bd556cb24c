"""Molecules appended one by one make the store that holds them."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from molbfn.chem.molecule import Molecule
from molbfn.data.builder import StoreBuilder, smiles_of


def chain(size: int) -> Molecule:
    """Carbons in a row."""
    return Molecule(
        atomic_numbers=np.full(size, 6),
        positions=np.arange(3 * size, dtype=np.float32).reshape(size, 3),
        formal_charges=np.arange(size) % 3 - 1,
        bonds=np.array([(k, k + 1, 1) for k in range(size - 1)]).reshape(-1, 3),
        title=f"chain\nof {size}",
    )


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_each_molecule_comes_back(sizes: list[int]):
    builder = StoreBuilder()
    for size in sizes:
        builder.add(chain(size), "C" * size)
    store = builder.build("chains")
    assert len(builder) == len(store) == len(sizes)
    assert store.smiles == ["C" * size for size in sizes]
    for index, size in enumerate(sizes):
        back, original = store.molecule(index), chain(size)
        np.testing.assert_array_equal(back.positions, original.positions)
        np.testing.assert_array_equal(back.bonds, original.bonds)
        np.testing.assert_array_equal(back.formal_charges, original.formal_charges)
        assert back.title == f"chain of {size}"  # titles are lines of a text


def test_what_one_molecule_lacks_is_left_out_for_all():
    builder = StoreBuilder()
    builder.add(chain(3))
    builder.add(dataclasses.replace(chain(2), bonds=None, formal_charges=None, title=""))
    store = builder.build("mixed")
    assert store.bonds is None
    assert store.bond_offsets is None
    assert store.formal_charges is None
    assert store.smiles is None
    assert store.titles == ["chain of 3", ""]
    assert store.sizes.tolist() == [3, 2]


def test_what_is_taken_out_again_keeps_nothing_of_the_others_away():
    builder = StoreBuilder()
    for molecule in (chain(3), dataclasses.replace(chain(2), bonds=None, formal_charges=None)):
        builder.add(molecule)
    builder.add(chain(4))
    assert builder.without_bonds == {1}
    store = builder.build("mixed", spared={1}).subset(np.array([0, 2]))
    for index, size in enumerate((3, 4)):
        np.testing.assert_array_equal(store.molecule(index).bonds, chain(size).bonds)
        np.testing.assert_array_equal(
            store.molecule(index).formal_charges, chain(size).formal_charges
        )
    assert builder.build("mixed", spared={0}).bonds is None


def test_smiles_need_bonds_that_make_sense():
    water = Molecule(np.array([8, 1, 1]), np.eye(3), None, np.array([[0, 1, 1], [0, 2, 1]]))
    assert smiles_of(water) == "O"
    assert smiles_of(dataclasses.replace(water, bonds=None)) == ""
    triple = dataclasses.replace(water, bonds=np.array([[0, 1, 3], [0, 2, 3]]))
    assert smiles_of(triple) == ""
