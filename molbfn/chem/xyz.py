"""XYZ records, plain and extended (``key=value`` comments), one after the other in a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

from molbfn.chem.elements import MAX_ATOMIC_NUMBER, SYMBOLS, atomic_number
from molbfn.chem.molecule import Molecule, Property, parse_property
from molbfn.chem.records import RecordError, one_line
from molbfn.errors import UserError

_KEY_VALUE = re.compile(r'([A-Za-z_][\w.\-]*)=(?:"((?:[^"\\]|\\.)*)"|(\S+))')
_COUNT = re.compile(r"\s*\d{1,9}\s*")
_COLUMNS = "Properties=species:S:1:pos:R:3"


def format_record(molecule: Molecule) -> str:
    """Return a molecule as an XYZ record; coordinates in angstrom with 6 decimals.

    The comment is the title, or, where there are properties, in the extended form. Bonds and
    charges have no place in the format.

    Raises:
        ValueError: coordinates that are not finite, which no reader could read back.
    """
    if not np.isfinite(molecule.positions).all():
        raise ValueError("cannot write coordinates that are not finite")
    lines = [str(len(molecule)), _comment(molecule)]
    lines += [
        f"{SYMBOLS[number]:<2} {x:14.6f} {y:14.6f} {z:14.6f}"
        for number, (x, y, z) in zip(
            molecule.atomic_numbers.tolist(), molecule.positions.tolist(), strict=True
        )
    ]
    return "\n".join(lines) + "\n"


def _comment(molecule: Molecule) -> str:
    title = one_line(molecule.title)
    if not molecule.properties and not _KEY_VALUE.search(title):
        return title
    pairs = (
        [("name", title), *molecule.properties.items()] if title else molecule.properties.items()
    )
    words = [_COLUMNS]
    for key, value in pairs:
        text = one_line(repr(float(value)) if isinstance(value, float) else value)
        if not re.fullmatch(r'[^\s"\\=]+', text):
            text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        words.append(f"{re.sub(r'[^A-Za-z0-9_.-]', '_', str(key))}={text}")
    return " ".join(words)


def split_records(lines: Iterable[str]) -> Iterator[tuple[int, list[str], RecordError | None]]:
    """Yield (number of the first line from 1, lines, what is wrong) of each record.

    After something that is not a record, reading goes on at the next line with only a number.
    """
    numbered = enumerate(lines, 1)
    pending: tuple[int, str] | None = None
    while True:
        first, line = pending or next(numbered, (0, ""))
        pending = None
        if first == 0:
            return
        if not line.strip():
            continue
        if not _COUNT.fullmatch(line):
            error = RecordError(f"expected a number of atoms, found '{one_line(line)[:40]}'", 1)
            yield first, [line], error
            pending = _next_count(numbered)
            continue
        count = int(line)
        record = [line.rstrip("\r\n")]
        while len(record) < count + 2 and (item := next(numbered, None)):
            if len(record) > 1 and _COUNT.fullmatch(item[1]):
                pending = item  # an atom is missing: the next record begins here
                break
            record.append(item[1].rstrip("\r\n"))
        complete = len(record) == count + 2
        missing = f"truncated: {max(0, len(record) - 2)} of {count} atoms"
        yield first, record, None if complete else RecordError(missing, len(record))
        if complete and record[1].startswith("gdb "):
            pending = _next_count(numbered)  # QM9's own files end in frequencies, SMILES and InChI


def _next_count(numbered: Iterator[tuple[int, str]]) -> tuple[int, str] | None:
    """Return the next line that is only a whole number; None at the end of the file."""
    return next((item for item in numbered if _COUNT.fullmatch(item[1])), None)


def parse_record(lines: list[str]) -> Molecule:
    """Return the molecule of a record's lines: number of atoms, comment, one line an atom.

    Raises:
        RecordError: unknown element, bad or missing coordinates.
    """
    if len(lines) < 3:
        raise RecordError("no atoms", 1)
    pairs = comment_pairs(lines[1])
    species, start = _columns(pairs.pop("Properties", ""))
    title = lines[1].strip()
    properties: dict[str, Property] = {}
    if pairs or title == _COLUMNS:
        title = pairs.pop("name", "")
        properties = {key: parse_property(value) for key, value in pairs.items()}
    numbers, points = [], []
    for k, line in enumerate(lines[2:], 3):
        words = line.replace("*^", "e").split()
        try:
            point = [float(word) for word in words[start : start + 3]]
        except ValueError:
            raise RecordError(f"not an atom: '{one_line(line)[:40]}'", k) from None
        if len(point) < 3 or species >= len(words):
            raise RecordError(f"not an atom: '{one_line(line)[:40]}'", k)
        if not np.isfinite(point).all():
            raise RecordError("a coordinate is not a finite number", k)
        numbers.append(_number(words[species], k))
        points.append(point)
    return Molecule(
        atomic_numbers=np.array(numbers, dtype=np.int64),
        positions=np.array(points, dtype=np.float32),
        title=title,
        properties=properties,
    )


def comment_pairs(comment: str) -> dict[str, str]:
    """Return the ``key=value`` and ``key="quoted value"`` pairs of an extended comment."""
    found = _KEY_VALUE.finditer(comment)
    return {m[1]: m[3] or re.sub(r"\\(.)", r"\1", m[2] or "") for m in found}


def _columns(description: str) -> tuple[int, int]:
    """Return the columns of the species and of x from an extended ``Properties`` value."""
    found = {"species": 0, "pos": 1}
    words = description.split(":")
    column = 0
    for name, _, width in zip(words[::3], words[1::3], words[2::3], strict=False):
        if name in found:
            found[name] = column
        column += int(width) if width.isdigit() else 1
    return found["species"], found["pos"]


def _number(word: str, line: int) -> int:
    if word.isdigit() and 1 <= int(word) <= MAX_ATOMIC_NUMBER:
        return int(word)
    try:
        return atomic_number(word)
    except UserError as error:
        raise RecordError(str(error), line) from None
