"""The text formats that molecules are written in, one record after the other.

Each format also recognises complete records, so that an interrupted file can be continued.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from molbfn.chem import sdf, xyz
from molbfn.chem.elements import symbol
from molbfn.chem.molecule import Molecule
from molbfn.chem.properties import parse_property
from molbfn.chem.records import INDEX_KEYS, one_line, record_index
from molbfn.errors import UserError


class TextFormat(Protocol):
    """How one kind of text file holds records."""

    def header(self, molecule: Molecule) -> str:
        """Return what comes before the first record, which is going to be ``molecule``."""

    def record(self, molecule: Molecule) -> str:
        """Return one record, ending in a line break."""

    def scan(self, lines: Iterator[bytes]) -> Iterator[tuple[bool, int | None]]:
        """Read complete lines; yield at each place where the file may be cut.

        The pair says whether a record ends here (else a header does), and the record's index.

        Raises:
            UserError: these lines are not of this format.
        """


class Sdf:
    """SDF (`molbfn.chem.sdf`)."""

    def header(self, molecule: Molecule) -> str:
        return ""

    def record(self, molecule: Molecule) -> str:
        return sdf.format_record(molecule)

    def scan(self, lines: Iterator[bytes]) -> Iterator[tuple[bool, int | None]]:
        tags = {f"<{key}>".encode(): key for key in INDEX_KEYS}
        found: dict[str, Any] = {}
        key = None
        for line in lines:
            if key is not None:
                found[key] = _number(line)
            key = None
            if line.startswith(b">"):
                key = next((tags[tag] for tag in tags if tag in line), None)
            elif line.startswith(b"$$$$"):
                yield True, record_index(found)
                found = {}


class Xyz:
    """XYZ (`molbfn.chem.xyz`)."""

    def header(self, molecule: Molecule) -> str:
        return ""

    def record(self, molecule: Molecule) -> str:
        return xyz.format_record(molecule)

    def scan(self, lines: Iterator[bytes]) -> Iterator[tuple[bool, int | None]]:
        for line in lines:
            if not line.strip():
                continue
            atoms = _number(line)
            if not isinstance(atoms, int):
                raise UserError("a line that should be a number of atoms is not")
            record = [following for _, following in zip(range(atoms + 1), lines, strict=False)]
            if len(record) == atoms + 1:
                pairs = xyz.comment_pairs(record[0].decode(errors="replace"))
                yield True, record_index({k: parse_property(v) for k, v in pairs.items()})


class Smi:
    """SMILES, a tab, the title.

    The SMILES has the stereochemistry of the coordinates. A molecule that RDKit cannot sanitise
    comes with all its hydrogens and unchecked.
    """

    def header(self, molecule: Molecule) -> str:
        return ""

    def record(self, molecule: Molecule) -> str:
        smiles = molecule.smiles(stereo=True) or _unchecked_smiles(molecule)
        return f"{smiles}\t{one_line(molecule.title)}\n"

    def scan(self, lines: Iterator[bytes]) -> Iterator[tuple[bool, int | None]]:
        for _ in lines:
            yield True, None


class Csv:
    """Columns: smiles, title, formula, num_atoms, charge, and the first molecule's properties.

    ``smiles`` is empty where RDKit cannot sanitise. Properties that have no column go as JSON into
    the last, ``other_properties``.
    """

    _fixed = ("smiles", "title", "formula", "num_atoms", "charge")
    _rest = "other_properties"

    def __init__(self) -> None:
        self._own: list[str] = []

    def header(self, molecule: Molecule) -> str:
        taken = (*self._fixed, self._rest)
        self._own = [
            key for key in molecule.properties if key not in taken and key == one_line(key)
        ]
        return _csv_line([*self._fixed, *self._own, self._rest])

    def record(self, molecule: Molecule) -> str:
        rest = {key: v for key, v in molecule.properties.items() if key not in self._own}
        fixed = [molecule.smiles(stereo=True) or "", molecule.title, formula(molecule)]
        values = [molecule.properties.get(key, "") for key in self._own]
        last = json.dumps(rest, default=str) if rest else ""
        return _csv_line([*fixed, len(molecule), molecule.charge, *values, last])

    def scan(self, lines: Iterator[bytes]) -> Iterator[tuple[bool, int | None]]:
        columns: list[str] = []
        for line in lines:
            cells = next(csv.reader([line.decode(errors="replace")]), [])
            if columns:
                row = dict(zip(columns, cells, strict=False))
                yield True, record_index({k: parse_property(v) for k, v in row.items() if v})
                continue
            columns = cells
            if tuple(columns[:5]) != self._fixed or columns[-1] != self._rest:
                raise UserError("the columns are not those that molbfn writes")
            self._own = columns[5:-1]
            yield False, None


FORMATS: dict[str, Callable[[], TextFormat]] = {
    ".sdf": Sdf,
    ".xyz": Xyz,
    ".smi": Smi,
    ".csv": Csv,
}


def formula(molecule: Molecule) -> str:
    """Return the formula in Hill order: C, H, then by symbol; without C all by symbol."""
    numbers = molecule.atomic_numbers.tolist()
    counts = {symbol(z): numbers.count(z) for z in set(numbers)}
    first = ("C", "H") if "C" in counts else ()
    ordered = sorted(counts, key=lambda s: (first.index(s) if s in first else 2, s))
    return "".join(s + (str(counts[s]) if counts[s] > 1 else "") for s in ordered)


def _number(line: bytes) -> Any:
    return parse_property(line.decode(errors="replace").strip())


def _csv_line(cells: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([one_line(cell) for cell in cells])
    return text.getvalue()


def _unchecked_smiles(molecule: Molecule) -> str:
    from rdkit import Chem

    return Chem.MolToSmiles(molecule.to_rdkit())
