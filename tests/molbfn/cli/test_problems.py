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
    assert capsys.readouterr().err.splitlines() == [
        f"molbfn: {path} is there twice; it is read once" for path in (link, first)
    ]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("evaluate in", ["in/link.sdf"]),
        ("evaluate in in/a.sdf", ["in/link.sdf", "in/a.sdf"]),
        ("evaluate in/a.sdf in", ["in/link.sdf", "in/a.sdf"]),
        ("compare in in", ["in/link.sdf", "in/link.sdf"]),
        ("report in -o out.html", ["in/link.sdf"]),
        ("data prepare in in/a.sdf -o out.npz", ["in/link.sdf", "in/a.sdf"]),
    ],
)
def test_no_molecule_of_a_folder_counts_twice(molbfn, water, tmp_path, monkeypatch, command, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    water.rename(tmp_path / "in" / "a.sdf")
    (tmp_path / "in" / "link.sdf").symlink_to("a.sdf")
    name, *arguments = command.split()
    if name in ("evaluate", "compare"):
        arguments += ["--json", "out.json"]
    result = molbfn(name, *arguments)
    assert result.code == 0, result.err
    lines = [line for line in result.err.splitlines() if "twice" in line]
    assert lines == [f"molbfn: {path} is there twice; it is read once" for path in told]
    if name == "evaluate":
        assert json.loads((tmp_path / "out.json").read_text())["molecules"]["given"] == 1
    elif name == "compare":
        assert json.loads((tmp_path / "out.json").read_text())["given"] == [1, 1]
    elif name == "data":
        assert "1 of 1 molecules kept" in result.out
