from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from molbfn.chem.hydrogens import hydrogen_note, lacks_hydrogen
from molbfn.chem.molecule import Molecule


def heavy(molecule: Molecule) -> Molecule:
    """The molecule without its hydrogens, as RDKit's RemoveHs leaves it."""
    keep = molecule.atomic_numbers > 1
    places = np.cumsum(keep) - 1
    bonds = molecule.bonds[keep[molecule.bonds[:, :2]].all(axis=1)]
    bonds = np.concatenate([places[bonds[:, :2]], bonds[:, 2:]], axis=1)
    return Molecule(
        molecule.atomic_numbers[keep],
        molecule.positions[keep],
        molecule.formal_charges[keep],
        bonds,
    )


@pytest.mark.parametrize("smiles", ["CCO", "c1ccccc1", "O", "CC(=O)[O-]", "C#N"])
def test_hydrogens_that_were_left_out(embed, smiles: str) -> None:
    whole = embed(smiles)
    bare = heavy(whole)
    assert lacks_hydrogen(bare)
    assert not lacks_hydrogen(whole)
    # with coordinates alone, or with a block that states no bonds
    nothing = np.empty((0, 3), dtype=np.int64)
    for bonds in (None, nothing):
        assert lacks_hydrogen(dataclasses.replace(bare, bonds=bonds, formal_charges=None))


@pytest.mark.parametrize("smiles", ["O=C=O", "FC(F)(F)F", "N#N", "[C-]#[O+]", "ClS(Cl)(=O)=O"])
def test_molecules_that_have_none(embed, smiles: str) -> None:
    assert not lacks_hydrogen(embed(smiles))


def test_atoms_that_want_none() -> None:
    helium = Molecule(np.array([2]), np.zeros((1, 3)))
    assert not lacks_hydrogen(helium)
    lost = Molecule(np.array([6, 6]), np.full((2, 3), np.nan))
    assert not lacks_hydrogen(lost)


def test_the_note_counts() -> None:
    assert hydrogen_note(3, 1200).startswith("3 of 1,200 molecules have no hydrogen although")
