"""Names of data sets and where they lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from molbfn.data import locate
from molbfn.data.locate import available_datasets, resolve_dataset
from molbfn.errors import UserError


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with no data set anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOLBFN_DATA", raising=False)
    monkeypatch.setattr(locate, "_REPOSITORY", tmp_path / "clone" / "repo")
    monkeypatch.setattr(locate, "_PACKAGE", tmp_path / "site" / "molbfn")
    monkeypatch.setattr(locate, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def test_each_place_wins_over_the_later_ones(bare: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MOLBFN_DATA", str(bare / "env"))
    places = ["cache", "site/molbfn/demo", "clone/shared/data", "clone/repo/data", "env", "data"]
    for place in places:  # from the last to the first
        file = touch(bare / place / "qm9" / "qm9.npz")
        assert resolve_dataset("qm9").resolve() == file.resolve()
    assert set(available_datasets()) == {"qm9"}


def test_a_path_is_taken_as_it_is(bare: Path):
    file = touch(bare / "mine.npz")
    assert resolve_dataset(str(file)) == file
    assert resolve_dataset(file) == file


@pytest.mark.parametrize("make", [Path.mkdir, touch])
def test_the_bare_name_of_a_data_set_is_no_path(bare: Path, make):
    make(bare / "qm9")
    with pytest.raises(UserError, match=r"not on this machine.*; \./qm9 would be what has this"):
        resolve_dataset("qm9")
    file = touch(bare / "data" / "qm9" / "qm9.npz")
    assert resolve_dataset("qm9") == file


def test_a_path_is_never_a_name(bare: Path):
    touch(bare / "data" / "qm9" / "qm9.npz")
    file = touch(bare / "qm9")
    assert resolve_dataset("./qm9") == resolve_dataset(Path("qm9")) == Path("qm9")
    assert file.samefile(resolve_dataset("./qm9"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("qm9", "not on this machine.*molbfn data qm9"),
        ("dmeo", "did you mean 'demo'.*here: none"),
        ("zinc250k", "no data set 'zinc250k'; data sets here: none"),
        (
            "mine.npz",
            "no such data file: mine.npz; .molbfn data prepare FILES -o mine.npz. makes one",
        ),
        ("some/where", "no such data file: some/where"),
    ],
)
def test_what_is_not_there_is_named(bare: Path, name: str, message: str):
    with pytest.raises(UserError, match=message):
        resolve_dataset(name)


def test_unknown_names_list_those_that_exist(bare: Path):
    touch(bare / "data" / "demo.npz")
    with pytest.raises(UserError, match="here: demo"):
        resolve_dataset("zinc")


def test_a_folder_is_pointed_at_prepare(bare: Path):
    (bare / "sdfs").mkdir()
    with pytest.raises(UserError, match="molbfn data prepare sdfs"):
        resolve_dataset("sdfs")
