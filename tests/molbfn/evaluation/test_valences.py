"""What the two tables allow, and how valences are read off a molecule."""

from __future__ import annotations

import pytest
from rdkit import Chem

from molbfn.evaluation.valences import (
    LEGACY,
    atom_valences,
    counted,
    counted_over,
    is_counted,
    is_legacy,
)


def test_valences_of_pyrrole_and_its_hydrogens():
    mol = Chem.AddHs(Chem.MolFromSmiles("c1cc[nH]c1"))
    found = dict(zip((a.GetSymbol() for a in mol.GetAtoms()), atom_valences(mol), strict=True))
    assert found == {"C": (2, 1, 0), "N": (2, 1, 0), "H": (0, 1, 0)}
    # implied hydrogens count as well
    assert atom_valences(Chem.MolFromSmiles("C[N+](C)(C)C")) == [
        (0, 4, 0), (0, 4, 1), (0, 4, 0), (0, 4, 0), (0, 4, 0),
    ]  # fmt: skip


def test_aromatic_bonds_may_be_those_of_another_drawing():
    kekule = Chem.MolFromSmiles("C1=CC=CN=C1", sanitize=False)
    kekule.UpdatePropertyCache()
    carbon, nitrogen = (0, 4, 0), (0, 3, 0)
    assert atom_valences(kekule) == [carbon] * 4 + [nitrogen, carbon]
    found = atom_valences(kekule, Chem.MolFromSmiles("C1=CC=CN=C1"))
    assert found == [(2, 1, 0)] * 4 + [(2, 0, 0), (2, 1, 0)]


@pytest.mark.parametrize(
    ("element", "valence", "expected", "legacy"),
    [
        ("C", (0, 4, 0), True, True),
        ("C", (2, 1, 0), True, True),  # benzene: 2 + 1 = 3 is why the legacy table has 3
        ("C", (0, 3, 0), False, True),  # a methyl radical: what the legacy table lets through
        ("C", (0, 2, 0), False, False),
        ("C", (0, 5, 0), False, False),
        ("N", (0, 3, 0), True, True),
        ("N", (0, 2, 0), False, True),  # an NH radical
        ("N", (0, 4, 1), True, True),
        ("N", (0, 5, 0), False, False),
        ("O", (0, 1, 0), False, False),
        ("O", (0, 2, 0), True, True),
        ("S", (0, 6, 0), True, True),
        ("S", (0, 4, 0), True, False),  # sulfoxides: the legacy table has no 4
        ("H", (0, 1, 0), True, True),
        ("H", (0, 2, 0), False, False),
        ("O", (0, 2, 5), False, True),  # a charge without an entry falls back to charge 0
        ("He", (0, 0, 0), False, False),
    ],
)
def test_tables(element: str, valence: tuple[int, int, int], expected: bool, legacy: bool):
    assert is_counted(element, valence) is expected
    assert is_legacy(element, valence) is legacy


def test_counted_table_has_its_origin_and_no_radicals_of_main_elements():
    assert "geom_drugs" in counted_over()
    assert {"H", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I"} <= set(counted())
    neutral = {v[:2] for v in counted()["C"] if v[2] == 0}
    assert neutral == {(0, 4), (2, 1), (2, 2), (3, 0)}
    assert all(0 in charges for charges in LEGACY.values())
