"""What reading and writing molecule files have in common."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from molbfn.chem.elements import MAX_ATOMIC_NUMBER, atomic_number
from molbfn.chem.molecule import Molecule
from molbfn.chem.properties import Property
from molbfn.errors import UserError

#: Properties that say which molecule of a generation a record is; the first found counts.
INDEX_KEYS = ("molbfn_index", "index")

#: Property of a molecule that was selected from others when it was made: what it had to be.
REQUIRED = "required"
#: What that can be; another program may use the same name for something else.
REQUIREMENTS = ("valid", "stable")

#: Property of a generated molecule that says why it is none.
PROBLEM = "problem"

#: Atoms of the largest molecule that is read: metrics look at pairs, 270 MB at this size.
MAX_ATOMS = 16_384
#: Estimated bytes of memory of the largest record that is read.
MAX_RECORD_BYTES = 64 << 20
_LINE_BYTES = 64  # of a string and its place in a list, beside its characters
_LONGEST_REASON = 200
_LARGEST = 1e30  # angstrom; squares still fit a float64, and the value itself a float32
_NOT_ELEMENTS = re.compile(r"\*|R#?\d*|R[1-9]\d*|[AQXLMG]|LP|Du|Bq|Pol|AH|QH|XH|MH|Lp|DU|BQ")


@dataclasses.dataclass(frozen=True)
class Problem:
    """A record that cannot be read: where it stands and why."""

    file: str
    record: int | None
    """counts from 1 within the file; None: the file itself, or what is left of it"""
    line: int | None
    """of the file, from 1: where the record begins or goes wrong; None where not known"""
    reason: str

    def __str__(self) -> str:
        """Return one line that names the file, the record and the line."""
        if self.record is None:
            return f"{self.file}: {self.reason}"
        line = "" if self.line is None else f" (line {self.line})"
        return f"{self.file}: record {self.record}{line}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class ReadRecord:
    """One record of a molecule file: a molecule, or the reason why there is none."""

    index: int
    """counts from 0 over everything read, bad records included"""
    molecule: Molecule | None
    problem: Problem | None = None

    @property
    def reason(self) -> str | None:
        """Names the file, the record and the line where it begins or goes wrong."""
        return None if self.problem is None else str(self.problem)


class RecordError(ValueError):
    """A record that cannot be read; ``line`` counts from 1 within the record where known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        short = message if len(message) <= _LONGEST_REASON else message[:_LONGEST_REASON] + "..."
        super().__init__(one_line(short))
        self.line = line


@dataclasses.dataclass(frozen=True)
class RawRecord:
    """The lines of one record, not yet understood."""

    first: int
    """number of the first line in the file, from 1"""
    lines: list[str]
    """without line ends"""
    ended: bool = True
    """SDF: whether ``$$$$`` followed"""
    problem: RecordError | None = None
    """what is wrong already"""


class LineBudget:
    """Keeps the lines of one record as long as they are not too much for memory."""

    def __init__(self, *lines: str) -> None:
        self.lines: list[str] = []
        self.count = 0
        self._left = MAX_RECORD_BYTES
        for line in lines:
            self.add(line)

    def add(self, line: str) -> None:
        """Keep a line, or count it only where the budget is spent."""
        self.count += 1
        self._left -= len(line) + _LINE_BYTES
        if self._left >= 0:
            self.lines.append(line.rstrip("\r\n"))
        elif self.lines:
            self.lines = []

    def problem(self) -> RecordError | None:
        """Return what is wrong with a record that was too much."""
        if self._left >= 0:
            return None
        return RecordError(f"larger than {MAX_RECORD_BYTES >> 20} MiB; not read", 1)


@dataclasses.dataclass(frozen=True)
class ResumePoint:
    """How far an interrupted file has come."""

    records: int
    """complete records"""
    highest_index: int | None
    """largest ``molbfn_index``, else ``index``, property; None where the file has none (.smi)"""
    path: Path | None
    """what holds them: PATH, ``PATH.partial``, or None if neither exists"""


def element(word: str, line: int) -> int:
    """Return the atomic number of a symbol of a file.

    Raises:
        RecordError: not an element; says so of dummy atoms, R groups and query atoms.
    """
    word = word.strip()
    if len(word) > 3:
        raise RecordError(f"unknown element '{word[:40]}'", line)
    try:
        return atomic_number(word)
    except UserError as error:
        if _NOT_ELEMENTS.fullmatch(word):
            raise RecordError(
                f"'{word}' is a dummy atom, R group or query atom, not an element", line
            ) from None
        raise RecordError(str(error), line) from None


def element_or_number(word: str, line: int) -> int:
    """Return the atomic number of a symbol, or of itself.

    Raises:
        RecordError: neither an element nor a number from 1 to 118.
    """
    if re.fullmatch(r"[0-9]{1,3}", word):
        if 1 <= int(word) <= MAX_ATOMIC_NUMBER:
            return int(word)
        raise RecordError(f"no element has atomic number {word} (known: 1 to 118)", line)
    return element(word, line)


def is_selected(properties: Mapping[str, Property]) -> bool:
    """Return whether a molecule was selected from others when it was made."""
    return properties.get(REQUIRED) in REQUIREMENTS


def check_coordinates(values: list[float], line: int) -> None:
    """Raise RecordError where a coordinate is not a number that can be calculated with."""
    if not all(abs(value) < _LARGEST for value in values):  # false for NaN too
        raise RecordError("a coordinate is not a finite number", line)


def real(word: str) -> float:
    """Return the number that a word of a file stands for.

    Python takes more for numbers than files mean: "1_0.74" would be 10.74.

    Raises:
        ValueError: it is no number.
    """
    if "_" in word or not word.isascii():
        raise ValueError(f"not a number: '{word[:40]}'")
    return float(word)


def whole(word: str) -> int:
    """Return the whole number that a word of a file stands for; see `real`.

    Raises:
        ValueError: it is no whole number.
    """
    if "_" in word or not word.isascii():
        raise ValueError(f"not a whole number: '{word[:40]}'")
    return int(word)


def at_one_point(molecule: Molecule) -> str | None:
    """Return what is wrong with several atoms that all have the same coordinates, else None.

    They stand for coordinates that are not known: no metric of them would mean anything, and those
    that look at bonds only would find nothing wrong. The reason names the property "problem", by
    which molbfn says so of its own molecules.
    """
    points = molecule.positions
    if len(points) < 2 or not (points == points[0]).all():
        return None
    known = molecule.properties.get(PROBLEM)
    return f"all {len(points)} atoms are at one point" + (f" ({one_line(known)})" if known else "")


def check_size(atoms: int, line: int) -> None:
    """Raise RecordError for more atoms than are read."""
    if atoms > MAX_ATOMS:
        raise RecordError(f"{atoms} atoms; at most {MAX_ATOMS} are read", line)


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
