"""Which bonds the distributions go by, and the sample of the reference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from molbfn.chem.molecule import Molecule
from molbfn.data.builder import StoreBuilder
from molbfn.evaluation.distributed import (
    DistributionsProtocol,
    first_states_bonds,
    mean_distances,
    reference_molecules,
)
from molbfn.evaluation.distributions import DistributionCounter
from molbfn.evaluation.protocols import Context
from molbfn.evaluation.reference import open_reference
from molbfn.evaluation.run import evaluate
from molbfn.evaluation.sampled import Settings


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


def test_whose_bonds_count_can_be_said(embed):
    stretched = [dataclasses.replace(m, positions=3 * m.positions) for m in [embed("C=C")] * 12]
    assert "bond_length_C-C_2" in run(stretched)[0]  # as the molecules state
    result = evaluate(stretched, protocols=["distributions"], distribution_bonds="table")
    assert "bond_length_C-C_2" not in {d.name for d in result.distributions}
    atom = embed("[He]")
    assert first_states_bonds([None, atom, stretched[0]])
    assert first_states_bonds([None, atom])
    assert not first_states_bonds([None, atom, bare(stretched[0]), stretched[0]])


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


def test_measured_and_given_count_what_they_say(embed):
    """Eight with bonds, eight without, two unreadable: it said 16 of 16."""
    ethanol = embed("CCO")
    points = np.concatenate([np.zeros((1, 3)), 1.1 * np.eye(3), -1.1 * np.eye(3)[:2]])
    bonds = np.array([(0, k, 1) for k in range(1, 6)])
    wrong = Molecule(np.array([6] + [1] * 5), points, np.zeros(6, int), bonds)
    molecules = [ethanol] * 7 + [wrong] + [bare(ethanol)] * 8 + [None, None]
    protocol = DistributionsProtocol(None)
    protocol.add(molecules)
    notes = protocol.finish(Context(seed=0, settings=Settings())).notes
    assert any("8 of 16 molecules have no bonds" in note for note in notes)
    assert any("1 of 8 molecules with bonds are not sanitised" in note for note in notes)
    counter, other = DistributionCounter(), DistributionCounter()
    for molecule in [m for m in molecules if m is not None]:
        counter.add(molecule)
        other.add(ethanol)
    found = list(mean_distances(counter.distributions(other), counter, other, given=18))
    assert {(q.count, q.given) for q in found} == {(8, 18)}


def test_chemistry_that_is_left_out_lowers_what_the_mean_is_of(embed, write):
    """Methane alone has a perfect mean, of 5 of 6 bonds and 6 of 7 angles; butane has torsions."""
    both = [embed("C"), embed("C#N")] * 10
    _, result = run([embed("C")] * 20, write("ref.sdf", both))
    assert result.quantity("distributions_bond_length").value < 0.02
    coverage = result.quantity("distributions_bond_length_coverage")
    assert (coverage.value, coverage.unit) == (pytest.approx(100 * 5 / 6), "%")
    assert result.quantity("distributions_angle_coverage").value == pytest.approx(100 * 6 / 7)
    _, result = run([embed("C")] * 20, write("long.sdf", [embed("CCCC", k) for k in range(10)]))
    assert result.quantity("distributions_torsion").value is None
    assert result.quantity("distributions_torsion_coverage").value == 0


def test_the_reference_weighs_the_kinds(embed):
    """C-C 0.1 too long, C-H right; the molecules have many C-H, the reference one for one."""

    def counted(count: int, stretch: float) -> DistributionCounter:
        counter = DistributionCounter()
        for _ in range(10):
            numbers = np.array([6, 6] + [1] * count)
            turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
            ring = np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1)
            points = np.concatenate([[[0, 0, 0], [0, 0, 1.5 + stretch]], 1.1 * ring])
            bonds = np.array([(0, k, 1) for k in range(1, count + 2)])
            counter.add(Molecule(numbers, points, None, bonds))
        return counter

    own, other = counted(3, 0.1), counted(1, 0.0)
    first = next(mean_distances(own.distributions(other), own, other, given=10))
    assert first.value == pytest.approx(0.05, abs=1e-4)


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
