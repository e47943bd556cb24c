from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from molbfn.chem.hydrogens import hydrogen_note, lacks_hydrogen
from molbfn.chem.molecule import Molecule


def heavy(molecule: Molecule) -> Molecule:
    """The molecule without its hydrogens, as RDKit's RemoveHs leaves it."""
    return kept(molecule, molecule.atomic_numbers > 1)


def polar(molecule: Molecule) -> Molecule:
    """The molecule without the hydrogens of carbon."""
    keep = np.ones(len(molecule), dtype=bool)
    for ends in molecule.bonds[:, :2]:
        if sorted(molecule.atomic_numbers[ends]) == [1, 6]:
            keep[ends[molecule.atomic_numbers[ends] == 1]] = False
    return kept(molecule, keep)


def by_coordinates(molecule: Molecule) -> Molecule:
    return dataclasses.replace(molecule, bonds=None, formal_charges=None)


def kept(molecule: Molecule, keep: np.ndarray) -> Molecule:
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


@pytest.mark.parametrize("smiles", ["CC(=O)Oc1ccccc1C(=O)O", "CO", "C#CCO", "C=CN", "C1CC1O"])
def test_hydrogens_of_carbon_that_were_left_out(embed, smiles: str) -> None:
    molecule = polar(embed(smiles))
    assert (molecule.atomic_numbers == 1).any()
    assert lacks_hydrogen(molecule)
    assert lacks_hydrogen(by_coordinates(molecule))


WANT_NONE = [
    "FC(F)(F)F",
    "ClS(Cl)(=O)=O",
    "Fc1c(F)c(F)c(F)c(F)c1F",
    "Clc1c(Cl)c(Cl)c(Cl)c(Cl)c1Cl",
    "FC(F)=C(F)F",
    "N#CC#N",
    "NC(N)=O",
    "OC(=O)C(F)(F)F",
]


@pytest.mark.parametrize("smiles", WANT_NONE)
def test_molecules_that_want_none_at_carbon(embed, smiles: str) -> None:
    assert not lacks_hydrogen(embed(smiles))
    assert not lacks_hydrogen(by_coordinates(embed(smiles)))


@pytest.mark.parametrize("smiles", ["O=C=O", "N#N", "[C-]#[O+]", "[O-][O+]=O"])
def test_molecules_that_have_none(embed, smiles: str) -> None:
    assert not lacks_hydrogen(embed(smiles))


def line(symbols: tuple[int, ...], lengths: tuple[float, ...], angle: float = 180) -> Molecule:
    """Two or three atoms with these lengths, the middle one first, in angstrom and degrees."""
    turn = np.radians(angle)
    ends = [[lengths[0], 0, 0], [lengths[-1] * np.cos(turn), lengths[-1] * np.sin(turn), 0]]
    return Molecule(np.array(symbols), np.array([[0, 0, 0], *ends[: len(lengths)]]))


@pytest.mark.parametrize(
    ("molecule", "lacking"),
    [
        (line((6, 8), (1.128,)), False),  # carbon monoxide
        (line((6, 8), (1.205,)), True),  # formaldehyde
        (line((7, 7), (1.098,)), False),
        (line((7, 7), (1.45,)), True),  # hydrazine
        (line((8, 8), (1.208,)), False),
        (line((8, 8), (1.45,)), True),  # hydrogen peroxide
        (line((8, 8, 8), (1.272, 1.272), 116.8), False),  # ozone
        (line((6, 8, 8), (1.16, 1.16)), False),
        (line((6, 9, 9), (1.36, 1.36), 108.0), True),  # difluoromethane
        (line((8, 9, 9), (1.41, 1.41), 103.0), False),
    ],
)
def test_without_bonds_lengths_and_angles_tell(molecule: Molecule, lacking: bool) -> None:
    assert lacks_hydrogen(molecule) is lacking


def test_three_neighbours_in_a_plane_or_not() -> None:
    turns = np.radians([0, 120, 240])

    def carbon(height: float) -> Molecule:
        ring = np.sqrt(1.76**2 - height**2)
        arms = np.stack([ring * np.cos(turns), ring * np.sin(turns), 0 * turns - height], axis=1)
        return Molecule(np.array([6, 17, 17, 17]), np.concatenate([np.zeros((1, 3)), arms]))

    assert not lacks_hydrogen(carbon(0.0))
    assert not lacks_hydrogen(carbon(0.3))
    assert lacks_hydrogen(carbon(0.58))  # chloroform


def test_atoms_that_want_none() -> None:
    helium = Molecule(np.array([2]), np.zeros((1, 3)))
    assert not lacks_hydrogen(helium)
    lost = Molecule(np.array([6, 6]), np.full((2, 3), np.nan))
    assert not lacks_hydrogen(lost)


def test_the_note_counts() -> None:
    assert hydrogen_note(3, 1200).startswith("3 of 1,200 molecules lack hydrogens")
