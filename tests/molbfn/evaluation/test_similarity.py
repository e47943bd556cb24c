"""Diversity and nearest neighbours of sets whose values are known."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from molbfn.chem.molecule import Molecule
from molbfn.data.builder import StoreBuilder
from molbfn.evaluation.run import evaluate
from molbfn.evaluation.similarity import fingerprints, internal_diversity


def tanimoto(first: str, second: str) -> float:
    """The definition itself, on sets of bits."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    a, b = (
        set(generator.GetFingerprint(Chem.MolFromSmiles(s)).GetOnBits()) for s in (first, second)
    )
    return len(a & b) / len(a | b)


def test_diversity_is_one_minus_the_mean_of_all_pairs():
    assert internal_diversity(fingerprints(["CCO"] * 3)) == 0
    assert internal_diversity(fingerprints(["CCO"])) is None
    smiles = ["CCO", "CCN", "c1ccccc1"]
    pairs = [tanimoto(*p) for p in (smiles[:2], smiles[1:], smiles[::2])]
    assert internal_diversity(fingerprints(smiles)) == pytest.approx(1 - np.mean(pairs))
    assert isinstance(fingerprints(smiles)[0], DataStructs.ExplicitBitVect)


def test_nearest_neighbours_in_a_reference_and_failures(embed, shuffled, tmp_path):
    builder = StoreBuilder()
    for smiles in ("CCO", "CCCC"):
        builder.add(embed(smiles), smiles)
    builder.build("ref").save(tmp_path / "ref.npz")
    molecules = [embed("CCO"), embed("CCCN"), None]
    result = evaluate(molecules, reference=tmp_path / "ref.npz", protocols=("similarity",))
    nearest = max(tanimoto("CCCN", other) for other in ("CCO", "CCCC"))
    quantity = result.quantity("similarity_nearest_neighbour")
    assert quantity.value == pytest.approx((1 + nearest) / 2)
    assert (quantity.count, quantity.given) == (2, 3)
    assert result["similarity_identical"].numerator == 1
    assert result["similarity_identical"].denominator == 3
    assert any("no FCD" in note for note in result.notes)
    moved = [None, shuffled(molecules[1]), shuffled(molecules[0])]
    again = evaluate(moved, reference=tmp_path / "ref.npz", protocols=("similarity",))
    assert again.quantity("similarity_nearest_neighbour").value == pytest.approx(quantity.value)
    assert again["similarity_identical"] == result["similarity_identical"]


def test_identical_is_the_structure_not_its_fingerprint(embed, write):
    """Longer chains set the same bits: novel and 'identical' at once."""
    chains = [embed("C" * length) for length in (8, 9, 10)]
    reference = write("ref.sdf", [embed("CCCCCCC")])
    result = evaluate(chains, reference=reference, protocols=("similarity",))
    assert result.quantity("similarity_nearest_neighbour").value == 1
    assert result["similarity_identical"].numerator == 0
    again = evaluate([*chains, embed("CCCCCCC")], reference=reference, protocols=("similarity",))
    assert again["similarity_identical"].numerator == 1


def test_without_bonds_the_distance_table_serves(named):
    result = evaluate(named("methane", "ethane"), protocols=("similarity",))
    assert result.quantity("similarity_internal_diversity").value == pytest.approx(
        1 - tanimoto("C", "CC")
    )
    assert any("EDM's table" in note for note in result.notes)


def test_nothing_valid_is_no_number():
    odd = Molecule(np.array([6] + [1] * 5), np.zeros((6, 3)), None,
                   np.array([(0, k, 1) for k in range(1, 6)]))  # fmt: skip
    result = evaluate([odd, None], protocols=("similarity",))
    assert result.quantity("similarity_internal_diversity").value is None


@pytest.mark.slow
def test_frechet_distance_of_a_set_to_itself_is_nothing(qm9):
    pytest.importorskip("fcd_torch", reason="needs the package fcd_torch")
    from molbfn.evaluation.reference import open_reference
    from molbfn.evaluation.similarity import _frechet

    known = open_reference(qm9.subset(np.arange(600)), split="all").known("smiles")
    same, _ = _frechet(sorted(known.smiles), known, 600, seed=0)
    assert same is not None
    assert same.value == pytest.approx(0, abs=0.01)
