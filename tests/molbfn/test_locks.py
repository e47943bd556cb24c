"""One program at a time, and none kept out where a file system knows no locks."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from molbfn.errors import UserError
from molbfn.locks import hold


def test_one_at_a_time(tmp_path):
    path = tmp_path / ".lock"
    with hold(path, busy="taken"):
        with pytest.raises(UserError, match="taken"), hold(path, busy="taken"):
            pass
        assert path.exists()
    assert not path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_where_there_are_no_locks_nothing_is_held(tmp_path, monkeypatch, name):
    import fcntl

    def refuse(*_):
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    path = tmp_path / ".lock"
    path.touch()  # a killed run left it
    monkeypatch.setattr(fcntl, "flock", refuse)
    with hold(path, busy="taken"), hold(path, busy="taken"):
        pass
    assert not path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_other_errors_are_told(tmp_path, monkeypatch):
    import fcntl

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output error"), hold(tmp_path / ".lock", busy="taken"):
        pass
