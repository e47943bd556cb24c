"""XYZ records, plain and extended (``key=value`` comments), one after the other in a file."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

import numpy as np

from molbfn.chem.elements import SYMBOLS
from molbfn.chem.molecule import Molecule
from molbfn.chem.properties import parse_property, with_total_charge
from molbfn.chem.records import (
    MAX_ATOMS,
    LineBudget,
    RawRecord,
    RecordError,
    check_coordinates,
    check_size,
    element_or_number,
    one_line,
    real,
)

# keys begin where a word begins, and nothing is tried twice: long comments take linear time
_KEY_VALUE = re.compile(
    r'(?<![\w.\-])([A-Za-z_][\w.\-]*+)=(?:"((?:[^"\\]++|\\.)*+)"|(\S++))', re.DOTALL
)
_NUMBER = re.compile(r"[+-]?(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?")
_OF_SMILES = re.compile(r"[BCFHINOPScnops0-9]++")
_WORD = re.compile(r'(?:[^\s"]|"(?:[^"\\]|\\.)*+"|")++', re.DOTALL)
_COUNT = re.compile(r"\s*[0-9]{1,9}\s*")
_COUNT_IN_WORDS = re.compile(r"\s*([0-9]{1,9})\s+atoms?\b", re.IGNORECASE)
_FORTRAN = re.compile(r"(?<=[0-9.])[dD](?=[+\-0-9])")  # of double-precision exponents
_COLUMNS = "Properties=species:S:1:pos:R:3"


def format_record(molecule: Molecule) -> str:
    """Return a molecule as an XYZ record; coordinates in angstrom with 6 decimals.

    The comment is the title, or, where there are properties, in the extended form. Bonds and
    formal charges have no place in the format; what the charges add up to is "charge" in the
    comment where it is not 0.

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
    properties = dict(molecule.properties)
    if molecule.formal_charges is not None:
        properties = with_total_charge(properties, molecule.charge)
    if not properties and not _KEY_VALUE.search(title):
        return title
    pairs = [("name", title), *properties.items()] if title else properties.items()
    words = [_COLUMNS]
    for key, value in pairs:
        text = one_line(repr(float(value)) if isinstance(value, float) else value)
        if not re.fullmatch(r'[^\s"\\=]+', text):
            text = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        words.append(f"{re.sub(r'[^A-Za-z0-9_.-]', '_', str(key))}={text}")
    return " ".join(words)


def split_records(lines: Iterable[str]) -> Iterator[RawRecord]:
    """Yield the records.

    After something that is not a record, reading goes on at the next line with only a number, or
    after as many lines as "12 atoms" would have.  Blank lines between atoms count for nothing.
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
            words = one_line(line[:200])[:40]
            error = RecordError(f"expected a number of atoms, found '{words}'", 1)
            yield RawRecord(first, [], problem=error)
            meant = _COUNT_IN_WORDS.match(line)
            among = numbered if meant is None else itertools.islice(numbered, int(meant[1]) + 1)
            pending = _next_count(among)
            if pending is None and meant is not None:
                pending = next(numbered, None)
            continue
        count, atoms = int(line), 0
        record = LineBudget(line)
        while (record.count < 2 or atoms < count) and (item := next(numbered, None)):
            if record.count > 1:
                if _COUNT.fullmatch(item[1]):
                    pending = item  # an atom is missing: the next record begins here
                    break
                atoms += bool(item[1].strip())
            record.add(item[1] if count <= MAX_ATOMS else "")
        complete = record.count > 1 and atoms == count
        problem = record.problem()
        if not complete:
            problem = RecordError(f"truncated: {atoms} of {count} atoms", record.count)
        yield RawRecord(first, record.lines, problem=problem)
        if complete and problem is None and record.lines[1].startswith("gdb "):
            pending = _next_count(numbered)  # QM9's own files end in frequencies, SMILES and InChI


def _next_count(numbered: Iterator[tuple[int, str]]) -> tuple[int, str] | None:
    """Return the next line that is only a whole number; None at the end of the file."""
    return next((item for item in numbered if _COUNT.fullmatch(item[1])), None)


def parse_record(lines: list[str]) -> Molecule:
    """Return the molecule of a record's lines: number of atoms, comment, one line an atom.

    Raises:
        RecordError: unknown element, bad or missing coordinates, or columns without them.
    """
    check_size(len(lines) - 2, 1)
    atoms = [(k, line) for k, line in enumerate(lines[2:], 3) if line.strip()]
    if not atoms:
        raise RecordError("no atoms", 1)
    pairs, title = _read_comment(lines[1])
    species, start = _columns(pairs.pop("Properties", ""))
    properties = {key: parse_property(value) for key, value in pairs.items()}
    numbers, points = [], []
    for k, line in atoms:
        words = line.replace("*^", "e").split()
        try:
            point = [real(_FORTRAN.sub("e", word)) for word in words[start : start + 3]]
        except ValueError:
            raise RecordError(f"not an atom: '{one_line(line[:200])[:40]}'", k) from None
        if len(point) < 3 or species >= len(words):
            raise RecordError(f"not an atom: '{one_line(line[:200])[:40]}'", k)
        check_coordinates(point, k)
        numbers.append(element_or_number(words[species], k))
        points.append(point)
    return Molecule(
        atomic_numbers=np.array(numbers, dtype=np.int64),
        positions=np.array(points, dtype=np.float32),
        title=title,
        properties=properties,
    )


def _read_comment(comment: str) -> tuple[dict[str, str], str]:
    """Return the pairs and the title of a comment.

    A comment that gives its columns or its cell, or has several pairs and nothing else, is an
    extended one, and the title is its "name".  Of any other the numbers are pairs ("energy=-3"),
    and the rest is the title: names, and SMILES such as C=O.
    """
    pairs = comment_pairs(comment)
    if not ("Properties" in pairs or "Lattice" in pairs):
        words = _WORD.findall(comment)
        matches = [_KEY_VALUE.fullmatch(word) for word in words]
        if not (len(words) > 1 and all(matches) and not _begins_smiles(matches[0])):
            kept = [match is not None and _unmistakable(match) for match in matches]
            pairs, rest = {}, []
            for word, keep in zip(words, kept, strict=True):
                if keep:
                    pairs |= comment_pairs(word)
                else:
                    rest.append(word)
            title = " ".join(rest) if any(kept) else comment.strip()
            return pairs, pairs.pop("name", title)
    return pairs, pairs.pop("name", "")


def _begins_smiles(pair: re.Match[str]) -> bool:
    """Whether a pair may be a SMILES, such as C=O."""
    return _OF_SMILES.fullmatch(pair[1]) is not None and not _unmistakable(pair)


def _unmistakable(pair: re.Match[str]) -> bool:
    """Whether a pair can hardly be anything else: a name, a quoted text or a number."""
    key, value = pair[1], pair[3]
    return key == "name" or value is None or _NUMBER.fullmatch(value) is not None


def comment_pairs(comment: str) -> dict[str, str]:
    """Return the ``key=value`` and ``key="quoted value"`` pairs of an extended comment."""
    found = _KEY_VALUE.finditer(comment)
    return {m[1]: m[3] or re.sub(r"\\(.)", r"\1", m[2] or "") for m in found}


def _columns(description: str) -> tuple[int, int]:
    """Return the columns of the species and of x from an extended ``Properties`` value.

    Without ``species``, ``Z`` (atomic numbers) takes its place. ``pos`` may be called
    ``positions``, as ASE reads it too; without a value both have the places of plain XYZ.

    Raises:
        RecordError: it gives no columns of that kind, so that others would be taken for them.
    """
    if not description:
        return 0, 1
    found: dict[str, tuple[int, str]] = {}
    words = description.split(":")
    column = 0
    for name, _, width in zip(words[::3], words[1::3], words[2::3], strict=False):
        found.setdefault(name, (column, width))
        column += int(width) if re.fullmatch(r"[0-9]{1,4}", width) else 1
    species = found.get("species", found.get("Z"))
    points = found.get("pos", found.get("positions"))
    if species is None or points is None or points[1] != "3":
        wanted = "species (or Z)" if species is None else "pos of width 3"
        raise RecordError(f"no {wanted} in Properties={one_line(description)[:80]}", 2)
    return species[0], points[0]
