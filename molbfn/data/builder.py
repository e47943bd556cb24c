"""Grow a `MoleculeStore` molecule by molecule."""

from __future__ import annotations

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
        self._all_charges, self._all_bonds = True, True

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, molecule: Molecule, smiles: str = "") -> None:
        """Append a molecule; an empty ``smiles`` stands for "not known"."""
        self._sizes.append(len(molecule.atomic_numbers))
        self._numbers += molecule.atomic_numbers.astype(np.int8).tobytes()
        self._positions += np.ascontiguousarray(molecule.positions, dtype=np.float32).tobytes()
        self._smiles.append(smiles)
        self._titles.append(" ".join(molecule.title.split()))
        if molecule.formal_charges is None:
            self._all_charges = False
        else:
            self._charges += molecule.formal_charges.astype(np.int8).tobytes()
        if molecule.bonds is None:
            self._all_bonds = False
        else:
            self._bond_counts.append(len(molecule.bonds))
            self._bonds += np.ascontiguousarray(molecule.bonds, dtype=np.int32).tobytes()

    def build(self, name: str) -> MoleculeStore:
        """Return the store of all molecules added; no split, no properties."""
        return MoleculeStore(
            atomic_numbers=np.frombuffer(bytes(self._numbers), dtype=np.int8),
            positions=np.frombuffer(bytes(self._positions), dtype=np.float32).reshape(-1, 3),
            offsets=offsets_of(self._sizes),
            smiles=list(self._smiles) if any(self._smiles) else None,
            titles=list(self._titles) if any(self._titles) else None,
            formal_charges=(
                np.frombuffer(bytes(self._charges), dtype=np.int8) if self._all_charges else None
            ),
            bonds=(
                np.frombuffer(bytes(self._bonds), dtype=np.int32).reshape(-1, 3)
                if self._all_bonds
                else None
            ),
            bond_offsets=offsets_of(self._bond_counts) if self._all_bonds else None,
            name=name,
        )


def offsets_of(counts: list[int] | np.ndarray) -> np.ndarray:
    """Return int64 [M + 1] offsets of M counts."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def smiles_of(molecule: Molecule) -> str:
    """Return the SMILES of a molecule whose bonds are known, "" where there is none."""
    return molecule.smiles() or ""
