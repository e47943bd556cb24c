"""What slow protocols found of single molecules: numbers, failures, and what was not looked at."""

from __future__ import annotations

from molbfn.evaluation.sampled import Outcome
from molbfn.report.measured import MEASURED, measured

RELAXED = {"drop": 1.23456, "rmsd": 0.1, "same_contacts": True, "mmff_drop": None}


def outcome(**values: object) -> Outcome:
    return Outcome(None, "ok", values)


def test_a_relaxed_molecule_has_its_energy():
    found = measured({"physics": {3: outcome(**RELAXED)}}, 3)
    assert found.numbers == {"relaxation_energy": 1.235, "relaxation_rmsd": 0.1}
    assert found.words == {"After relaxation": "the same atoms in contact"}
    assert found.missing == {}
    torn = measured({"physics": {0: outcome(**{**RELAXED, "same_contacts": False})}}, 0)
    assert torn.words == {"After relaxation": "other atoms in contact"}


def test_what_is_not_in_the_sample_is_not_computed():
    found = measured({"physics": {3: outcome(**RELAXED)}}, 2)
    assert found.numbers == found.words == {}
    assert found.missing == {
        "relaxation_energy": "not computed", "relaxation_rmsd": "not computed",
    }  # fmt: skip


def test_a_failure_says_why():
    failed = Outcome(None, "timeout", {}, "physics took longer than 60 s")
    found = measured({"physics": {0: failed}}, 0)
    assert found.missing["relaxation_energy"] == "failed: physics took longer than 60 s"
    assert found.numbers == {}


def test_tests_that_are_not_passed_are_counted_and_named():
    mixed = outcome(sanitization=True, bond_lengths=False, internal_energy=None)
    good = outcome(sanitization=True, bond_lengths=True)
    found = measured({"posebusters": {0: mixed, 1: good}}, 0)
    assert found.numbers == {"posebusters_not_passed": 2}
    assert found.words == {"PoseBusters": "fails bond lengths; cannot compute internal energy"}
    passed = measured({"posebusters": {0: mixed, 1: good}}, 1)
    assert passed.numbers == {"posebusters_not_passed": 0}
    assert passed.words == {"PoseBusters": "passes all 2 tests"}


def test_protocols_that_did_not_run_say_nothing():
    found = measured({}, 0)
    assert (found.numbers, found.missing, found.words) == ({}, {}, {})
    every = measured({"physics": {}, "posebusters": {}}, 0)
    assert every.missing.keys() == MEASURED.keys()
