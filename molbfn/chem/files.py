"""Read molecules from files, record by record, and say of each bad record what is wrong.

Reads .sdf, .sd and .mol (V2000, V3000), .xyz (plain or extended), each also with .gz, .npz in the
layout of `molbfn.data.store`, and folders of such files. Writing is in `molbfn.chem.writers`.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from molbfn.chem import sdf, xyz
from molbfn.chem.molecule import Molecule, Property, kekulise
from molbfn.chem.records import ReadRecord, RecordError, ResumePoint
from molbfn.chem.writers import count_complete, open_writer
from molbfn.errors import UserError

__all__ = ["ReadRecord", "ResumePoint", "count_complete", "open_writer", "read_molecules"]

READABLE = (".sdf", ".sdf.gz", ".sd", ".sd.gz", ".mol", ".xyz", ".xyz.gz", ".npz")

_Parsed = tuple[Molecule | None, str | None]


def read_molecules(path: str | os.PathLike[str]) -> Iterator[ReadRecord]:
    """Return an iterator over the records of a file, or of a folder's files in name order.

    A record that cannot be read comes as a `ReadRecord` with a reason; none is left out. Text files
    are read in constant memory.

    Raises:
        UserError: the file is missing, unreadable, of an unknown kind or empty (the last is found
            when the iterator is used). In a folder, such a file is a record with a reason.
    """
    source = Path(path)
    try:
        if source.is_dir():
            files = sorted(item for item in source.iterdir() if _kind(item) and item.is_file())
            if not files:
                raise UserError(f"{source}: no {', '.join(READABLE)} files in this folder")
            return _numbered(_folder(files))
        if not source.exists():
            raise UserError(f"{source}: no such file")
        if not _kind(source):
            raise UserError(f"{source}: cannot read this kind of file (can: {', '.join(READABLE)})")
        with source.open("rb") as stream:
            if not stream.read(1):
                raise UserError(f"{source}: the file is empty")
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror or error}") from None
    return _numbered(_file(source))


def _kind(path: Path) -> str | None:
    """Return "sdf", "xyz" or "npz" by the suffix, or None."""
    name = path.name.lower()
    suffix = next((s for s in READABLE if name.endswith(s)), "")
    return {"": None, ".sd": "sdf", ".mo": "sdf", ".xy": "xyz", ".np": "npz"}[suffix[:3]]


def _numbered(parsed: Iterator[_Parsed]) -> Iterator[ReadRecord]:
    for index, (molecule, reason) in enumerate(parsed):
        yield ReadRecord(index, molecule, reason)


def _folder(files: list[Path]) -> Iterator[_Parsed]:
    for file in files:
        try:
            yield from _file(file)
        except UserError as error:
            yield None, str(error)


def _file(path: Path) -> Iterator[_Parsed]:
    """Yield the records of one file; UserError if there are none at all."""
    kind = _kind(path)
    found = False
    read = _npz if kind == "npz" else _text
    for item in read(path):
        found = True
        yield item
    if not found:
        raise UserError(f"{path}: the file holds no molecules")


def _text(path: Path) -> Iterator[_Parsed]:
    records = _sdf_records if _kind(path) == "sdf" else _xyz_records
    done = 0
    try:
        with path.open("rb") as raw:
            packed = path.name.lower().endswith(".gz")
            stream = gzip.GzipFile(fileobj=raw) if packed else raw
            lines = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline=None)
            for first, molecule, error in records(lines):
                done += 1
                if error is None:
                    yield molecule, None
                else:
                    line = first + (error.line or 1) - 1
                    yield None, f"{path}: record {done} (line {line}): {error}"
    except (EOFError, zlib.error, OSError) as error:
        problem = getattr(error, "strerror", None) or str(error)
        if not done:
            raise UserError(f"{path}: cannot be read: {problem}") from None
        yield None, f"{path}: cannot be read after record {done}: {problem}"


_TextRecord = tuple[int, Molecule | None, RecordError | None]


def _sdf_records(lines: io.TextIOWrapper) -> Iterator[_TextRecord]:
    for first, record, ended in sdf.split_records(lines):
        try:
            yield first, sdf.parse_record(record, ended=ended), None
        except RecordError as error:
            yield first, None, error


def _xyz_records(lines: io.TextIOWrapper) -> Iterator[_TextRecord]:
    for first, record, problem in xyz.split_records(lines):
        try:
            if problem is not None:
                raise problem
            yield first, xyz.parse_record(record), None
        except RecordError as error:
            yield first, None, error


def _npz(path: Path) -> Iterator[_Parsed]:
    """Yield the molecules of an npz; titles, properties, charges and bonds where it has them."""
    from molbfn.data.npz import read_npz

    arrays = read_npz(path)
    missing = [n for n in ("num_atoms", "atomic_numbers", "positions") if n not in arrays]
    if missing:
        raise UserError(f"{path}: no array '{missing[0]}' in this npz file")
    atoms = _offsets(arrays["num_atoms"])
    if len(arrays["atomic_numbers"]) != atoms[-1] or arrays["positions"].shape != (atoms[-1], 3):
        raise UserError(f"{path}: atomic_numbers and positions do not have sum(num_atoms) rows")
    count = len(atoms) - 1
    has_bonds = "num_bonds" in arrays and "bonds" in arrays
    bonds = _offsets(arrays["num_bonds"] if has_bonds else np.zeros(count))
    names, records = _lines(arrays.get("names"), count), _lines(arrays.get("records_json"), count)
    for k in range(count):
        own, own_bonds = slice(atoms[k], atoms[k + 1]), slice(bonds[k], bonds[k + 1])
        record = json.loads(records[k] or "{}")
        known = record.get("known", ["charges", "bonds"])
        charges = arrays["formal_charges"][own] if "formal_charges" in arrays else None
        try:
            yield (
                _molecule(
                    np.asarray(arrays["atomic_numbers"][own]).astype(np.int64),
                    np.array(arrays["positions"][own], dtype=np.float32),
                    charges=charges if "charges" in known else None,
                    bonds=arrays["bonds"][own_bonds] if has_bonds and "bonds" in known else None,
                    title=names[k],
                    properties=record.get("properties", {}),
                ),
                None,
            )
        except (ValueError, UserError) as error:
            yield None, f"{path}: record {k + 1}: {error}"


def _molecule(
    numbers: np.ndarray,
    positions: np.ndarray,
    *,
    charges: np.ndarray | None,
    bonds: np.ndarray | None,
    title: str,
    properties: dict[str, Property],
) -> Molecule:
    """Return a molecule from slices of the arrays; aromatic bonds (4) are kekulised."""
    if not len(numbers) or not np.isfinite(positions).all():
        raise ValueError("no atoms, or a coordinate is not a finite number")
    if charges is not None:
        charges = np.asarray(charges).astype(np.int64)
    if bonds is not None:
        bonds = np.asarray(bonds).astype(np.int64).reshape(-1, 3)
        bonds[:, :2].sort(axis=1)
        bonds = kekulise(numbers, bonds, charges)
    return Molecule(numbers, positions, charges, bonds, title, properties)


def _lines(text: np.ndarray | None, count: int) -> list[str]:
    """Return the lines of a text array if there is one for each molecule, else empty ones."""
    lines = [] if text is None else bytes(np.asarray(text)).decode(errors="replace").split("\n")
    return lines if len(lines) == count else [""] * count


def _offsets(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
