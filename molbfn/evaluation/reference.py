"""The molecules that generated ones are compared with: their SMILES and their composition.

Novelty depends on where the reference's SMILES come from, so there are two kinds, never mixed:

* ``smiles``: the data's own SMILES, in RDKit's canonical form without stereochemistry. A known
  molecule whose graph the distance rule gets wrong then looks new (2 % of QM9's valid ones).
* ``distances``: SMILES of the reference's coordinates by the same rule as the generated ones, as
  in EDM. The right choice for EDM's published numbers.

Both are kept in the user's cache, under the SHA-256 of the reference file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from molbfn.chem.files import read_molecules
from molbfn.data.download import make_folder
from molbfn.data.locate import cache_dir, is_dataset_name
from molbfn.data.npz import read_npz, write_npz
from molbfn.data.store import SPLITS, MoleculeStore
from molbfn.errors import UserError, nearest
from molbfn.evaluation.composition import Composition, CompositionCounter
from molbfn.evaluation.graph import canonical_smiles
from molbfn.evaluation.own_bonds import any_stated
from molbfn.evaluation.protocols import Progress

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

ROUTES = {"smiles": "data's own SMILES", "distances": "distance rule"}
_SUFFIXES = {"smiles": "", "distances": "_distances"}
_FORM = 3  # of the cached SMILES; to be raised when `graph` or the distance table changes
_CHUNK = 512
_LOOKED_AT = 100  # molecules of a file that tell whether it states bonds
_HYDROGEN, _CARBON = 1, 6


@dataclass(frozen=True)
class KnownSmiles:
    """The different structures of a reference, by one route."""

    smiles: frozenset[str]
    composition: Composition
    missing: int
    """molecules of the reference that have no SMILES by this route"""
    name: str
    """of the reference, with its split"""
    key: str
    """a key of `ROUTES`"""
    unreadable: int = 0
    """records of the reference that could not be read"""

    @property
    def route(self) -> str:
        """Where the SMILES come from, in words."""
        return ROUTES[self.key]

    @property
    def suffix(self) -> str:
        """What the names of metrics end in."""
        return _SUFFIXES[self.key]

    @property
    def description(self) -> str:
        """Name, number of molecules, route, and what is missing."""
        without = f", {self.missing:,} of them without" if self.missing else ""
        return f"{self.name} ({self.composition.molecules:,} molecules, {self.route}{without})"

    @property
    def notes(self) -> list[str]:
        """What a figure of novelty against this reference has to be read with."""
        molecules, elements = self.composition.molecules, self.composition.elements
        notes = []
        if self.unreadable:
            notes.append(
                f"{self.unreadable:,} of its {molecules + self.unreadable:,} records could not be "
                f"read and are not compared with"
            )
        if self.missing:
            notes.append(
                f"{self.missing:,} of its {molecules:,} molecules give no structure by the route "
                f"'{self.route}' and are not compared with"
            )
        if elements.get(_CARBON) and not elements.get(_HYDROGEN):
            notes.append(
                "it has carbon but no hydrogen atoms: molecules with their hydrogens are not "
                "found in it"
            )
        return [f"reference {self.name}: {note}" for note in notes]


@dataclass(frozen=True, eq=False)
class Reference:
    """A data set, or a file of molecules, to compare with."""

    name: str
    path: Path | None
    """None where it was given as a store: nothing is cached then"""
    store: MoleculeStore | None
    """the chosen molecules; None for files that are not a store"""
    split: str

    def known(self, key: str, *, progress: Progress | None = None) -> KnownSmiles:
        """Return the reference's structures by a route of `ROUTES`, from the cache if they are.

        Raises:
            UserError: the file cannot be read, or no record in it.
        """
        cached = self._cache_file(key)
        if cached is not None and (found := self._load(cached, key)) is not None:
            return found
        found = self._compute(key, progress)
        if cached is not None:
            # a cache that cannot be written costs time, not the result
            with contextlib.suppress(UserError):
                make_folder(cached.parent)
                _save(cached, found)
        return found

    def has_smiles(self) -> bool:
        """Whether the reference states its own structures."""
        if self.store is not None:
            return self.store.smiles is not None or self.store.bonds is not None
        first = islice((m for m in self.molecules() if m is not None), _LOOKED_AT)
        return any_stated(first)

    def molecules(self) -> Iterator[Molecule | None]:
        """Yield all molecules; None for those that cannot be read."""
        yield from (molecule for molecule, _ in self._entries())

    def _entries(self) -> Iterator[tuple[Molecule | None, str | None]]:
        """Yield the molecules with their own SMILES where a store has them."""
        if self.store is None:
            assert self.path is not None
            yield from ((record.molecule, None) for record in read_molecules(self.path))
            return
        for k in range(len(self.store)):
            yield self.store.molecule(k), self.store.smiles[k] if self.store.smiles else None

    def _compute(self, key: str, progress: Progress | None) -> KnownSmiles:
        counter, found, missing, unreadable = CompositionCounter(), set(), 0, 0
        total = len(self.store) if self.store is not None else None
        for done, (molecule, smiles) in enumerate(self._keyed(key), start=1):
            if molecule is not None:
                counter.add(molecule)
                missing += smiles is None
            else:
                unreadable += 1
            if smiles is not None:
                found.add(smiles)
            if progress and (done % _CHUNK == 0 or done == total):
                progress(f"reference {self.name}", done, total)
        composition = counter.composition()
        if not composition.molecules:
            raise UserError(
                f"{self.path or self.name}: none of its {unreadable:,} records can be read as a "
                f"molecule in 3D ('molbfn evaluate' says why), so nothing can be compared with it"
            )
        return KnownSmiles(frozenset(found), composition, missing, self.name, key, unreadable)

    def _keyed(self, key: str) -> Iterator[tuple[Molecule | None, str | None]]:
        """Yield the molecules with their canonical SMILES by a route."""
        if key == "distances":
            yield from _by_distances(self.molecules())
            return
        for molecule, own in self._entries():
            stated = molecule is not None and molecule.states_bonds
            text = own or (molecule.smiles() if stated else None)
            yield molecule, canonical_smiles(text) if text else None

    def _cache_file(self, key: str) -> Path | None:
        if self.path is None or not self.path.is_file():
            return None
        import rdkit

        try:
            with self.path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read: {error.strerror or error}") from None
        name = f"{digest}-{self.split}-{key}-rdkit{rdkit.__version__}-{_FORM}.npz"
        return cache_dir() / "reference_smiles" / name

    def _load(self, file: Path, key: str) -> KnownSmiles | None:
        """Return what the cache file holds, or None where there is none or it is damaged."""
        if not file.is_file():
            return None
        try:
            arrays = read_npz(file)
            lines = arrays["smiles"].tobytes().decode().split("\n")
            sizes, elements = (
                {int(k): int(v) for k, v in arrays[name].reshape(-1, 2)}
                for name in ("sizes", "elements")
            )
            missing, unreadable = (int(arrays[name][0]) for name in ("missing", "unreadable"))
        except (UserError, KeyError, ValueError, IndexError):
            return None
        known = frozenset(line for line in lines if line)
        composition = Composition(sizes, elements)
        return KnownSmiles(known, composition, missing, self.name, key, unreadable)


def check_split(reference: object | None, split: str | None) -> None:
    """Refuse a part of no reference.

    Raises:
        UserError: a part is named, and no reference.
    """
    if reference is None and split is not None:
        raise UserError(f"--split {split}: of which --reference? none is given")


def open_reference(
    reference: str | os.PathLike[str] | MoleculeStore, *, split: str | None = None
) -> Reference:
    """Return a reference from a data set's name, a file or folder of molecules, or a store.

    The bare name of a data set never means a file or folder here, "./qm9" does.

    Args:
        split: "train", "valid", "test" or "all"; by default the training part if there is one,
            since novel means not trained on.

    Raises:
        UserError: no such data set or file, an unknown split, or a split that it has not.
    """
    if split is not None and split not in (*SPLITS, "all"):
        hint = nearest(split, (*SPLITS, "all"))
        raise UserError(f"no split '{split}':{hint} the splits are train, valid, test, all")
    if isinstance(reference, MoleculeStore):
        return _of_store(reference, None, split)
    path, named = Path(reference), is_dataset_name(reference)
    if not named and (path.is_dir() or (path.is_file() and path.suffix.lower() != ".npz")):
        if split not in (None, "all"):
            raise UserError(
                f"{path}: has no splits; leave the split out, or use 'molbfn data prepare'"
            )
        return Reference(path.name, path, None, "all")
    store = MoleculeStore.open(reference)
    return _of_store(store, store.source, split)


def _of_store(store: MoleculeStore, path: Path | None, split: str | None) -> Reference:
    if split is None:
        trained = store.split is not None and bool((np.asarray(store.split) == 0).any())
        split = "train" if trained else "all"
    name = store.name if split == "all" else f"{store.name} {split}"
    return Reference(name, path, store.subset(split), split)


def _by_distances(
    molecules: Iterator[Molecule | None],
) -> Iterator[tuple[Molecule | None, str | None]]:
    from molbfn.evaluation.edm import judge

    chunk: list[Molecule | None] = []
    for molecule in molecules:
        chunk.append(molecule)
        if len(chunk) == _CHUNK:
            yield from zip(chunk, (v.smiles for v in judge(chunk)), strict=True)
            chunk = []
    yield from zip(chunk, (v.smiles for v in judge(chunk)), strict=True)


def _save(file: Path, known: KnownSmiles) -> None:
    text = "\n".join(sorted(known.smiles)).encode()
    arrays = {
        "smiles": np.frombuffer(text, dtype=np.uint8),
        "sizes": np.array(list(known.composition.sizes.items()), dtype=np.int64),
        "elements": np.array(list(known.composition.elements.items()), dtype=np.int64),
        "missing": np.array([known.missing]),
        "unreadable": np.array([known.unreadable]),
    }
    write_npz(file, arrays, compressed=True)
