"""Samples that no order changes, failures that cost nothing but themselves, and the cache."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molbfn.chem.molecule import Molecule
from molbfn.errors import UserError
from molbfn.evaluation import _worker
from molbfn.evaluation.sampled import (
    Outcome,
    Sample,
    Settings,
    content_hash,
    measure_molecules,
    sample_note,
)


def atom(number: int, x: float = 0.0) -> Molecule:
    return Molecule(np.array([number]), np.array([[x, 0, 0]]))


def answer(molecule: Molecule) -> dict[str, Any]:
    """The task of these tests: what it does depends on the element."""
    number = int(molecule.atomic_numbers[0])
    if number == 2:
        raise ValueError("helium is not liked")
    if number == 3:
        time.sleep(60)
    if number == 4:
        os._exit(7)
    return {"number": number, "process": os.getpid()}


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch):
    """Workers find this module by the name that the task has."""
    real = _worker.command
    here = str(Path(__file__).parent)

    def command(task: str, *, alarm: float) -> list[str]:
        found = real(task, alarm=alarm)
        place = found.index("-c") + 1
        found[place] = f"import sys; sys.path.insert(0, {here!r}); " + found[place]
        return found

    monkeypatch.setattr("molbfn.evaluation._worker.command", command)


def run(molecules, **settings):
    version = settings.pop("version", "1")
    return measure_molecules(
        molecules,
        "test_sampled:answer",
        name="test",
        version=version,
        settings=Settings(**{"workers": 2, "timeout": 20.0, **settings}),
    )


def test_every_failure_is_one_outcome_and_order_is_kept():
    outcomes = run([atom(1), None, atom(2), atom(3), atom(4), atom(6)], timeout=1.0)
    found = [o.status for o in outcomes]
    assert found == ["ok", "unreadable", "failed", "timeout", "died", "ok"]
    assert [o.values.get("number") for o in outcomes if o.ok] == [1, 6]
    assert "helium is not liked" in outcomes[2].reason
    assert outcomes[3].reason == "test took longer than 1 s"


def test_cache_keeps_what_would_be_the_same_again(tmp_path: Path):
    cache = tmp_path / "cache.jsonl"
    molecules = [atom(1), atom(2), atom(6), None]
    first = run(molecules, cache=cache)
    with cache.open("a") as stream:
        stream.write('{"version": "test 1", "mol')  # an interrupted write
    again = run([*molecules, atom(7)], cache=cache)
    assert [(o.status, o.values) for o in again[:4]] == [(o.status, o.values) for o in first]
    assert again[4].values["number"] == 7
    processes = {o.values["process"] for o in first if o.ok}
    other = run(molecules, cache=cache, version="2")
    assert not {o.values["process"] for o in other if o.ok} & processes
    lines = [x for x in cache.read_text().splitlines() if x.endswith("}")]
    assert len(lines) == 3 + 1 + 3
    assert all(json.loads(line)["molecule"] for line in lines)


def test_timeouts_are_tried_again(tmp_path: Path):
    cache = tmp_path / "cache.jsonl"
    assert run([atom(3)], cache=cache, timeout=0.5)[0].status == "timeout"
    assert cache.read_text() == ""


def test_unusable_cache_and_workers_are_named(tmp_path: Path):
    with pytest.raises(UserError, match="nowhere"):
        run([atom(1)], cache=tmp_path / "nowhere" / "cache.jsonl")
    with pytest.raises(UserError, match="test: test's worker process does not start"):
        measure_molecules(
            [atom(1)], "no_such_module:f", name="test", version="1", settings=Settings(workers=1)
        )


def test_sample_does_not_depend_on_the_order_and_holds_failures():
    molecules = [atom(6, x) for x in range(40)] + [atom(7)] * 10 + [None] * 50
    first, second, all_of_them = Sample(30), Sample(30), Sample(None)
    for molecule in molecules:
        first.add(molecule)
        all_of_them.add(molecule)
    for k in np.random.default_rng(0).permutation(100):
        second.add(molecules[k])

    def contents(sample: Sample) -> list[str | None]:
        return [None if m is None else content_hash(m) for m in sample.molecules]

    assert contents(first) == contents(second)
    assert len(first) == 30
    assert first.given == 100
    assert 5 <= contents(first).count(None) <= 25  # 15 expected
    assert contents(all_of_them)[:30] == contents(first)
    assert len(all_of_them) == 100
    other = Sample(30, seed=1)
    for molecule in molecules:
        other.add(molecule)
    assert contents(other) != contents(first)


def test_outcomes_find_their_places_again():
    sample = Sample(8)
    molecules = [atom(6, x) for x in range(20)]
    for molecule in molecules:
        sample.add(molecule)
    outcomes = [Outcome(m, "ok", {"x": float(m.positions[0, 0])}) for m in sample.molecules]
    placed = sample.by_place(outcomes)
    assert len(placed) == 8
    assert all(placed[k].values["x"] == k for k in placed)


def test_hash_is_of_the_content():
    bonded = Molecule(np.array([1, 1]), np.zeros((2, 3)), None, np.array([[0, 1, 1]]))
    bare = Molecule(np.array([1, 1]), np.zeros((2, 3)))
    charged = Molecule(np.array([1, 1]), np.zeros((2, 3)), np.array([0, 1]))
    titled = Molecule(np.array([1, 1]), np.zeros((2, 3)), title="x", properties={"a": 1})
    hashes = [content_hash(m) for m in (bonded, bare, charged)]
    assert len(set(hashes)) == 3
    assert content_hash(titled) == hashes[1]
    # a total charge is content, unless formal charges overrule it or it is 0
    anion = bare.with_properties(charge=-1)
    assert content_hash(anion) != hashes[1]
    assert content_hash(bare.with_properties(charge=0)) == hashes[1]
    assert content_hash(charged.with_properties(charge=-1)) == hashes[2]


def test_sample_is_said():
    assert sample_note(200, 1000) == "a random sample of 200 of 1,000 molecules"
    assert sample_note(7, 7) == "all 7 molecules"
