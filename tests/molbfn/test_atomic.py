"""Files that are replaced when the new one is whole, and not before."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from molbfn.atomic import check_replaceable, replacing
from molbfn.errors import UserError


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with replacing(path) as stream:
            stream.write(b"half of the ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.npz"]


def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path):
    with replacing(tmp_path / "a") as stream:
        stream.write(b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes of this kind")
def test_a_pipe_is_written_to_and_stays(tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_replaceable(pipe)
    with replacing(pipe) as stream:
        stream.write(b"said")
    assert os.read(reader, 10) == b"said"
    os.close(reader)
    assert pipe.is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="no such device")
def test_nothing_is_made_beside_a_device(monkeypatch: pytest.MonkeyPatch):
    """Whatever standard output is: here its link leads to a file or a pipe."""
    monkeypatch.setattr(tempfile, "mkstemp", None)
    check_replaceable(Path("/dev/stdout"))
    with replacing(Path("/dev/null")) as stream:
        stream.write(b"gone")


def test_whether_a_file_could_be_replaced_is_known_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "a.npz"
    check_replaceable(path)
    assert os.listdir(tmp_path) == []
    path.write_bytes(b"old")
    check_replaceable(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.npz"]
    with pytest.raises(UserError, match=r"none does not exist; make it first"):
        check_replaceable(tmp_path / "none" / "a.npz")
    with pytest.raises(UserError, match="is a folder; give the name of a file"):
        check_replaceable(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(UserError, match=r"cannot write .*a\.npz: Permission denied"):
        check_replaceable(path)
