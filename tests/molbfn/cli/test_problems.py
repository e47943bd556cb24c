import csv
import json

import pytest

from molbfn.chem.files import Problem
from molbfn.cli.problems import SKIPPED, problem_log, without_repeats
from molbfn.errors import UserError


def test_ten_are_printed_and_all_are_written(tmp_path, capsys):
    path = tmp_path / "p.csv"
    with problem_log(path) as log:
        for k in range(12):
            log.add(Problem("a.sdf", k + 1, 5 * k, 'why, "so"'))
    assert log.exit_code(path) == SKIPPED
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "molbfn: skipped 12 unreadable records:"
    assert lines[1] == '  a.sdf: record 1 (line 0): why, "so"'
    assert len(lines) == 12
    assert lines[-1] == f"  and 2 more; all are in {path}"
    rows = list(csv.DictReader(path.open()))
    assert len(rows) == 12
    assert rows[3] == {"file": "a.sdf", "record": "4", "line": "15", "reason": 'why, "so"'}


def test_json_lines(tmp_path):
    path = tmp_path / "p.jsonl"
    with problem_log(path) as log:
        log.add(Problem("a.sdf", None, None, "torn"))
    assert json.loads(path.read_text()) == {
        "file": "a.sdf", "record": None, "line": None, "reason": "torn"
    }  # fmt: skip


def test_nothing_skipped_is_silent(capsys):
    with problem_log(None) as log:
        pass
    assert log.exit_code(None) == 0
    assert capsys.readouterr().err == ""


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="cannot be written"), problem_log(tmp_path):
        pass


def test_a_file_named_twice_is_read_once(tmp_path, capsys):
    first, link = tmp_path / "a.sdf", tmp_path / "b.sdf"
    first.write_text("x")
    link.symlink_to(first)
    missing = tmp_path / "c.sdf"
    assert without_repeats([first, link, missing, first]) == [first, missing]
    assert len(capsys.readouterr().err.splitlines()) == 2
