"""The molecules to evaluate: files of any kind, folders, data sets, stores, or objects."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from molbfn.chem.files import Problem, read_molecules
from molbfn.chem.molecule import Molecule
from molbfn.chem.records import at_one_point
from molbfn.data.locate import is_dataset_name, resolve_dataset
from molbfn.data.store import MoleculeStore

PathLike = str | os.PathLike[str]
Evaluable = PathLike | MoleculeStore | Iterable[Molecule | None] | Sequence[PathLike]

Entry = tuple[Molecule | None, str]
"""A molecule and where it stands, or None and what is wrong there."""


@dataclass(frozen=True)
class Source:
    """Molecules one after the other, and where they come from."""

    names: tuple[str, ...]
    total: int | None
    entries: Iterator[Entry]
    files: tuple[Path, ...] = ()

    @classmethod
    def of(
        cls, molecules: Evaluable, on_problem: Callable[[Problem], None] | None = None
    ) -> Source:
        """Return the source of anything that can be evaluated; opens all files at once.

        ``on_problem`` is called with each record of a file that cannot be read.

        Raises:
            UserError: a file is missing, of an unknown kind or empty.
            TypeError: paths and molecules in one list.
        """
        if isinstance(molecules, str | os.PathLike):
            molecules = [molecules]
        if isinstance(molecules, MoleculeStore):
            store = molecules
            entries = (_entry(store.molecule(k), k) for k in range(len(store)))
            return cls((store.name,), len(store), entries)
        if isinstance(molecules, Sequence) and molecules and _is_path(molecules[0]):
            if not all(_is_path(item) for item in molecules):
                raise TypeError("paths and molecules cannot be mixed")
            return cls._of_files([file_of(item) for item in molecules], on_problem)
        total = len(molecules) if isinstance(molecules, Sequence) else None
        entries = (_entry(m, k) for k, m in enumerate(molecules))
        return cls(("molecules in memory",), total, entries)

    @classmethod
    def _of_files(cls, files: list[Path], on_problem: Callable[[Problem], None] | None) -> Source:
        # opening them all first finds a wrong name before hours of work, not after
        readers = [read_molecules(file, on_problem=on_problem) for file in files]
        entries = (
            (record.molecule, record.reason or f"{file}: record {record.index + 1}")
            for file, reader in zip(files, readers, strict=True)
            for record in reader
        )
        return cls(tuple(str(file) for file in files), None, entries, tuple(files))

    def chunks(self, size: int) -> Iterator[list[Entry]]:
        """Yield the molecules in lists of at most this size."""
        while chunk := list(islice(self.entries, size)):
            yield chunk


def _entry(molecule: Molecule | None, index: int) -> Entry:
    """Return a molecule that comes from no file; what a reader would refuse is none here either."""
    where = f"molecule {index + 1}"
    if molecule is None:
        return None, f"{where} is None"
    reason = at_one_point(molecule)
    return (molecule, where) if reason is None else (None, f"{where}: {reason}")


def _is_path(item: object) -> bool:
    return isinstance(item, str | os.PathLike)


def file_of(path: PathLike) -> Path:
    """Return the file of a data set's name, and any other path as it is."""
    plain = Path(path)
    missing = not plain.exists() and not plain.suffix and len(plain.parts) == 1
    return resolve_dataset(path) if missing or is_dataset_name(path) else plain
