from __future__ import annotations

import pytest

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
