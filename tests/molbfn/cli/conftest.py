"""Run the command line in this process, with the handling of errors that users see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from molbfn.cli import main

WATER = """water
  test              3D

  3  2  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.1173 O   0  0  0  0  0  0  0  0  0  0  0  0
    0.0000    0.7572   -0.4692 H   0  0  0  0  0  0  0  0  0  0  0  0
    0.0000   -0.7572   -0.4692 H   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0
  1  3  1  0
M  END
$$$$
"""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def molbfn(capsys) -> Callable[..., Result]:
    def run(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def refused(molbfn):
    """Run a command that must fail: one line on stderr, code 2; returns the line."""

    def run(*arguments: object) -> str:
        result = molbfn(*arguments)
        assert result.code == 2, result
        assert result.out == ""
        assert result.err.startswith("molbfn: ")
        assert result.err.count("\n") == 1
        return result.err.removeprefix("molbfn: ").rstrip("\n")

    return run


@pytest.fixture
def water(tmp_path) -> Path:
    path = tmp_path / "water.sdf"
    path.write_text(WATER)
    return path


@pytest.fixture
def snapshot():
    """Return a function that maps every file below a folder to its bytes."""

    def take(folder: Path) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return take
