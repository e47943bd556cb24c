"""Names of data sets where a folder has the same name."""

from __future__ import annotations

import json

import numpy as np
import pytest

from molbfn.cli.inputs import located
from molbfn.data.store import MoleculeStore
from molbfn.errors import UserError


@pytest.fixture
def place(tmp_path, monkeypatch, water):
    """A folder with the data set "demo" of two molecules, and a folder ./demo with one file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("molbfn.evaluation.reference.cache_dir", lambda: tmp_path / "cache")
    (tmp_path / "data").mkdir()
    store = MoleculeStore(
        name="two",
        atomic_numbers=np.array([8, 1, 1, 8, 1, 1]),
        positions=np.array(2 * [[0, 0, 0.1173], [0, 0.7572, -0.4692], [0, -0.7572, -0.4692]]),
        offsets=np.array([0, 3, 6]),
    )
    store.save(tmp_path / "data" / "demo.npz")
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "one.sdf").write_text(water.read_text())
    return tmp_path


def test_names_files_and_what_was_passed_over(place, capsys):
    files = located(["demo", "./demo", "water.sdf", None])
    assert files[0] == place / "data" / "demo.npz"
    assert len(files) == 3
    assert files[1].samefile("demo")
    assert files[2].samefile("water.sdf")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("molbfn: demo is the data set ")
    assert line.endswith("demo.npz; what has that name here is ./demo")


def test_a_data_set_that_is_not_there_is_no_folder_of_its_name(place, monkeypatch):
    monkeypatch.setattr("molbfn.data.locate.available_datasets", dict)
    with pytest.raises(UserError, match=r"'demo' is not on this machine.*\./demo"):
        located(["demo"])


@pytest.mark.parametrize(("name", "molecules"), [("demo", 2), ("./demo", 1)])
def test_the_same_name_means_the_same_in_all_places(molbfn, place, name, molecules):
    result = molbfn("evaluate", name, "--reference", name, "--json", "a.json")
    assert result.code == 0
    found = json.loads((place / "a.json").read_text())
    assert found["molecules"]["given"] == molecules
    (novelty,) = (m for m in found["metrics"] if m["name"].startswith("novelty"))
    assert f"({molecules} molecules" in novelty["definition"]
    assert ("demo is the data set" in result.err) == (name == "demo")


@pytest.mark.parametrize(
    "command",
    [
        "compare water.sdf water.sdf --reference demo",
        "report water.sdf --reference demo -o a.html",
    ],
)
def test_all_commands_tell_it(molbfn, place, command):
    result = molbfn(*command.split())
    assert result.code == 0, result.err
    assert "demo is the data set" in result.err


def test_the_file_of_a_data_set_is_not_replaced(molbfn, place):
    data = (place / "data" / "demo.npz").read_bytes()
    result = molbfn("evaluate", "water.sdf", "--reference", "demo", "--json", "data/demo.npz")
    assert result.code == 2
    assert "is an input, which it would replace" in result.err
    assert (place / "data" / "demo.npz").read_bytes() == data
