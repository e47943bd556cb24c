"""Molecules of an npz file one by one, each with what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from molbfn.chem.molecule import Molecule, kekulise
from molbfn.chem.records import MAX_ATOMS
from molbfn.chem.topology import with_bonds_of_smiles
from molbfn.data.npz import read_npz
from molbfn.errors import UserError

_MOST = 1 << 48  # rows that the counts of a file may add up to: no sum of them overflows


def read_records(path: Path) -> Iterator[Molecule | str]:
    """Yield each molecule of an npz in the layout of `molbfn.data.store`, or why there is none.

    Titles, properties, charges and bonds come along where the file has them; aromatic bonds (4)
    are kekulised. A file of SMILES and no bonds gives the bonds and charges of the SMILES to the
    molecules that these fit, as training has them.

    Raises:
        UserError: not an npz, an array is missing or does not fit the others.
    """
    arrays = read_npz(path)
    for name in ("num_atoms", "atomic_numbers", "positions"):
        if name not in arrays:
            raise UserError(f"{path}: no array '{name}' in this npz file")
    atoms = _offsets(path, arrays, "num_atoms")
    _check(path, arrays, "atomic_numbers", (int(atoms[-1]),), "iu")
    _check(path, arrays, "positions", (int(atoms[-1]), 3), "fiu")
    if "formal_charges" in arrays:
        _check(path, arrays, "formal_charges", (int(atoms[-1]),), "iu")
    count = len(atoms) - 1
    bonds = None
    if "num_bonds" in arrays and "bonds" in arrays:
        bonds = _offsets(path, arrays, "num_bonds")
        if len(bonds) != count + 1:
            raise UserError(f"{path}: array 'num_bonds' does not have one entry per molecule")
        _check(path, arrays, "bonds", (int(bonds[-1]), 3), "iu")
    names = _lines(arrays.get("names"), count)
    records = _lines(arrays.get("records_json"), count)
    smiles = _lines(arrays.get("smiles") if bonds is None else None, count)
    for k in range(count):
        own_bonds = None if bonds is None else arrays["bonds"][bonds[k] : bonds[k + 1]]
        try:
            molecule = _molecule(
                arrays,
                slice(atoms[k], atoms[k + 1]),
                bonds=own_bonds,
                title=names[k],
                record=_record(records[k]),
            )
            bonded = with_bonds_of_smiles(molecule, smiles[k]) if smiles[k] else None
            yield bonded or molecule
        except (ValueError, UserError) as error:
            yield str(error)


def _molecule(
    arrays: dict[str, np.ndarray],
    atoms: slice,
    *,
    bonds: np.ndarray | None,
    title: str,
    record: dict[str, Any],
) -> Molecule:
    numbers = np.asarray(arrays["atomic_numbers"][atoms]).astype(np.int64)
    if len(numbers) > MAX_ATOMS:
        raise ValueError(f"{len(numbers)} atoms; at most {MAX_ATOMS} are read")
    with np.errstate(over="ignore"):  # becomes infinite, which the next line refuses
        positions = np.array(arrays["positions"][atoms], dtype=np.float32)
    if not len(numbers) or not np.isfinite(positions).all():
        raise ValueError("no atoms, or a coordinate is not a finite number")
    known = record.get("known", ["charges", "bonds"])
    charges = None
    if "formal_charges" in arrays and "charges" in known:
        charges = np.asarray(arrays["formal_charges"][atoms]).astype(np.int64)
    if bonds is None or "bonds" not in known:
        return Molecule(numbers, positions, charges, None, title, record.get("properties", {}))
    rows = np.asarray(bonds).astype(np.int64).reshape(-1, 3)
    rows[:, :2].sort(axis=1)
    if len(rows) and (rows[:, 2].max() > 4 or rows[:, 2].min() < 1 or rows.min() < 0):
        raise ValueError("a bond order outside 1 to 4, or an atom below 0")
    if len(rows) and rows[:, :2].max() >= len(numbers):
        raise ValueError("a bond names an atom that the molecule lacks")
    if (rows[:, 0] == rows[:, 1]).any() or len(np.unique(rows[:, :2], axis=0)) < len(rows):
        raise ValueError("a bond of an atom with itself, or two of the same atoms")
    if charges is not None and np.abs(charges).max(initial=0) > 100:
        raise ValueError("a formal charge beyond 100")
    rows = kekulise(numbers, rows, charges)
    return Molecule(numbers, positions, charges, rows, title, record.get("properties", {}))


def _record(text: str) -> dict[str, Any]:
    """Return what ``records_json`` says of one molecule.

    Raises:
        ValueError: it is not of the form that molbfn writes.
    """
    try:
        record = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise ValueError("its entry in 'records_json' is not JSON") from None
    properties = record.get("properties", {}) if isinstance(record, dict) else None
    if not isinstance(properties, dict) or not isinstance(record.get("known", []), list):
        raise ValueError("its entry in 'records_json' is not a record")
    return record


def _offsets(path: Path, arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Return int64 [M + 1] offsets from counts."""
    counts = arrays[name]
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise UserError(f"{path}: array '{name}' is not a list of whole numbers")
    if counts.size and not (int(counts.min()) >= 0 and counts.astype(float).sum() < _MOST):
        raise UserError(f"{path}: array '{name}' holds numbers that cannot be counts")
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _check(
    path: Path, arrays: dict[str, np.ndarray], name: str, shape: tuple[int, ...], kinds: str
) -> None:
    array = arrays[name]
    if array.shape != shape:
        raise UserError(
            f"{path}: array '{name}' has shape {array.shape}, but the counts add up to {shape}"
        )
    if array.dtype.kind not in kinds:
        raise UserError(f"{path}: array '{name}' is {array.dtype}, which are no such numbers")


def _lines(text: np.ndarray | None, count: int) -> list[str]:
    """Return the lines of a text array if there is one for each molecule, else empty ones."""
    lines: list[str] = []
    if text is not None and text.dtype == np.uint8:
        lines = np.asarray(text).tobytes().decode(errors="replace").split("\n")
    return lines if len(lines) == count else [""] * count
