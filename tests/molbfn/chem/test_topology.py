"""Bonds and charges from a SMILES: right on made molecules, refused where the atoms do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from molbfn.chem.molecule import Molecule
from molbfn.chem.topology import topology_from_smiles, with_bonds_of_smiles
from molbfn.errors import UserError


def embedded(smiles: str) -> Molecule:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=1) == 0
    return Molecule.from_rdkit(mol)


def rebuilt(molecule: Molecule, smiles: str) -> Molecule:
    found = topology_from_smiles(smiles, molecule.atomic_numbers, molecule.positions)
    return Molecule(molecule.atomic_numbers, molecule.positions, found.formal_charges, found.bonds)


@pytest.mark.parametrize(
    "smiles",
    ["C", "O", "CC#N", "C=CC=O", "c1ccoc1", "c1cc[nH]c1", "[NH3+]CC([O-])=O", "C1CC1", "O=C=O"],
)
def test_bonds_are_those_of_the_smiles(smiles: str):
    molecule = embedded(smiles)
    again = rebuilt(molecule, smiles)
    assert again.smiles() == Chem.CanonSmiles(smiles)
    assert again.formal_charges.tolist() == molecule.formal_charges.tolist()
    assert len(again.bonds) == len(molecule.bonds)


def test_hydrogens_may_stand_anywhere():
    smiles = "[NH3+]CC([O-])=O"
    molecule = embedded(smiles)
    heavy = np.flatnonzero(molecule.atomic_numbers != 1)
    hydrogens = np.flatnonzero(molecule.atomic_numbers == 1)
    order = np.concatenate([hydrogens[::-1], heavy])
    mixed = Molecule(molecule.atomic_numbers[order], molecule.positions[order])
    again = rebuilt(mixed, smiles)
    assert again.smiles() == Chem.CanonSmiles(smiles)
    assert again.formal_charges[len(hydrogens)] == 1
    assert (again.bonds[:, 0] < again.bonds[:, 1]).all()


def test_a_lone_heavy_atom_and_no_hydrogens():
    found = topology_from_smiles("[O-][N+](=O)F", np.array([8, 7, 8, 9]), _nitryl_fluoride())
    assert found.formal_charges.tolist() == [-1, 1, 0, 0]
    assert found.bonds.tolist() == [[0, 1, 1], [1, 2, 2], [1, 3, 1]]


def _nitryl_fluoride() -> np.ndarray:
    return np.array([[1.08, 0.47, 0], [0, 0, 0], [-1.08, 0.47, 0], [0, -1.47, 0]])


def test_another_order_of_the_atoms_is_refused():
    molecule = embedded("CCO")
    with pytest.raises(UserError, match=r"heavy atoms are not those of SMILES 'OCC'"):
        rebuilt(molecule, "OCC")


def test_the_same_elements_in_another_place_are_refused():
    """CH3-CH=CH2 read backwards: only the hydrogens tell."""
    with pytest.raises(UserError, match=r"atom 1 has 2 hydrogens near it, SMILES 'CC=C' has 3"):
        rebuilt(embedded("C=CC"), "CC=C")


def test_a_bond_across_the_molecule_is_refused():
    """Two CH2 of a ring change places, so the hydrogens fit but the lengths do not."""
    molecule = embedded("C1CCCCCCC1")
    heavy = [0, 4, 2, 3, 1, 5, 6, 7]
    order = np.concatenate([heavy, np.arange(8, len(molecule))])
    mixed = Molecule(molecule.atomic_numbers[order], molecule.positions[order])
    with pytest.raises(UserError, match=r"atoms \d+ and \d+ are bound by the SMILES but \d\.\d+"):
        rebuilt(mixed, "C1CCCCCCC1")


@pytest.mark.parametrize("smiles", ["", "C1CC", "C(C)(C)(C)(C)C", "not a smiles"])
def test_an_unreadable_smiles_is_refused(smiles: str):
    with pytest.raises(UserError, match="cannot be read"):
        topology_from_smiles(smiles, np.array([6]), np.zeros((1, 3)))


def test_what_a_smiles_does_not_fit_gets_no_bonds():
    ethanol = embedded("CCO")
    bare = Molecule(ethanol.atomic_numbers, ethanol.positions, title="t", properties={"a": 1})
    found = with_bonds_of_smiles(bare, "CCO")
    assert (found.smiles(), found.title, found.properties) == ("CCO", "t", {"a": 1})
    for other in ("CCC", "COC", "no SMILES", "C$O"):
        assert with_bonds_of_smiles(bare, other) is None
