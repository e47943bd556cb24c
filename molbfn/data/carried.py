"""What npz files say of their molecules beside atoms and bonds, for a data set made of them."""

from __future__ import annotations

import dataclasses
from array import array
from typing import TYPE_CHECKING

import numpy as np

from molbfn.data.npz import array_names

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule
    from molbfn.data.store import MoleculeStore

#: Arrays of the layout, which are made anew; the last only molbfn's own writer of molecules has.
_LAYOUT = frozenset(
    (
        *("num_atoms", "atomic_numbers", "positions", "smiles", "names", "split", "edm_split"),
        *("formal_charges", "num_bonds", "bonds", "properties", "property_names"),
        *("property_units", "smiles_consistent", "records_json"),
    )
)
_MOST_NAMES = 10_000  # that are remembered of what is not kept
_NUMBERS = "biuf"  # kinds of dtype
_CONSISTENT = "smiles_consistent"
_RECORDS = "records_json"

Row = tuple["MoleculeStore", int]
"""Where in an npz file a molecule stands."""


class CarriedArrays:
    """Gathers rows of npz files, to take along what they have numbers of for each molecule.

    Properties have NaN for molecules of files without them. Other arrays come along only where all
    molecules have them. Properties of molecules in other files are not taken, but named.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[MoleculeStore | None, array[int]]] = []
        self._left: dict[str, None] = {}

    def add(self, molecule: Molecule, row: Row | None) -> None:
        """Take one more molecule; without a row it comes from another kind of file."""
        store, index = row or (None, 0)
        if not self._runs or self._runs[-1][0] is not store:
            self._runs.append((store, array("q")))
            if store is not None and store.source is not None:
                known = (_LAYOUT - {_RECORDS}) | store.extras.keys()
                self._left |= dict.fromkeys(n for n in array_names(store.source) if n not in known)
        self._runs[-1][1].append(index)
        if store is None and len(self._left) < _MOST_NAMES:
            self._left.update(dict.fromkeys(molecule.properties))

    def into(self, store: MoleculeStore) -> tuple[MoleculeStore, list[str]]:
        """Return a store of the molecules added with what can be kept, and names of what cannot."""
        units = self._units()
        names = [name for name, found in units.items() if len(found) == 1]
        arrays = {name: self._joined(name) for name in self._array_names()}
        kept = {name: found for name, found in arrays.items() if found is not None}
        lost = self._left.keys() | (units.keys() - set(names)) | (arrays.keys() - kept.keys())
        changed = dataclasses.replace(
            store,
            properties=self._properties(names) if names else None,
            property_names=tuple(names),
            property_units=tuple(units[name].pop() for name in names),
            consistent=kept.pop(_CONSISTENT, None),
            extras=kept,
        )
        return changed, sorted(lost)

    def _units(self) -> dict[str, set[str]]:
        """Return the names of properties, and their units; several of one name do not fit."""
        found: dict[str, set[str]] = {}
        for store, _ in self._runs:
            if store is not None:
                units = store.property_units or ("",) * len(store.property_names)
                for name, unit in zip(store.property_names, units, strict=True):
                    found.setdefault(name, set()).add(unit)
        return found

    def _properties(self, names: list[str]) -> np.ndarray:
        """Return float32 [M, P]."""
        parts = []
        for store, rows in self._runs:
            part = np.full((len(rows), len(names)), np.nan, dtype=np.float32)
            if store is not None and store.properties is not None:
                for column, name in enumerate(names):
                    if name in store.property_names:
                        part[:, column] = store.properties[
                            np.array(rows), store.property_names.index(name)
                        ]
            parts.append(part)
        return np.concatenate(parts)

    def _array_names(self) -> list[str]:
        stores = [store for store, _ in self._runs if store is not None]
        found = [name for store in stores for name in store.extras if name not in _LAYOUT]
        stated = any(store.consistent is not None for store in stores)
        return list(dict.fromkeys((*found, *([_CONSISTENT] if stated else []))))

    def _joined(self, name: str) -> np.ndarray | None:
        """Return an array of all molecules; None where some lack it, or it is none of numbers."""
        parts = []
        for store, rows in self._runs:
            values = None if store is None else _values(store, name)
            if values is None or values.dtype.kind not in _NUMBERS:
                return None
            parts.append(np.asarray(values[np.array(rows)]))
        same = len({part.shape[1:] for part in parts}) == 1
        return np.concatenate(parts) if same else None


def _values(store: MoleculeStore, name: str) -> np.ndarray | None:
    return store.consistent if name == _CONSISTENT else store.extras.get(name)
