"""Nobody may be reading what is said on the way."""

from __future__ import annotations

import errno
import io
import subprocess
import sys

import pytest

from molbfn.console import stderr_console


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO], ids=["pipe", "terminal"])
@pytest.mark.parametrize("call", ["write", "flush"])
def test_a_reader_that_left_is_no_error(monkeypatch, number, call):
    class Gone(io.StringIO):
        pass

    def fail(*_):
        raise OSError(number, "gone")

    setattr(Gone, call, fail)
    monkeypatch.setattr(sys, "stderr", Gone())
    stderr_console().print("one")
    stderr_console().print("two")


def test_a_program_whose_reader_left_ends_well():
    code = """
import sys
from molbfn.console import stderr_console
sys.stdin.read()  # until the reader has left
console = stderr_console()
console.print("one")
console.print("two")
print("three", file=sys.stderr)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stderr.close()
        process.stdin.close()
        assert process.wait(60) == 0
