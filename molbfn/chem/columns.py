"""Write npz files in constant memory: one growing file for each array, joined at the end.

The layout is that of `molbfn.data.store`: ``num_atoms`` int32 [M], ``atomic_numbers`` int8 [sum N],
``positions`` float32 [sum N, 3] (angstrom), ``formal_charges`` int8 [sum N], ``num_bonds`` int32
[M], ``bonds`` int32 [sum E, 3] (i, j, order), and UTF-8 text with one line a molecule: ``smiles``
(empty where there is none), ``names`` (titles) and ``records_json`` (properties, and which of
charges and bonds are known).

While it grows, ``PATH.partial`` is a folder with the bytes of each array. It serves `append` after
any kind of end.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zipfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from molbfn.chem.molecule import Molecule
from molbfn.chem.npz_records import read_records
from molbfn.chem.records import (
    ResumePoint,
    highest,
    one_line,
    partial_path,
    record_index,
    system_errors,
)
from molbfn.errors import UserError

# name -> (dtype, numbers in a row, what its rows count)
_COLUMNS: dict[str, tuple[str, int, str]] = {
    "num_atoms": ("<i4", 1, "molecules"),
    "num_bonds": ("<i4", 1, "molecules"),
    "atomic_numbers": ("|i1", 1, "num_atoms"),
    "formal_charges": ("|i1", 1, "num_atoms"),
    "positions": ("<f4", 3, "num_atoms"),
    "bonds": ("<i4", 3, "num_bonds"),
    "smiles": ("|u1", 1, "lines"),
    "names": ("|u1", 1, "lines"),
    "records_json": ("|u1", 1, "lines"),
}
_BLOCK = 1 << 20  # bytes copied at a time
_MOLECULES = 256  # gathered before a write


def count_columns(path: Path) -> ResumePoint:
    """Return how far the folder ``PATH.partial``, else the file PATH, has come."""
    folder = partial_path(path)
    if folder.is_dir():
        with system_errors(folder):
            return _complete(folder)[0]
    if not path.exists():
        return ResumePoint(0, None, None)
    count, index = 0, None
    for molecule in read_records(path):  # those without coordinates among them
        count += 1
        if not isinstance(molecule, str):
            index = highest(index, record_index(molecule.properties))
    return ResumePoint(count, index, path)


class NpzWriter:
    """The writer of `molbfn.chem.writers.open_writer` for .npz."""

    def __init__(self, path: Path, *, append: bool) -> None:
        self._path, self._folder = path, partial_path(path)
        self._pending: list[Molecule] = []
        self._closed = False
        self.placed = False
        self.resumed = ResumePoint(0, None, None)
        self._ends = dict.fromkeys(_COLUMNS, 0)
        going_on = append and self._folder.is_dir()
        if append and not going_on:
            self.resumed = count_columns(path)
        with system_errors(self._folder):
            if going_on:
                self.resumed, self._ends = _complete(self._folder)
            else:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder.mkdir()
            self._files = {name: _open(self._folder / name) for name in _COLUMNS}
        if self.resumed.path == path:
            self._copy_old()

    def _copy_old(self) -> None:
        try:
            for number, molecule in enumerate(read_records(self._path), 1):
                if isinstance(molecule, str):
                    raise UserError(
                        f"{self._path}: record {number}: {molecule}; cannot go on with this file"
                    )
                self.write(molecule)
        except BaseException:
            self._close_columns()
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def write(self, molecule: Molecule) -> None:
        self._pending.append(molecule)
        if len(self._pending) >= _MOLECULES:
            self.flush()

    def flush(self) -> None:
        """Write what is pending after the last complete molecule; all of it or nothing counts."""
        blocks: dict[str, list[bytes]] = {name: [] for name in _COLUMNS}
        for molecule in self._pending:
            for name, data in _columns(molecule).items():
                blocks[name].append(data)
        ends = dict(self._ends)
        with system_errors(self._folder):
            for name, stream in self._files.items():
                view = memoryview(b"".join(blocks[name]))
                stream.seek(ends[name])
                ends[name] += len(view)
                while view:
                    view = view[stream.write(view) :]
        self._ends, self._pending = ends, []

    def close(self) -> None:
        if self._closed:
            return
        try:
            self.flush()
        finally:
            self._close_columns()
        joined = self._folder / "joined.npz"
        try:
            with system_errors(self._path):
                _join(self._folder, joined)
                os.replace(joined, self._path)
                shutil.rmtree(self._folder)
            self.placed = True
        finally:
            joined.unlink(missing_ok=True)

    def _close_columns(self) -> None:
        self._closed = True
        for name, stream in self._files.items():
            with contextlib.suppress(OSError):
                stream.truncate(self._ends[name])
            with contextlib.suppress(OSError):
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        anything = self._ends["num_atoms"] > 0 or bool(self._pending)
        replaces = self.resumed.path != self._path and self._path.exists()
        if kind is None or (issubclass(kind, KeyboardInterrupt) and anything and not replaces):
            self.close()
            return
        with contextlib.suppress(UserError):
            self.flush()
        self._close_columns()
        if self._ends["num_atoms"] == 0:
            shutil.rmtree(self._folder, ignore_errors=True)


def _columns(molecule: Molecule) -> dict[str, bytes]:
    """Return what one molecule adds to each column."""
    charges, bonds = molecule.formal_charges, molecule.bonds
    given = {"charges": charges is not None, "bonds": bonds is not None}
    record = {
        "properties": dict(molecule.properties),
        "known": [name for name, known in given.items() if known],
    }
    arrays = {
        "num_atoms": [len(molecule)],
        "num_bonds": [0 if bonds is None else len(bonds)],
        "atomic_numbers": molecule.atomic_numbers,
        "formal_charges": np.zeros(len(molecule)) if charges is None else charges,
        "positions": molecule.positions,
        "bonds": np.empty((0, 3)) if bonds is None else bonds,
    }
    data = {k: np.asarray(v).astype(_COLUMNS[k][0]).tobytes() for k, v in arrays.items()}
    lines = {
        "smiles": molecule.smiles() or "",
        "names": one_line(molecule.title),
        "records_json": json.dumps(record, default=_plain),
    }
    return data | {name: f"{line}\n".encode() for name, line in lines.items()}


def _plain(value: object) -> object:
    """Return a number of numpy's as Python's, anything else as text."""
    return value.item() if isinstance(value, np.generic) else str(value)


def _open(path: Path) -> BinaryIO:
    path.touch()
    return path.open("r+b", buffering=0)


def _complete(folder: Path) -> tuple[ResumePoint, dict[str, int]]:
    """Return how many molecules every column holds in full, and where each column then ends."""
    for name in _COLUMNS:
        (folder / name).touch()
    # offsets after each molecule, in rows, by what is counted
    after = {
        name: np.cumsum(np.fromfile(folder / name, "<i4"), dtype=np.int64)
        for name in ("num_atoms", "num_bonds")
    }
    after["molecules"] = np.arange(1, len(after["num_atoms"]) + 1)
    ends_of: dict[str, np.ndarray] = {}
    complete = len(after["num_atoms"])
    for name, (dtype, width, counted) in _COLUMNS.items():
        row = np.dtype(dtype).itemsize * width
        ends = _line_ends(folder / name) if counted == "lines" else after[counted] * row
        size = (folder / name).stat().st_size
        complete = min(complete, int(np.searchsorted(ends, size, side="right")))
        ends_of[name] = ends
    index = None
    with (folder / "records_json").open(encoding="utf-8") as stream:
        for _, line in zip(range(complete), stream, strict=False):
            index = highest(index, record_index(json.loads(line)["properties"]))
    ends_in_bytes = {k: int(v[complete - 1]) if complete else 0 for k, v in ends_of.items()}
    return ResumePoint(complete, index, folder), ends_in_bytes


def _line_ends(path: Path) -> np.ndarray:
    """Return the offsets just after each line break."""
    if path.stat().st_size == 0:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(np.memmap(path, np.uint8, mode="r") == ord("\n")) + 1


def _join(folder: Path, target: Path) -> None:
    """Join the columns to an uncompressed npz, whose members can be memory-mapped."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, (dtype, width, counted) in _COLUMNS.items():
            size = (folder / name).stat().st_size
            if counted == "lines" and size:
                size -= 1  # in the npz, lines are joined by line breaks and not ended by them
            rows = size // (np.dtype(dtype).itemsize * width)
            shape = (rows,) if width == 1 else (rows, width)
            header = {"descr": dtype, "fortran_order": False, "shape": shape}
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            with (
                archive.open(entry, "w", force_zip64=True) as out,
                (folder / name).open("rb") as stream,
            ):
                np.lib.format.write_array_header_1_0(out, header)
                while size and (block := stream.read(min(size, _BLOCK))):
                    out.write(block)
                    size -= len(block)
    with target.open("rb") as stream:
        os.fsync(stream.fileno())
