"""Properties of known molecules, hydrogens implied or not."""

from __future__ import annotations

import pytest
from rdkit import Chem

from molbfn.evaluation.properties import PROPERTIES, properties


def test_paracetamol():
    mol = Chem.AddHs(Chem.MolFromSmiles("CC(=O)Nc1ccc(O)cc1"))
    found = properties(mol)
    assert set(found) == set(PROPERTIES)
    assert found["weight"] == pytest.approx(151.165, abs=0.01)
    assert found["qed"] == pytest.approx(0.595, abs=0.01)  # Bickerton's function, as in RDKit
    assert found["logp"] == pytest.approx(1.3506, abs=1e-3)
    assert 1 <= found["sa"] < 2
    assert properties(Chem.MolFromSmiles("CC(=O)Nc1ccc(O)cc1")) == pytest.approx(found)


def test_what_cannot_be_computed_is_left_out():
    hydrogen = Chem.MolFromSmiles("[H][H]")
    assert set(properties(hydrogen)) <= set(PROPERTIES)
