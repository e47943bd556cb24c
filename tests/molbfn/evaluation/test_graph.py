"""Sanitising, fragments, and one SMILES for one structure."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem

from molbfn.evaluation.graph import canonical_smiles, judge_graph


def graph_of(smiles: str, seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Atoms and Kekule bonds with all hydrogens, in an order that the seed shuffles."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    Chem.Kekulize(mol, clearAromaticFlags=True)
    order = np.arange(mol.GetNumAtoms())
    if seed is not None:
        np.random.default_rng(seed).shuffle(order)
    numbers = np.array([a.GetAtomicNum() for a in mol.GetAtoms()])
    rows = [
        (order[b.GetBeginAtomIdx()], order[b.GetEndAtomIdx()], int(b.GetBondTypeAsDouble()))
        for b in mol.GetBonds()
    ]
    placed = np.empty_like(numbers)
    placed[order] = numbers
    return placed, np.array(rows, dtype=np.int64).reshape(-1, 3)


@pytest.mark.parametrize(
    "smiles",
    ["C", "O", "[H][H]", "C#N", "C1=CC=CN1", "c1ccc2[nH]ccc2c1", "CC(=O)NC1CC1O", "FC(F)C#CC=O"],
)
def test_complete_graph_gives_the_canonical_smiles_in_any_order(smiles: str):
    expected = Chem.MolToSmiles(Chem.MolFromSmiles(smiles))
    for seed in range(5):
        verdict = judge_graph(*graph_of(smiles, seed))
        assert (verdict.smiles, verdict.fragments) == (expected, 1)
    assert canonical_smiles(smiles) == expected


def test_too_many_bonds_are_not_valid():
    bonds = np.array([(0, k, 1) for k in range(1, 6)])
    verdict = judge_graph(np.array([6, 1, 1, 1, 1, 1]), bonds)
    assert (verdict.smiles, verdict.fragments) == (None, 0)


def test_too_few_bonds_make_a_radical_and_not_the_complete_molecule():
    numbers, bonds = graph_of("C")
    verdict = judge_graph(numbers[:-1], bonds[:-1])
    assert verdict.smiles == "[CH3]"
    assert judge_graph(numbers, bonds).smiles == "C"


def test_largest_fragment_counts_hydrogens():
    # 2 heavy atoms against 1, but 3 atoms against 5
    verdict = judge_graph(*graph_of("C#N.C"))
    assert (verdict.smiles, verdict.fragments) == ("C", 2)
    assert canonical_smiles("C#N.C") == "C"


@pytest.mark.parametrize("smiles", ["O.C=O.N", "CO.CF.OF.CN", "CC=O.C1CO1"])
def test_equal_fragments_do_not_depend_on_the_order(smiles: str):
    found = {judge_graph(*graph_of(smiles, seed)).smiles for seed in range(20)}
    assert len(found) == 1
    assert found == {canonical_smiles(smiles)}


def test_lone_hydrogen_is_a_fragment():
    numbers, bonds = graph_of("C")
    verdict = judge_graph(np.append(numbers, 1), bonds)
    assert (verdict.smiles, verdict.fragments) == ("C", 2)


def test_stereochemistry_and_isotopes_do_not_count():
    assert canonical_smiles("F[C@H](O)C") == canonical_smiles("F[C@@H](O)C") == "CC(O)F"
    assert canonical_smiles("F/C=C/F") == canonical_smiles("F/C=C\\F")
    assert canonical_smiles("[13CH4]") == "C"


@pytest.mark.parametrize("text", ["", "C(", "C=C(C)(C)C", "hello"])
def test_bad_smiles_is_none(text: str):
    assert canonical_smiles(text) is None


@pytest.mark.parametrize(
    ("text", "form"),
    [("[H]/N=C/C", "CC=N"), ("[2H]C", "C"), ("[2H][2H]", "[H][H]"), ("[13CH4]", "C")],
)
def test_hydrogens_of_stereochemistry_and_isotopes_are_not_stated(text: str, form: str):
    assert canonical_smiles(text) == form
