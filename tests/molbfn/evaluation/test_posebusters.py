"""PoseBusters' tests on molecules that pass, are torn, flattened or have no bonds."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from molbfn.chem.molecule import Molecule
from molbfn.evaluation.posebusters import (
    ENERGY,
    bust_record,
    energy_record,
    perceived,
    share_ratios,
    with_energies,
)
from molbfn.evaluation.run import evaluate
from molbfn.evaluation.sampled import Outcome, Settings


def outcome(**tests: bool | None) -> Outcome:
    return Outcome(Molecule(np.array([1]), np.zeros((1, 3))), "ok", tests)


def test_shares_with_and_without_the_energy_and_failures_in_all():
    outcomes = [
        outcome(bond_lengths=True, internal_energy=True),
        outcome(bond_lengths=True, internal_energy=False),
        outcome(bond_lengths=False, internal_energy=True),
        outcome(bond_lengths=True, internal_energy=None),  # it could not be computed
        Outcome(None, "unreadable", {}, "cannot be read"),
    ]
    found = {r.name: (r.ratio.numerator, r.ratio.denominator) for r in share_ratios(outcomes)}
    assert found == {
        "posebusters_valid": (1, 5),
        "posebusters_valid_lenient": (2, 5),
        "posebusters_valid_no_energy": (3, 5),
        "posebusters_bond_lengths": (3, 5),
        "posebusters_internal_energy": (2, 5),
    }


def test_ethanol_passes_and_a_stretched_or_torn_one_does_not(embed, shuffled):
    pytest.importorskip("posebusters", reason="needs the package posebusters")
    ethanol = embed("CCO")
    good = bust_record(ethanol)
    assert all(good.values())
    assert ENERGY not in good
    assert energy_record(ethanol) == {ENERGY: True}
    assert bust_record(shuffled(ethanol)) == good
    far = ethanol.positions.copy()
    moved = [2, *ethanol.bonds[(ethanol.bonds[:, 0] == 2), 1]]  # the hydroxyl group
    far[moved] += (far[2] - far[1]) * 2
    stretched = bust_record(dataclasses.replace(ethanol, positions=far))
    assert not stretched["bond_lengths"]
    assert stretched["sanitization"]
    bonds = ethanol.bonds[~((ethanol.bonds[:, :2] == [1, 2]).all(axis=1))]
    torn = bust_record(dataclasses.replace(ethanol, bonds=bonds))
    assert not torn["all_atoms_connected"]


def without_hydrogens(molecule: Molecule, *, of: tuple[int, ...]) -> Molecule:
    """The molecule without the hydrogens of these elements."""
    numbers = molecule.atomic_numbers
    left_out = {
        int(j)
        for i, j in molecule.bonds[:, :2]  # heavy atoms stand first
        if numbers[j] == 1 and numbers[i] in of
    }
    keep = np.array([k not in left_out for k in range(len(molecule))])
    place = np.cumsum(keep) - 1
    bonds = molecule.bonds[keep[molecule.bonds[:, :2]].all(axis=1)]
    return Molecule(
        numbers[keep],
        molecule.positions[keep],
        molecule.formal_charges[keep],
        np.concatenate([place[bonds[:, :2]], bonds[:, 2:]], axis=1),
    )


def as_the_package_reads(molecule: Molecule, path: Path) -> dict[str, bool | None]:
    """The package's own verdict of the molecule as a file that states no valences."""
    from posebusters import PoseBusters
    from rdkit import Chem

    mol = molecule.to_rdkit(implicit_hydrogens=True)
    path.write_text(Chem.MolToMolBlock(mol) + "$$$$\n")
    row = PoseBusters(config="mol", max_workers=0).bust([path], None, None).iloc[0]
    return {
        str(test): None if isinstance(passed, float) and math.isnan(passed) else bool(passed)
        for test, passed in row.items()
    }


@pytest.mark.parametrize("of", [(), (6,), (6, 7, 8)], ids=["all H", "polar H", "no H"])
@pytest.mark.parametrize("smiles", ["OCCN", "CC(=O)c1ccncc1", "C[NH2+]CC(=O)[O-]"])
def test_verdicts_are_the_package_s_own_with_and_without_hydrogens(embed, tmp_path, smiles, of):
    pytest.importorskip("posebusters", reason="needs the package posebusters")
    molecule = without_hydrogens(embed(smiles), of=of)
    found = bust_record(molecule) | energy_record(molecule)
    assert found == as_the_package_reads(molecule, tmp_path / "one.sdf")
    assert found["no_radicals"]
    assert found["sanitization"]


def test_a_radical_with_its_other_hydrogens_stays_one(embed):
    pytest.importorskip("posebusters", reason="needs the package posebusters")
    ethanol = embed("CCO")
    last = len(ethanol) - 1
    radical = Molecule(
        ethanol.atomic_numbers[:last],
        ethanol.positions[:last],
        bonds=ethanol.bonds[(ethanol.bonds[:, :2] != last).all(axis=1)],
    )
    assert not bust_record(radical)["no_radicals"]


def test_an_energy_test_without_a_result_is_none_and_the_others_stay():
    failed = Outcome(None, "unreadable", {}, "cannot be read")
    first, second = outcome(bond_lengths=True), outcome(bond_lengths=False)
    late = Outcome(second.molecule, "timeout", {}, "took longer than 1 s")
    found = with_energies([first, failed, second], [outcome(internal_energy=True), late])
    assert [o.values for o in found] == [
        {"bond_lengths": True, "internal_energy": True},
        {},
        {"bond_lengths": False, "internal_energy": None},
    ]
    assert [o.ok for o in found] == [True, False, True]


def test_a_slow_energy_test_costs_that_test_only_and_is_said(embed, monkeypatch):
    pytest.importorskip("posebusters", reason="needs the package posebusters")

    def measured(molecules, task, **_):
        if task.endswith(":bust_record"):
            return [Outcome(m, "ok", {"bond_lengths": True}) for m in molecules]
        return [Outcome(m, "timeout", {}, "it took longer than 1 s") for m in molecules]

    monkeypatch.setattr("molbfn.evaluation.posebusters.measure_molecules", measured)
    result = evaluate([embed("CO"), embed("O")], protocols=("posebusters",))
    assert result["posebusters_valid"].numerator == 0
    assert result["posebusters_valid_lenient"].numerator == 2
    assert result["posebusters_valid_no_energy"].numerator == 2
    (note,) = [n for n in result.notes if "energy test" in n]
    assert "of 2 was given up" in note
    assert "it took longer than 1 s" in note


def test_bonds_are_perceived_where_there_are_none(embed):
    water = embed("O")
    bare = Molecule(water.atomic_numbers, water.positions)
    assert perceived(bare).bonds.tolist() == [[0, 1, 1], [0, 2, 1]]
    with pytest.raises(ValueError, match="no bond orders"):
        perceived(Molecule(np.array([1, 1]), [[0, 0, 0], [0, 0, 9]]))


def test_whole_protocol_in_a_worker(embed):
    pytest.importorskip("posebusters", reason="needs the package posebusters")
    methanol = embed("CO")
    result = evaluate([methanol, None], protocols=("posebusters",), settings=Settings(workers=1))
    assert result["posebusters_valid"].numerator == 1
    assert result["posebusters_valid"].denominator == 2
    assert any('config "mol"' in note and "posebusters 0" in note for note in result.notes)
    assert "posebusters" in result.versions
