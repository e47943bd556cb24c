"""SDF records: mol blocks V2000 and V3000 with data items (BIOVIA CTfile formats)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from molbfn.chem.elements import SYMBOLS
from molbfn.chem.molecule import Molecule, Property, parse_property
from molbfn.chem.records import (
    LineBudget,
    RawRecord,
    RecordError,
    check_coordinates,
    check_size,
    element,
    one_line,
    real,
    whole,
)
from molbfn.errors import UserError

END = "$$$$"
_MAX_V2000 = 999
_NO_VALENCE_V2000 = 15
_V3000 = "M  V30 "
# an atom or a bond of a V2000 block, where a property line should be
_ATOM_OR_BOND = re.compile(r"\s{0,9}-?\d+\.\d{4}[\s\d.-]{20}|[ \d]{2}\d[ \d]{2}\d[ \d]{2}\d(\s|$)")

# (Z, charge) -> number of bonds at which readers add no hydrogens by themselves; any other atom
# gets an explicit valence, so that a radical stays one
_PLAIN_VALENCE = {
    (1, 0): 1, (5, 0): 3, (6, 0): 4, (7, 0): 3, (8, 0): 2, (9, 0): 1, (17, 0): 1, (35, 0): 1,
    (53, 0): 1, (7, 1): 4, (8, -1): 1, (8, 1): 3,
}  # fmt: skip


def format_record(molecule: Molecule) -> str:
    """Return a molecule as an SDF record, from the title to ``$$$$``.

    Coordinates have 4 decimals. Bonds that are not known are written as none. V2000 up to 999 atoms
    and bonds, else V3000. Line breaks in the title and in properties become spaces.

    Raises:
        ValueError: coordinates that are not finite, which no reader could read back.
    """
    if not np.isfinite(molecule.positions).all():
        raise ValueError("cannot write coordinates that are not finite")
    bonds = np.empty((0, 3), np.int64) if molecule.bonds is None else molecule.bonds
    charges = molecule.formal_charges
    charge_list = [0] * len(molecule) if charges is None else charges.tolist()
    valences = np.zeros(len(molecule), dtype=np.int64)
    np.add.at(valences, bonds[:, 0], bonds[:, 2])
    np.add.at(valences, bonds[:, 1], bonds[:, 2])
    extremes = molecule.positions.min(initial=0.0), molecule.positions.max(initial=0.0)
    small = max(len(molecule), len(bonds)) <= _MAX_V2000
    write = _v2000 if small and extremes[0] > -9999 and extremes[1] < 99999 else _v3000
    lines = [_text(molecule.title), "  molbfn            3D", ""]
    lines += write(molecule, bonds.tolist(), charge_list, valences.tolist())
    lines.append("M  END")
    for key, value in molecule.properties.items():
        name = re.sub(r"[<>]", "_", one_line(key)) or "_"
        lines += [f">  <{name}>", _text(_property_text(value)), ""]
    lines.append(END)
    return "\n".join(lines) + "\n"


def _property_text(value: Property) -> str:
    return repr(float(value)) if isinstance(value, float | np.floating) else str(value)


def _text(value: str) -> str:
    """Return one line that no reader takes for the end of the record or for a data header."""
    line = one_line(value)
    return f"_{line}" if line.startswith((END, ">", "M  END")) else line


def _v2000(
    molecule: Molecule, bonds: list[list[int]], charges: list[int], valences: list[int]
) -> list[str]:
    lines = [f"{len(molecule):3d}{len(bonds):3d}  0  0  0  0  0  0  0  0999 V2000"]
    for number, xyz, charge, valence in zip(
        molecule.atomic_numbers.tolist(),
        molecule.positions.tolist(),
        charges,
        valences,
        strict=True,
    ):
        x, y, z = xyz
        field = 0
        if _PLAIN_VALENCE.get((number, charge)) != valence:
            field = valence if 0 < valence < _NO_VALENCE_V2000 else _NO_VALENCE_V2000
            field = 0 if valence >= _NO_VALENCE_V2000 else field
        lines.append(
            f"{x:10.4f}{y:10.4f}{z:10.4f} {SYMBOLS[number]:<3} 0  0  0  0  0{field:3d}"
            "  0  0  0  0  0  0"
        )
    lines += [f"{i + 1:3d}{j + 1:3d}{order:3d}  0" for i, j, order in bonds]
    charged = [(k + 1, charge) for k, charge in enumerate(charges) if charge]
    for start in range(0, len(charged), 8):
        part = charged[start : start + 8]
        lines.append(f"M  CHG{len(part):3d}" + "".join(f" {k:3d} {q:3d}" for k, q in part))
    return lines


def _v3000(
    molecule: Molecule, bonds: list[list[int]], charges: list[int], valences: list[int]
) -> list[str]:
    head = _V3000
    lines = ["  0  0  0     0  0            999 V3000", head + "BEGIN CTAB"]
    lines += [f"{head}COUNTS {len(molecule)} {len(bonds)} 0 0 0", head + "BEGIN ATOM"]
    numbers, points = molecule.atomic_numbers.tolist(), molecule.positions.tolist()
    for k, (x, y, z) in enumerate(points):
        line = f"{head}{k + 1} {SYMBOLS[numbers[k]]} {x:.4f} {y:.4f} {z:.4f} 0"
        if charges[k]:
            line += f" CHG={charges[k]}"
        if _PLAIN_VALENCE.get((numbers[k], charges[k])) != valences[k]:
            line += f" VAL={valences[k] or -1}"
        lines.append(line)
    lines.append(head + "END ATOM")
    if bonds:
        lines.append(head + "BEGIN BOND")
        lines += [f"{head}{k} {o} {i + 1} {j + 1}" for k, (i, j, o) in enumerate(bonds, 1)]
        lines.append(head + "END BOND")
    lines.append(head + "END CTAB")
    return lines


def split_records(lines: Iterable[str]) -> Iterator[RawRecord]:
    """Yield the records; blank lines after the last ``$$$$`` are not one."""
    record = LineBudget()
    first = 1
    for number, line in enumerate(lines, 1):
        if line.startswith(END):
            yield RawRecord(first, record.lines, problem=record.problem())
            record, first = LineBudget(), number + 1
        else:
            record.add(line)
    problem = record.problem()
    if problem or any(line.strip() for line in record.lines):
        yield RawRecord(first, record.lines, ended=False, problem=problem)


def parse_record(lines: list[str], *, ended: bool = True) -> Molecule:
    """Return the molecule of a record's lines (without ``$$$$``).

    Args:
        lines: from the title on.
        ended: whether ``$$$$`` followed; without it only a mol block, and data items if a blank
            line follows the last, count as complete.

    Raises:
        RecordError: truncated, wrong counts, unknown element, bad coordinates or bonds.
    """
    ends = [k for k, line in enumerate(lines) if line.startswith("M  END")]
    if not ends:
        raise RecordError("truncated: no 'M  END' line", len(lines))
    if len(ends) > 1:
        raise RecordError(f"a second molecule without a '{END}' line before it", ends[0] + 2)
    end = ends[0]
    if not ended and lines[-1].strip() and end < len(lines) - 1:
        raise RecordError(f"truncated: no '{END}' line at the end of the file", len(lines))
    atoms, bonds = _check_counts(lines, end)
    mol = _parse_block(lines[: end + 1])
    if (mol.GetNumAtoms(), mol.GetNumBonds()) != (atoms, bonds):
        raise RecordError("the mol block does not hold the atoms and bonds that it counts", 4)
    if atoms == 0:
        raise RecordError("no atoms", 4)
    points = mol.GetConformer().GetPositions()
    check_coordinates(points.ravel().tolist(), 5)
    if not mol.GetConformer().Is3D():
        raise RecordError("2D coordinates: every z is 0 and the header does not say 3D", 2)
    try:
        molecule = Molecule.from_rdkit(mol)
    except (UserError, ValueError) as error:
        raise RecordError(str(error)) from None
    return Molecule(
        atomic_numbers=molecule.atomic_numbers,
        positions=molecule.positions,
        formal_charges=molecule.formal_charges,
        bonds=molecule.bonds,
        title=lines[0].strip(),
        properties=_parse_properties(lines[end + 1 :]),
    )


def _parse_block(lines: list[str]) -> Any:
    """Return RDKit's molecule of a mol block, as it stands there."""
    from rdkit import Chem, rdBase

    block = "\n".join(lines) + "\n"
    try:
        with rdBase.BlockLogs():
            mol = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
    except Exception as error:  # C++ exceptions come as many kinds, RuntimeError to IndexError
        raise RecordError(f"RDKit cannot parse the mol block: {one_line(error)[:80]}", 1) from None
    if mol is None:
        wrong = None if "V3000" in lines[3] else _wrong_bond(lines)
        raise wrong or RecordError("RDKit cannot parse the mol block (bonds or property lines)", 1)
    return mol


def _wrong_bond(lines: list[str]) -> RecordError | None:
    """Return what is wrong with the first bond of a V2000 block that cannot be one."""
    atoms, bonds = whole(lines[3][:3]), whole(lines[3][3:6])
    seen = set()
    for k in range(4 + atoms, 4 + atoms + bonds):
        line = lines[k]
        try:
            ends = whole(line[:3]), whole(line[3:6])
            whole(line[6:9])
        except ValueError:
            return RecordError(f"not a bond: '{one_line(line[:40])}'", k + 1)
        for end in ends:
            if not 1 <= end <= atoms:
                return RecordError(f"a bond of atom {end}, but there are {atoms} atoms", k + 1)
        if ends[0] == ends[1]:
            return RecordError(f"a bond of atom {ends[0]} with itself", k + 1)
        if frozenset(ends) in seen:
            return RecordError(f"the bond of atoms {ends[0]} and {ends[1]} again", k + 1)
        seen.add(frozenset(ends))
    return None


def _check_counts(lines: list[str], end: int) -> tuple[int, int]:
    """Return the numbers of atoms and bonds, after checking the lines that RDKit would not name."""
    if end < 4:
        raise RecordError("truncated: no counts line", end + 1)
    counts = lines[3]
    if "V3000" in counts:
        return _check_v3000(lines, end)
    try:
        atoms, bonds = whole(counts[:3]), whole(counts[3:6])
    except ValueError:
        raise RecordError(f"the counts line is wrong: '{one_line(counts[:40])}'", 4) from None
    check_size(atoms, 4)
    if atoms < 0 or bonds < 0 or 4 + atoms + bonds > end:
        raise RecordError(
            f"the counts line promises {atoms} atoms and {bonds} bonds, "
            f"but only {end - 4} lines follow",
            4,
        )
    for k in range(4, 4 + atoms):
        line = lines[k]
        _check_atom(line[31:34], (line[:10], line[10:20], line[20:30]), k + 1)
    following = lines[4 + atoms + bonds]
    if _ATOM_OR_BOND.match(following):  # also where more than 999 atoms overflow the counts
        raise RecordError(
            f"more atoms or bonds than the {atoms} and {bonds} of the counts line "
            "(more than 999 need V3000)",
            5 + atoms + bonds,
        )
    return atoms, bonds


def _check_v3000(lines: list[str], end: int) -> tuple[int, int]:
    counts: tuple[int, int] | None = None
    in_atoms = False
    for k, text in _v3000_lines(lines, end):
        words = text.split()
        if words[:1] == ["COUNTS"] and counts is None:
            try:
                counts = whole(words[1]), whole(words[2])
            except (IndexError, ValueError):
                raise RecordError(f"the counts line is wrong: '{lines[k][:40]}'", k + 1) from None
            check_size(counts[0], k + 1)
            if min(counts) < 0 or sum(counts) > end:
                raise RecordError(
                    f"the counts line promises {counts[0]} atoms and {counts[1]} bonds, "
                    f"but only {end - k - 1} lines follow",
                    k + 1,
                )
        elif words[:2] in (["BEGIN", "ATOM"], ["END", "ATOM"]):
            in_atoms = words[0] == "BEGIN"
        elif in_atoms:
            if len(words) < 5:
                raise RecordError(f"the atom line is cut short: '{lines[k][:40]}'", k + 1)
            _check_atom(words[1], (words[2], words[3], words[4]), k + 1)
    if counts is None:
        raise RecordError("no COUNTS line", 5)
    return counts


def _v3000_lines(lines: list[str], end: int) -> Iterator[tuple[int, str]]:
    """Yield the place of each line of a V3000 block, and its text.

    A line that ends in "-" goes on in the next one, in the middle of a word even.
    """
    first, text = 4, ""
    for k in range(4, end):
        text += lines[k].removeprefix(_V3000)
        if lines[k].endswith("-") and k + 1 < end:
            text = text[:-1]
            continue
        yield first, text
        first, text = k + 1, ""


def _check_atom(symbol: str, coordinates: tuple[str, str, str], line: int) -> None:
    try:
        values = [real(text) for text in coordinates]
    except ValueError:
        text = " ".join(word[:20] for word in coordinates)
        raise RecordError(f"coordinates {text!r} are not numbers", line) from None
    check_coordinates(values, line)
    element(symbol, line)


def _parse_properties(lines: list[str]) -> dict[str, Property]:
    """Return the data items: a ``> <name>`` line, then the value up to a blank line."""
    properties: dict[str, Property] = {}
    name: str | None = None
    value: list[str] = []
    for line in [*lines, ""]:
        # from the first < to the last >; a regular expression would take quadratic time
        start, stop = (line.find("<"), line.rfind(">")) if line.startswith(">") else (-1, -1)
        if name is None and 0 < start < stop - 1:
            name, value = line[start + 1 : stop], []
        elif name is not None and line.strip():
            value.append(line)
        elif name is not None:
            properties[name] = parse_property("\n".join(value))
            name = None
    return properties
