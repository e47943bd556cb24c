"""What reading and writing molecule files have in common."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
from collections.abc import Iterator, Mapping
from pathlib import Path

from molbfn.chem.molecule import Molecule, Property
from molbfn.errors import UserError

#: Properties that say which molecule of a generation a record is; the first found counts.
INDEX_KEYS = ("molbfn_index", "index")


@dataclasses.dataclass(frozen=True)
class ReadRecord:
    """One record of a molecule file: a molecule, or the reason why there is none."""

    index: int
    """counts from 0 over everything read, bad records included"""
    molecule: Molecule | None
    reason: str | None
    """names the file, the record (from 1) and the line where it begins or goes wrong"""


class RecordError(ValueError):
    """A record that cannot be read; ``line`` counts from 1 within the record where known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


@dataclasses.dataclass(frozen=True)
class ResumePoint:
    """How far an interrupted file has come."""

    records: int
    """complete records"""
    highest_index: int | None
    """largest ``molbfn_index``, else ``index``, property; None where the file has none (.smi)"""
    path: Path | None
    """what holds them: PATH, ``PATH.partial``, or None if neither exists"""


def one_line(text: object) -> str:
    """Return text with line breaks and other control characters turned into spaces, stripped."""
    return "".join(c if c.isprintable() else " " for c in str(text)).strip()


def record_index(properties: Mapping[str, Property]) -> int | None:
    """Return the property that says which molecule of a generation this is, if there is one."""
    value = next((properties[k] for k in INDEX_KEYS if k in properties), None)
    return value if isinstance(value, int) else None


def highest(first: int | None, second: int | None) -> int | None:
    """Return the larger of two indices, either of which may be missing."""
    return first if second is None else second if first is None else max(first, second)


def partial_path(path: Path) -> Path:
    """Return where ``path`` grows until it is complete (for .npz a folder of columns)."""
    return path.with_name(path.name + ".partial")


@contextlib.contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into a `UserError` that names the file."""
    try:
        yield
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        fix = "free some space or write elsewhere, then go on" if full else "nothing was replaced"
        raise UserError(f"{path}: {reason}; {fix}") from None
