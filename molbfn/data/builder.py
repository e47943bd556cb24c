"""Grow a `MoleculeStore` molecule by molecule."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from molbfn.data.store import MoleculeStore

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule


class StoreBuilder:
    """Appends molecules to flat buffers: about 13 bytes an atom, no object per molecule.

    Bonds and formal charges go into the store only if every molecule brings them, for an empty
    bond list would else be read as "no bonds" where it means "not known".
    """

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._bond_counts: list[int] = []
        self._smiles: list[str] = []
        self._titles: list[str] = []
        self._numbers, self._positions = bytearray(), bytearray()
        self._charges, self._bonds = bytearray(), bytearray()
        self._without_charges: set[int] = set()
        self._without_bonds: set[int] = set()

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, molecule: Molecule, smiles: str = "") -> None:
        """Append a molecule; an empty ``smiles`` stands for "not known"."""
        index, atoms = len(self), len(molecule)
        self._sizes.append(len(molecule.atomic_numbers))
        self._numbers += molecule.atomic_numbers.astype(np.int8).tobytes()
        self._positions += np.ascontiguousarray(molecule.positions, dtype=np.float32).tobytes()
        self._smiles.append(smiles)
        self._titles.append(" ".join(molecule.title.split()))
        if molecule.formal_charges is None:
            self._without_charges.add(index)
            self._charges += bytes(atoms)
        else:
            self._charges += molecule.formal_charges.astype(np.int8).tobytes()
        if molecule.bonds is None:
            self._without_bonds.add(index)
            self._bond_counts.append(0)
        else:
            self._bond_counts.append(len(molecule.bonds))
            self._bonds += np.ascontiguousarray(molecule.bonds, dtype=np.int32).tobytes()

    @property
    def without_bonds(self) -> frozenset[int]:
        """Places of the molecules whose bonds are not known."""
        return frozenset(self._without_bonds)

    def build(self, name: str, *, spared: Collection[int] = ()) -> MoleculeStore:
        """Return the store of all molecules added; no split, no properties.

        Args:
            name: of the store.
            spared: places of molecules that the caller takes out of the store again; what they
                lack keeps nothing of the others away.
        """
        all_charges = self._without_charges <= set(spared)
        all_bonds = self._without_bonds <= set(spared)
        return MoleculeStore(
            atomic_numbers=np.frombuffer(bytes(self._numbers), dtype=np.int8),
            positions=np.frombuffer(bytes(self._positions), dtype=np.float32).reshape(-1, 3),
            offsets=offsets_of(self._sizes),
            smiles=list(self._smiles) if any(self._smiles) else None,
            titles=list(self._titles) if any(self._titles) else None,
            formal_charges=(
                np.frombuffer(bytes(self._charges), dtype=np.int8) if all_charges else None
            ),
            bonds=(
                np.frombuffer(bytes(self._bonds), dtype=np.int32).reshape(-1, 3)
                if all_bonds
                else None
            ),
            bond_offsets=offsets_of(self._bond_counts) if all_bonds else None,
            name=name,
        )


def offsets_of(counts: list[int] | np.ndarray) -> np.ndarray:
    """Return int64 [M + 1] offsets of M counts."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def smiles_of(molecule: Molecule) -> str:
    """Return the SMILES of a molecule whose bonds are known, "" where there is none."""
    return molecule.smiles() or ""
