from __future__ import annotations

import json
import os
import sys
import tempfile

import pytest

from molbfn.data.download import RAW_FILES
from molbfn.errors import UserError

WATER = """water


  3  2  0  0  0  0            999 V2000
    0.0000    0.0000    0.1173 O   0  0
    0.0000    0.7572   -0.4692 H   0  0
    0.0000   -0.7572   -0.4692 H   0  0
  1  2  1  0
  1  3  1  0
M  END
$$$$
"""
RECORD = '{"complete": true, "wanted": 1, "written": 1, "settings": {}, "runs": [], "versions": {}}'


@pytest.fixture
def water(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.sdf").write_text(WATER)
    (tmp_path / "in.sdf.json").write_text(RECORD)
    return tmp_path / "in.sdf"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("evaluate in.sdf --problems in.sdf", "--problems in.sdf: is an input"),
        ("evaluate in.sdf --json ./in.sdf", "--json in.sdf: is an input"),
        ("evaluate in.sdf --csv in.sdf", "--csv in.sdf: is an input"),
        ("evaluate in.sdf --json in.sdf.json", "says how in.sdf was generated"),
        ("compare in.sdf in.sdf --json in.sdf.json", "says how in.sdf was generated"),
        ("compare in.sdf in.sdf --problems in.sdf", "--problems in.sdf: is an input"),
        ("report in.sdf -o in.sdf", "--output in.sdf: is an input"),
        ("draw in.sdf -o in.sdf", "--output in.sdf: is an input"),
        ("data prepare in.sdf -o a.npz --problems in.sdf", "--problems in.sdf: is an input"),
    ],
)
def test_an_input_is_never_replaced(molbfn, water, command, message):
    result = molbfn(*command.split())
    assert result.code == 2
    assert message in result.err
    assert water.read_text() == WATER
    assert water.with_name("in.sdf.json").read_text() == RECORD


def test_other_files_are_replaced(molbfn, water):
    for _ in range(2):
        assert molbfn("evaluate", "in.sdf", "--json", "figures.json").code == 0
    water.with_name("in.sdf.json").write_text("{}")
    assert molbfn("evaluate", "in.sdf", "--json", "in.sdf.json").code == 0


@pytest.mark.parametrize(
    "command",
    [
        "evaluate in.sdf --json folder",
        "evaluate in.sdf --csv folder",
        "evaluate in.sdf --problems folder",
        "compare in.sdf in.sdf --json folder",
        "report in.sdf -o folder",
        "draw in.sdf -o folder",
        "data prepare in.sdf -o folder",
    ],
)
def test_a_folder_is_no_output_and_that_is_said_before_anything_is_read(
    molbfn, water, tmp_path, command
):
    (tmp_path / "folder").mkdir()
    water.write_text("no molecule\n")
    result = molbfn(*command.split())
    assert result.code == 2
    assert "folder: is a folder; give the name of a file" in result.err


@pytest.mark.parametrize(
    "command",
    [
        "evaluate in.sdf --json a.json",
        "evaluate in.sdf --csv a.csv",
        "compare in.sdf in.sdf --json a.json",
        "report in.sdf -o a.html",
        "data prepare in.sdf -o a.npz",
        "data qm9 --from-dir raw -o a.npz",
    ],
)
def test_a_folder_that_cannot_be_written_is_said_before_anything_is_read(
    molbfn, water, tmp_path, monkeypatch, command
):
    water.write_text("no molecule\n")
    (tmp_path / "raw").mkdir()
    for name in RAW_FILES:
        (tmp_path / "raw" / name).write_text("")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    result = molbfn(*command.split())
    assert result.code == 2
    assert result.err == f"molbfn: cannot write {command.split()[-1]}: Permission denied\n"


@pytest.mark.parametrize(
    ("command", "outputs"),
    [
        ("evaluate in.sdf --json a.json --csv a.csv", ["a.json", "a.csv"]),
        ("compare in.sdf in.sdf --json a.json", ["a.json"]),
    ],
)
def test_figures_are_written_where_nobody_reads_the_table(
    molbfn, water, monkeypatch, tmp_path, command, outputs
):
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with pytest.raises((SystemExit, BrokenPipeError)):
            molbfn(*command.split())
    for name in outputs:
        assert (tmp_path / name).stat().st_size > 0
    assert json.loads((tmp_path / "a.json").read_text())["metrics"]


def test_a_table_is_printed_where_the_figures_cannot_be_written(molbfn, water, monkeypatch):
    def fail(*_):
        raise UserError("the disk is full")

    monkeypatch.setattr("molbfn.evaluation.result.EvaluationResult.to_json", fail)
    result = molbfn("evaluate", "in.sdf", "--json", "a.json")
    assert (result.code, result.err) == (2, "molbfn: the disk is full\n")
    assert "Molecule stability" in result.out
