"""The estimate of useful molecules, and the time from the records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from molbfn.evaluation.sampled import Outcome
from molbfn.evaluation.useful import (
    GenerationTime,
    UsefulCounter,
    generation_time,
    stable_smiles,
    useful_quantities,
)


def relaxed(molecule, drop: float | None) -> Outcome:
    return Outcome(molecule, "failed" if drop is None else "ok", {"drop": drop})


def test_estimate_by_hand(named):
    methane, water, torn, ethane = named("methane", "water", "torn ethane", "ethane")
    counter = UsefulCounter()
    counter.add([methane, water, methane, torn])
    counter.add([ethane, None])
    # different, valid and in one piece: methane, water, ethane
    outcomes = [
        relaxed(methane, 1.0),
        relaxed(water, 6.0),
        relaxed(ethane, None),
        relaxed(torn, 0.1),  # two pieces: no part of the share
    ]
    assert counter.estimate(outcomes, limit=5.0) == pytest.approx(3 * 1 / 3)
    assert counter.given == 6
    assert counter.estimate([], limit=5.0) is None
    nothing = UsefulCounter()
    nothing.add([torn])
    assert nothing.estimate([relaxed(torn, 0.1)], limit=5.0) == 0


def test_radicals_are_not_useful(named):
    """Valid and in one piece, at a minimum of its own, and yet no molecule to be of use."""
    methyl, methane = named("methyl", "methane")
    counter = UsefulCounter()
    counter.add([methyl] * 3)
    assert counter.estimate([relaxed(methyl, 0.1)] * 3, limit=5.0) == 0
    counter.add([methane])
    outcomes = [relaxed(methyl, 0.1), relaxed(methane, 9.0)]
    assert counter.estimate(outcomes, limit=5.0) == 0
    assert counter.estimate([relaxed(methane, 1.0)], limit=5.0) == 1


def test_stable_smiles_by_own_bonds_or_the_table(named, embed):
    assert stable_smiles(embed("CCO")) == "CCO"
    assert stable_smiles(named("methane")[0]) == "C"
    assert stable_smiles(named("two methanes")[0]) is None
    assert stable_smiles(named("methyl")[0]) is None
    assert stable_smiles(None) is None


def test_rate_needs_a_time():
    options = {"given": 10, "sampled": 4, "limit": 5.0}
    share, rate = useful_quantities(8.0, seconds=2.0, **options)
    assert (share.value, rate.value, rate.unit) == (80.0, 4.0, "/s")
    assert "2.0 s" in rate.definition
    (alone,) = useful_quantities(8.0, seconds=None, **options)
    assert alone.value == 80.0
    (unknown,) = useful_quantities(None, seconds=2.0, **options)
    assert unknown.value is None


def test_time_is_that_of_complete_records(tmp_path: Path):
    first, second = tmp_path / "a.sdf", tmp_path / "b.sdf"
    record = {"complete": True, "written": 4, "runs": [{"seconds": 1.5}, {"seconds": 2.0}]}
    (tmp_path / "a.sdf.json").write_text(json.dumps(record))
    assert generation_time([first], given=4) == GenerationTime(3.5)
    unknown = GenerationTime()
    assert generation_time([first, second], given=4) == unknown
    (tmp_path / "b.sdf.json").write_text(json.dumps({**record, "complete": False}))
    assert generation_time([first, second], given=8) == unknown
    (tmp_path / "b.sdf.json").write_text("not JSON")
    assert generation_time([second], given=4) == unknown
    del record["written"]
    (tmp_path / "b.sdf.json").write_text(json.dumps(record))
    assert generation_time([second], given=4) == unknown
    assert generation_time([], given=4) == unknown


def test_time_is_not_that_of_other_molecules(tmp_path: Path):
    files = [tmp_path / "a.sdf", tmp_path / "b.sdf"]
    for file, written in zip(files, (4, 1000), strict=True):
        record = {"complete": True, "written": written, "runs": [{"seconds": 1.5}]}
        file.with_name(f"{file.name}.json").write_text(json.dumps(record))
    assert generation_time(files, given=1004) == GenerationTime(3.0)
    assert generation_time(files[:1], given=3) == GenerationTime(
        None, "no useful molecules per second: a.sdf.json speaks of 4 molecules, not 3"
    )
    assert generation_time(files, given=8).note == (
        "no useful molecules per second: the files' records speak of 1,004 molecules, not 8"
    )
