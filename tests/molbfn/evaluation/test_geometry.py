"""Internal coordinates against values known by construction."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdMolTransforms

from molbfn.evaluation.geometry import (
    angles,
    defined_torsions,
    internal_coordinates,
    lengths,
    torsions,
)

CHAIN = np.array([[0, 1, 1], [1, 2, 1], [2, 3, 1]])


def test_a_chain_has_three_bonds_two_angles_and_a_torsion():
    found = internal_coordinates(4, CHAIN)
    assert found.bonds.tolist() == [[0, 1], [1, 2], [2, 3]]
    assert found.angles.tolist() == [[0, 1, 2], [1, 2, 3]]
    assert found.torsions.tolist() == [[0, 1, 2, 3]]


def test_triangle_has_no_torsions_and_atoms_without_bonds_nothing():
    triangle = internal_coordinates(3, np.array([[0, 1, 1], [1, 2, 1], [0, 2, 1]]))
    assert len(triangle.angles) == 3
    assert len(triangle.torsions) == 0
    alone = internal_coordinates(2, np.zeros((0, 3), dtype=np.int64))
    assert (alone.bonds.shape, alone.angles.shape, alone.torsions.shape) == ((0, 2), (0, 3), (0, 4))


@pytest.mark.parametrize("turn", [0.0, 30.0, 90.0, 179.0, -60.0, 180.0])
def test_values_of_a_bent_and_twisted_chain(turn: float):
    t = np.radians(turn)
    # 0 and 3 stand at right angles on the bond 1-2, which lies along z
    points = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1.5], [np.cos(t), np.sin(t), 1.5]])
    found = internal_coordinates(4, CHAIN)
    assert lengths(points, found.bonds) == pytest.approx([1, 1.5, 1])
    assert angles(points, found.angles) == pytest.approx([90, 90])
    assert abs(torsions(points, found.torsions)[0]) == pytest.approx(abs(turn))
    mirrored = torsions(points * [1, 1, -1], found.torsions)
    assert abs(mirrored) == pytest.approx(abs(turn))


@pytest.mark.parametrize(("bend", "expected"), [(169.0, True), (171.0, False), (9.0, False)])
def test_a_torsion_over_a_straight_angle_is_not_defined(bend: float, expected: bool):
    t = np.radians(bend)
    points = np.array([[np.sin(t), 0, np.cos(t)], [0, 0, 0], [0, 0, 1.5], [0, 1, 1.5]])
    quads = np.array([[0, 1, 2, 3], [3, 2, 1, 0]])
    assert defined_torsions(points, quads).tolist() == [expected] * 2
    assert defined_torsions(points, np.zeros((0, 4), dtype=np.int64)).shape == (0,)


def test_straight_angle_and_signs_as_rdkit_has_them():
    line = np.array([[0.0, 0, 0], [0, 0, 1], [0, 0, 2]])
    assert angles(line, np.array([[0, 1, 2]])) == pytest.approx([180])
    mol = Chem.AddHs(Chem.MolFromSmiles("CC(O)C=CN"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    conformer = mol.GetConformer()
    bonds = np.array([[b.GetBeginAtomIdx(), b.GetEndAtomIdx()] for b in mol.GetBonds()])
    found = internal_coordinates(mol.GetNumAtoms(), bonds)
    expected = [rdMolTransforms.GetDihedralDeg(conformer, *q) for q in found.torsions.tolist()]
    assert torsions(conformer.GetPositions(), found.torsions) == pytest.approx(expected, abs=1e-6)
    expected = [rdMolTransforms.GetAngleDeg(conformer, *t) for t in found.angles.tolist()]
    assert angles(conformer.GetPositions(), found.angles) == pytest.approx(expected, abs=1e-6)
