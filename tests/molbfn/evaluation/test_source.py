"""Where molecules come from; the kinds of input are tested with the whole evaluation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from molbfn.errors import UserError
from molbfn.evaluation import evaluate
from molbfn.evaluation.source import Source


def test_files_are_named_and_opened_before_any_work(named, write, tmp_path):
    path = write("a.xyz", named("water", "methane"))
    source = Source.of([path])
    assert source.files == (path,)
    assert source.names == (str(path),)
    assert [len(chunk) for chunk in source.chunks(1)] == [1, 1]
    with pytest.raises(UserError, match="no such file"):
        Source.of([path, tmp_path / "b.sdf"])


def test_molecules_in_memory_have_a_total_where_it_is_known(named):
    assert Source.of(named("water", "methane")).total == 2
    lazy = Source.of(m for m in named("water"))
    assert (lazy.total, lazy.files) == (None, ())
    entries = [entry for chunk in Source.of([None]).chunks(5) for entry in chunk]
    assert entries == [(None, "molecule 1 is None")]


def test_molecules_in_memory_on_one_point_are_none_as_in_files(named, write):
    (water,) = named("water")
    assert water.atomic_numbers[0] == 8
    water = dataclasses.replace(water, bonds=np.array([[0, 1, 1], [0, 2, 1]]))
    zero = dataclasses.replace(water, positions=np.zeros((3, 3)))
    reason = "all 3 atoms are at one point"
    (chunk,) = Source.of([zero]).chunks(5)
    assert chunk == [(None, f"molecule 1: {reason}")]
    for given in ([zero, water], write("a.sdf", [zero, water])):
        result = evaluate(given, protocols=["edm", "bonds", "revisited"])
        assert (result.given, result.unreadable) == (2, 1)
        assert reason in result.problems[0]
        for name in ("molecule_stability", "bonds_molecule_stability"):
            assert result[name].value == 0.5


def test_the_bare_name_of_a_data_set_is_no_folder_of_that_name(named, write, tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()
    write("demo/a.xyz", named("water"))
    data = tmp_path / "data.npz"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("molbfn.data.locate.available_datasets", lambda: {"demo": data})
    with pytest.raises(UserError, match=r"data\.npz"):  # it is not there
        Source.of("demo")
    for folder in ("./demo", Path("demo")):
        assert [len(chunk) for chunk in Source.of(folder).chunks(2)] == [1]
