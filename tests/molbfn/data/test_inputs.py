"""Which files are read, in which order, each once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from molbfn.data.inputs import find_files
from molbfn.errors import UserError


def test_bad_paths_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"no such file: .*none\.sdf"):
        find_files([tmp_path / "none.sdf"])
    with pytest.raises(UserError, match=r"notes\.txt: cannot read this kind"):
        find_files([tmp_path / "notes.txt"])
    with pytest.raises(UserError, match=r"folder .* holds no"):
        find_files([tmp_path / "folder"])
    with pytest.raises(UserError, match="no input"):
        find_files([])


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    """Else copies of one molecule would stand in train and in test."""
    file = tmp_path / "a.sdf"
    file.touch()
    (tmp_path / "link.sdf").symlink_to(file)
    assert find_files([file, tmp_path, file]) == [file]


def test_a_folder_inside_that_cannot_be_read_is_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.xyz").write_text("1\n\nH 0 0 0\n")
    scan = os.scandir

    def scandir(place):
        if Path(place).name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return scan(place)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=r"locked: cannot be read \(Permission denied\); allow it"):
        find_files([tmp_path])


def test_linked_folders_are_followed_once_and_circles_end(tmp_path: Path) -> None:
    names = ("data/a/1.sdf", "data/b/2.sdf", "elsewhere/deep/3.sdf")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    data = tmp_path / "data"
    (data / "a" / "to_b").symlink_to(data / "b")
    (data / "b" / "up").symlink_to(data)
    (data / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(data / "out")
    (data / "nowhere").symlink_to(tmp_path / "none")
    expected = [data / "a" / "1.sdf", data / "b" / "2.sdf", data / "out" / "deep" / "3.sdf"]
    assert find_files([data]) == expected
    assert find_files([data / "out"]) == [data / "out" / "deep" / "3.sdf"]
