"""Which bonds the distributions go by, and the sample of the reference."""

from __future__ import annotations

import numpy as np
import pytest

from molbfn.chem.molecule import Molecule
from molbfn.data.builder import StoreBuilder
from molbfn.evaluation.distributed import reference_molecules
from molbfn.evaluation.reference import open_reference
from molbfn.evaluation.run import evaluate


def bare(molecule: Molecule) -> Molecule:
    return Molecule(molecule.atomic_numbers, molecule.positions)


def run(molecules, reference=None):
    result = evaluate(molecules, reference=reference, protocols=("distributions",))
    return {d.name: d for d in result.distributions}, result


def test_own_bonds_where_both_have_them_else_the_table(embed, write, tmp_path):
    ethene = [embed("C=C")] * 12
    found, result = run(ethene)
    assert any("bonds that the molecules state" in note for note in result.notes)
    assert found["bond_length_C-C_2"].reference_shares is None
    found, result = run(ethene, write("ref.sdf", ethene))
    assert found["bond_length_C-C_2"].distance == pytest.approx(0, abs=2e-4)  # SDF: 4 digits
    found, result = run(ethene, write("ref.xyz", ethene))
    assert any("distance table" in note for note in result.notes)
    found, result = run([bare(m) for m in ethene], write("ref2.sdf", ethene))
    assert any("distance table" in note for note in result.notes)
    assert found["elements"].distance == 0


def test_bonds_of_the_references_smiles(embed, tmp_path):
    builder = StoreBuilder()
    for smiles in ("CCO", "C=C"):
        builder.add(bare(embed(smiles)), smiles)
    builder.add(bare(embed("CC")), "CCC")  # does not fit: left out
    builder.build("ref").save(tmp_path / "ref.npz")
    reference = open_reference(tmp_path / "ref.npz")
    found = list(reference_molecules(reference, "own", seed=0))
    assert [m.smiles() for m in found] == ["CCO", "C=C"]
    assert len(list(reference_molecules(reference, "table", seed=0))) == 3
    assert len(list(reference_molecules(reference, "own", seed=0, size=1))) <= 1


def test_a_file_is_sampled_too(embed, write):
    molecules = [embed("C"), embed("CC"), embed("CCC")]
    reference = open_reference(write("ref.sdf", molecules))
    assert len(list(reference_molecules(reference, "own", seed=0, size=2))) == 2


def test_nothing_readable_has_no_distributions():
    found, _ = run([None])
    assert found == {}


@pytest.mark.parametrize("order", [1, -1])
def test_order_of_molecules_does_not_matter(embed, order: int):
    molecules = [embed("CCO"), embed("C=C"), None, embed("c1ccccc1")]
    expected, _ = run(molecules)
    assert run(molecules[::order])[0] == expected


def test_qm9_halves_are_alike(qm9):
    result = evaluate(
        qm9.subset(np.arange(0, 1200, 4)),
        reference=qm9.subset(np.arange(2, 1200, 4)),
        reference_split="all",
        protocols=("distributions",),
    )
    found = {d.name: d for d in result.distributions}
    assert 0 < found["bond_length_H-C_1"].distance < 0.01
    assert 0 < found["elements"].distance < 0.02


def test_one_distance_for_all_bond_lengths(embed, write):
    molecules = [embed("CCO", k) for k in range(10)]
    stretched = [
        Molecule(m.atomic_numbers, m.positions * 1.01, m.formal_charges, m.bonds) for m in molecules
    ]
    _, result = run(stretched, write("ref.sdf", molecules))
    mean = np.mean([np.linalg.norm(m.positions[i] - m.positions[j])
                    for m in molecules for i, j, _ in m.bonds])  # fmt: skip
    assert result.quantity("distributions_bond_length").value == pytest.approx(
        0.01 * mean, abs=2e-4
    )
    assert result.quantity("distributions_angle").value == pytest.approx(0, abs=0.02)
