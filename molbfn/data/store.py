"""A data set of molecules as flat arrays with offsets, memory-mapped where the file allows it.

File layout (npz). M molecules, sum N atoms, sum E bonds; the arrays in brackets are optional:

=====================  =============  ===================================================
``num_atoms``          int [M]        atoms of each molecule
``atomic_numbers``     int [sum N]    1..118
``positions``          float [sum N,3]  angstrom
[``smiles``]           uint8          the molecules' SMILES, joined by newlines
[``names``]            uint8          the molecules' titles, joined by newlines
[``split``]            int8 [M]       0 train, 1 valid, 2 test (``edm_split`` is read too)
[``formal_charges``]   int [sum N]    elementary charges
[``num_bonds``]        int [M]        bonds of each molecule
[``bonds``]            int [sum E,3]  atom i, atom j (within the molecule), order 1 2 3, 4 aromatic
[``properties``]       float [M,P]    NaN where absent; with ``property_names``,
                                      ``property_units`` (str [P])
[``smiles_consistent``]  bool [M]     False where SMILES and geometry disagree
=====================  =============  ===================================================

Other arrays whose first dimension is M are carried along as extras (``qm9_index``, ...).
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from molbfn.data.checks import CheckedArrays
from molbfn.data.locate import resolve_dataset
from molbfn.data.npz import read_npz, write_npz
from molbfn.errors import UserError, nearest

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

SPLITS = ("train", "valid", "test")
LARGEST_CHARGE = 8
"""Formal charges beyond are refused: they are damaged files."""
_LAST_ELEMENT = 118
_AROMATIC = 4
_CHUNK = 1 << 22  # rows checked at a time, so that a mapped file need not fit into memory


@dataclass(frozen=True, eq=False)
class MoleculeStore:
    """Molecules one after the other: molecule i owns the atoms ``offsets[i]:offsets[i + 1]``.

    Attributes:
        atomic_numbers: int8 [sum N].
        positions: float32 [sum N, 3], angstrom.
        offsets: int64 [M + 1], from 0 to sum N.
        smiles: one per molecule, or None.
        titles: one per molecule, or None.
        split: int8 [M], an index into `SPLITS`, or None.
        formal_charges: int8 [sum N], or None.
        bonds: int32 [sum E, 3], atoms counted from 0 in each molecule, order 1 to 4, or None.
        bond_offsets: int64 [M + 1], present with ``bonds``.
        consistent: bool [M], False where SMILES and geometry disagree, or None.
        properties: float32 [M, P], NaN where absent, or None.
        property_names, property_units: P strings.
        extras: further arrays whose first dimension is M.
        name: what to call the data set; ``source``: the file it came from.
    """

    atomic_numbers: np.ndarray
    positions: np.ndarray
    offsets: np.ndarray
    smiles: list[str] | None = None
    titles: list[str] | None = None
    split: np.ndarray | None = None
    formal_charges: np.ndarray | None = None
    bonds: np.ndarray | None = None
    bond_offsets: np.ndarray | None = None
    consistent: np.ndarray | None = None
    properties: np.ndarray | None = None
    property_names: tuple[str, ...] = ()
    property_units: tuple[str, ...] = ()
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    name: str = "molecules"
    source: Path | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> MoleculeStore:
        """Open and check an npz file (or a named data set, see `resolve_dataset`).

        Raises:
            UserError: the file is missing or not in the layout; names the file and the array.
        """
        resolved = resolve_dataset(path)
        return _Reader(resolved, read_npz(resolved)).store()

    def save(self, path: str | os.PathLike[str], *, compressed: bool = False) -> None:
        """Write the npz atomically; uncompressed unless asked, so that `open` can map it.

        Raises:
            UserError: the folder is missing, not writable, or the disk is full.
        """
        write_npz(Path(path), self._arrays(), compressed=compressed)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def sizes(self) -> np.ndarray:
        """Atoms of each molecule, int64 [M]."""
        return np.diff(self.offsets)

    def size_histogram(self) -> dict[int, int]:
        """Return number of atoms -> number of molecules, ascending."""
        return _counts(self.sizes)

    def element_counts(self) -> dict[int, int]:
        """Return atomic number -> number of atoms, ascending."""
        return _counts(self.atomic_numbers)

    def made_of(self, atomic_numbers: Collection[int]) -> np.ndarray:
        """Return bool [M]: which molecules have no other elements than these."""
        known = np.zeros(_LAST_ELEMENT + 1, dtype=bool)
        known[list(atomic_numbers)] = True
        others = np.concatenate([np.zeros(1, np.int64), np.cumsum(~known[self.atomic_numbers])])
        return others[self.offsets[1:]] == others[self.offsets[:-1]]

    def molecule(self, index: int) -> Molecule:
        """Return molecule ``index`` (negative counts from the end).

        Aromatic bonds are kekulised; where that fails the molecule comes without bonds.
        """
        from molbfn.chem.molecule import Molecule

        index = range(len(self))[index]
        atoms = slice(self.offsets[index], self.offsets[index + 1])
        numbers = np.array(self.atomic_numbers[atoms], dtype=np.int64)
        charges, bonds = None, None
        if self.formal_charges is not None:
            charges = np.array(self.formal_charges[atoms], dtype=np.int64)
        if self.bonds is not None and self.bond_offsets is not None:
            rows = slice(self.bond_offsets[index], self.bond_offsets[index + 1])
            bonds = _kekule_bonds(numbers, np.array(self.bonds[rows], dtype=np.int64), charges)
        return Molecule(
            atomic_numbers=numbers,
            positions=np.array(self.positions[atoms], dtype=np.float32),
            formal_charges=charges,
            bonds=bonds,
            title=self.titles[index] if self.titles is not None else f"{self.name}-{index}",
            properties=self._properties_of(index),
        )

    def subset(self, which: str | np.ndarray) -> MoleculeStore:
        """Return a new store of a split ("train", "valid", "test", "all") or of chosen molecules.

        Args:
            which: a split's name, an integer array of molecule indices (any order, repeats
                allowed), or a bool array [M].

        Raises:
            UserError: an unknown split, a store without splits, or an empty split.
            IndexError: an index out of range, or a mask of another length.
        """
        if isinstance(which, str):
            if which == "all":
                return self
            index = self._split_indices(which)
        else:
            index = _molecule_indices(np.asarray(which), len(self))
        atoms, offsets = _gather(self.offsets, index)
        bonds, bond_offsets = None, None
        if self.bonds is not None and self.bond_offsets is not None:
            rows, bond_offsets = _gather(self.bond_offsets, index)
            bonds = self.bonds[rows]
        return MoleculeStore(
            atomic_numbers=np.asarray(self.atomic_numbers[atoms]),
            positions=np.asarray(self.positions[atoms]),
            offsets=offsets,
            smiles=_pick(self.smiles, index),
            titles=_pick(self.titles, index),
            split=_take(self.split, index),
            formal_charges=_take(self.formal_charges, atoms),
            bonds=bonds,
            bond_offsets=bond_offsets,
            consistent=_take(self.consistent, index),
            properties=_take(self.properties, index),
            property_names=self.property_names,
            property_units=self.property_units,
            extras={key: np.asarray(value[index]) for key, value in self.extras.items()},
            name=f"{self.name}-{which}" if isinstance(which, str) else self.name,
            source=self.source,
        )

    def _split_indices(self, which: str) -> np.ndarray:
        where = self.source or self.name
        if which not in SPLITS:
            hint = nearest(which, (*SPLITS, "all"))
            raise UserError(f"no split '{which}':{hint} the splits are train, valid, test, all")
        if self.split is None:
            raise UserError(f"{where}: has no array 'split'; use 'all' or 'molbfn data prepare'")
        index = np.flatnonzero(self.split == SPLITS.index(which))
        if not len(index):
            raise UserError(f"{where}: no molecule is in the split '{which}'")
        return index

    def _properties_of(self, index: int) -> dict[str, str | int | float]:
        found: dict[str, str | int | float] = {}
        if self.smiles is not None:
            found["smiles"] = self.smiles[index]
        if self.properties is not None:
            row = np.asarray(self.properties[index], dtype=np.float64)
            known = zip(self.property_names, row.tolist(), strict=True)
            found.update({key: value for key, value in known if np.isfinite(value)})
        return found

    def _arrays(self) -> dict[str, np.ndarray]:
        """The file layout, see the module's docstring."""
        arrays: dict[str, np.ndarray | None] = {
            "num_atoms": self.sizes.astype(np.int32),
            "atomic_numbers": self.atomic_numbers,
            "positions": self.positions,
            "smiles": _join_lines(self.smiles),
            "names": _join_lines(self.titles),
            "split": self.split,
            "formal_charges": self.formal_charges,
            "smiles_consistent": self.consistent,
            "properties": self.properties,
        }
        if self.bonds is not None and self.bond_offsets is not None:
            arrays["bonds"] = self.bonds
            arrays["num_bonds"] = np.diff(self.bond_offsets).astype(np.int32)
        if self.properties is not None:
            arrays["property_names"] = np.array(self.property_names, dtype=np.str_)
            arrays["property_units"] = np.array(self.property_units, dtype=np.str_)
        arrays.update(self.extras)
        return {key: np.asarray(value) for key, value in arrays.items() if value is not None}


class _Reader(CheckedArrays):
    """Turns the checked arrays of one file into a store, so that later code can trust it."""

    def store(self) -> MoleculeStore:
        """Return the checked store."""
        offsets = self.offsets("num_atoms", smallest=1)
        count, atoms = len(offsets) - 1, int(offsets[-1])
        if count == 0:
            raise UserError(f"{self.path}: array 'num_atoms' is empty, there are no molecules")
        numbers = self.whole("atomic_numbers", (atoms,), 1, _LAST_ELEMENT, dtype=np.int8)
        positions = self.real("positions", (atoms, 3), np.float32)
        for start in range(0, atoms, _CHUNK):
            if not np.isfinite(positions[start : start + _CHUNK]).all():
                raise UserError(f"{self.path}: array 'positions' holds a value that is not finite")
        split_key = "split" if "split" in self.arrays else "edm_split"
        split = self.whole(split_key, (count,), 0, 2, dtype=np.int8, optional=True)
        charges = self.whole(
            "formal_charges",
            (atoms,),
            -LARGEST_CHARGE,
            LARGEST_CHARGE,
            dtype=np.int8,
            optional=True,
        )
        bonds, bond_offsets = self.bonds(np.diff(offsets))
        if bonds is None and "bonds" in self.arrays and charges is not None and not charges.any():
            charges = None  # not known either
        properties, names, units = self.properties(count)
        consistent = self.whole("smiles_consistent", (count,), 0, 1, dtype=bool, optional=True)
        smiles, titles = self.lines("smiles", count), self.lines("names", count)
        extras = {
            key: self.arrays[key]
            for key in sorted(self.unread)
            if self.arrays[key].ndim and len(self.arrays[key]) == count
        }
        return MoleculeStore(
            atomic_numbers=numbers,
            positions=positions,
            offsets=offsets,
            smiles=smiles,
            titles=titles,
            split=split,
            formal_charges=charges,
            bonds=bonds,
            bond_offsets=bond_offsets,
            consistent=consistent,
            properties=properties,
            property_names=names,
            property_units=units,
            extras=extras,
            name=self.path.stem,
            source=self.path,
        )

    def bonds(self, sizes: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return (bonds, bond_offsets), or (None, None) for a file without bonds.

        Several atoms and not one bond in all of it: they were not known when it was written.
        """
        if "bonds" not in self.arrays:
            return None, None
        offsets = self.offsets("num_bonds", smallest=0)
        if len(offsets) != len(sizes) + 1:
            raise UserError(f"{self.path}: array 'num_bonds' does not have one entry per molecule")
        if not offsets[-1] and sizes.max() > 1:
            return None, None
        bonds = self.whole(
            "bonds", (int(offsets[-1]), 3), 0, np.iinfo(np.int32).max, dtype=np.int32
        )
        if len(bonds) and not 1 <= bonds[:, 2].min() <= bonds[:, 2].max() <= _AROMATIC:
            raise UserError(f"{self.path}: array 'bonds' holds an order outside 1 to {_AROMATIC}")
        if (bonds[:, :2].max(axis=1, initial=0) >= np.repeat(sizes, np.diff(offsets))).any():
            raise UserError(f"{self.path}: array 'bonds' names an atom that its molecule lacks")
        if (bonds[:, 0] == bonds[:, 1]).any():
            raise UserError(f"{self.path}: array 'bonds' binds an atom to itself")
        # numbering atoms over the whole file makes a pair of atoms one integer
        first = np.repeat(np.cumsum(sizes) - sizes, np.diff(offsets))
        ends = np.sort(bonds[:, :2], axis=1) + first[:, None]
        if len(np.unique(ends[:, 0] * int(sizes.sum()) + ends[:, 1])) < len(bonds):
            raise UserError(f"{self.path}: array 'bonds' binds the same two atoms twice")
        return bonds, offsets

    def properties(self, count: int) -> tuple[np.ndarray | None, tuple[str, ...], tuple[str, ...]]:
        """Return (values, names, units) of the molecules' properties."""
        if "properties" not in self.arrays:
            return None, (), ()
        values = self.real("properties", (count, -1), np.float32)
        names = self.get("property_names", (values.shape[1],))
        units = names
        if "property_units" in self.arrays:
            units = self.get("property_units", (values.shape[1],))
        has_units = units is not names
        return values, tuple(names.tolist()), tuple(units.tolist()) if has_units else ()


def _counts(values: np.ndarray) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _kekule_bonds(
    numbers: np.ndarray, bonds: np.ndarray, charges: np.ndarray | None
) -> np.ndarray | None:
    """Bonds with i < j and orders 1 to 3, or None where no Kekule structure is found."""
    from molbfn.chem.molecule import kekulise

    bonds[:, :2].sort(axis=1)
    try:
        return kekulise(numbers, bonds, charges)
    except UserError:
        return None


def _molecule_indices(which: np.ndarray, count: int) -> np.ndarray:
    if which.dtype == bool:
        if which.shape != (count,):
            raise IndexError(f"a mask of shape {which.shape} does not fit {count} molecules")
        return np.flatnonzero(which)
    index = which.astype(np.int64, casting="safe") if which.size else np.zeros(0, np.int64)
    if index.size and not -count <= index.min() <= index.max() < count:
        raise IndexError(f"molecule index outside 0 to {count - 1}")
    return index % count if count else index


def _gather(offsets: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows that the chosen molecules own, int64 [sum n], and their new offsets [m + 1]."""
    starts, counts = offsets[index], offsets[index + 1] - offsets[index]
    new = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    rows = np.repeat(starts - new[:-1], counts) + np.arange(new[-1])
    return rows, new


def _pick(lines: list[str] | None, index: np.ndarray) -> list[str] | None:
    return None if lines is None else [lines[i] for i in index.tolist()]


def _take(array: np.ndarray | None, index: np.ndarray) -> np.ndarray | None:
    return None if array is None else np.asarray(array[index])


def _join_lines(lines: list[str] | None) -> np.ndarray | None:
    if lines is None:
        return None
    return np.frombuffer("\n".join(lines).encode(), dtype=np.uint8)
