"""npz files: mapped where stored, whole or not at all when written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from molbfn.data.npz import check_replaceable, read_npz, replacing, write_npz
from molbfn.errors import UserError

SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
DTYPES = st.sampled_from([np.int8, np.uint8, np.int64, np.float32, np.float64, np.bool_, "<U3"])


@settings(max_examples=40, deadline=None)
@given(st.lists(arrays.arrays(DTYPES, SHAPES), max_size=4), st.booleans())
def test_arrays_round_trip(
    tmp_path_factory: pytest.TempPathFactory, values: list[np.ndarray], compressed: bool
):
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    write_npz(path, {f"a{k}": value for k, value in enumerate(values)}, compressed=compressed)
    read = read_npz(path)
    assert list(read) == [f"a{k}" for k in range(len(values))]
    for value, back in zip(values, read.values(), strict=True):
        assert back.dtype == value.dtype
        np.testing.assert_array_equal(back, value)
        assert isinstance(back, np.memmap) is (not compressed and value.size > 0)


def test_mapped_arrays_cannot_be_written(tmp_path: Path):
    write_npz(tmp_path / "a.npz", {"a": np.arange(3)})
    with pytest.raises(ValueError, match="read-only"):
        read_npz(tmp_path / "a.npz")["a"][0] = 5


def test_the_bytes_depend_on_the_arrays_only(tmp_path: Path):
    for name in ("a.npz", "b.npz"):
        write_npz(tmp_path / name, {"a": np.arange(3)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


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


def test_a_missing_folder_is_a_user_error(tmp_path: Path):
    with pytest.raises(UserError, match="cannot write"):
        write_npz(tmp_path / "none" / "a.npz", {})


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
