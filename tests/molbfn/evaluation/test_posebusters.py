"""PoseBusters' tests on molecules that pass, are torn, flattened or have no bonds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from molbfn.chem.molecule import Molecule
from molbfn.evaluation.posebusters import ENERGY, bust_record, perceived, share_ratios
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
    assert ENERGY in good
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
