"""Bonds and formal charges for a whole data set: its own, or those of its SMILES."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from molbfn.chem.molecule import AROMATIC
from molbfn.chem.topology import topology_from_smiles
from molbfn.data.builder import offsets_of
from molbfn.data.download import make_folder
from molbfn.data.locate import cache_dir
from molbfn.data.npz import read_npz, write_npz
from molbfn.data.store import MoleculeStore
from molbfn.errors import UserError

Progress = Callable[[int, int], None]
"""Called with the molecules so far and in all."""

_FORM = 1  # of the cached arrays; to be raised when `chem.topology` changes what it returns
_EVERY = 512


@dataclass(frozen=True)
class TopologyReport:
    """Molecules that were left out because no bonds fit them.

    Attributes:
        dropped: how many.
        examples: reasons for the first few.
    """

    dropped: int
    examples: tuple[str, ...] = ()


def with_topology(
    store: MoleculeStore, *, progress: Progress | None = None
) -> tuple[MoleculeStore, TopologyReport]:
    """Return the store with Kekule bonds and formal charges for every molecule in it.

    The store's own where it has both; otherwise derived from its SMILES and checked against the
    coordinates (`topology_from_smiles`), which takes half a minute for QM9 and is kept in the
    user's cache.  Molecules without such bonds, or flagged as inconsistent, are left out.

    Raises:
        UserError: neither bonds nor SMILES, or not a single molecule whose bonds fit.
    """
    if store.bonds is not None and store.formal_charges is not None:
        found = _own(store)
    elif store.smiles is None:
        raise UserError(
            f"{store.source or store.name}: has neither bonds and formal charges nor SMILES, so "
            f"they cannot be learned; leave out the sections bonds and charges, or make the file "
            f"with 'molbfn data prepare' from an SDF"
        )
    else:
        found = _cached(store, progress)
    keep = found.keep if store.consistent is None else found.keep & store.consistent
    if not keep.any():
        raise UserError(
            f"{store.source or store.name}: no molecule has bonds that fit its coordinates "
            f"({found.examples[0] if found.examples else 'all are flagged as inconsistent'})"
        )
    full = dataclasses.replace(
        store,
        formal_charges=found.charges,
        bonds=found.bonds,
        bond_offsets=offsets_of(found.counts),
    )
    dropped = int(len(keep) - keep.sum())
    kept = full.subset(keep) if dropped else full
    return dataclasses.replace(kept, name=store.name), TopologyReport(dropped, found.examples)


@dataclass(frozen=True)
class _Found:
    """Flat arrays as in the store, and bool [M]: whether a molecule's bonds are known."""

    bonds: np.ndarray
    counts: np.ndarray
    charges: np.ndarray
    keep: np.ndarray
    examples: tuple[str, ...] = ()


def _own(store: MoleculeStore) -> _Found:
    assert store.bonds is not None
    assert store.bond_offsets is not None
    assert store.formal_charges is not None
    if not (store.bonds[:, 2] == AROMATIC).any():
        every = np.ones(len(store), dtype=bool)
        counts = np.diff(store.bond_offsets)
        return _Found(np.asarray(store.bonds), counts, np.asarray(store.formal_charges), every)
    molecules = [store.molecule(k) for k in range(len(store))]
    bonds = [np.empty((0, 3), np.int64) if m.bonds is None else m.bonds for m in molecules]
    keep = np.array([m.bonds is not None for m in molecules])
    return _Found(
        np.concatenate(bonds).astype(np.int32),
        np.array([len(rows) for rows in bonds]),
        np.asarray(store.formal_charges),
        keep,
        () if keep.all() else ("an aromatic ring has no Kekule structure",),
    )


def _cached(store: MoleculeStore, progress: Progress | None) -> _Found:
    file = _cache_file(store)
    if file is not None and (found := _load(file, store)) is not None:
        return found
    found = _derive(store, progress)
    if file is not None:
        with contextlib.suppress(UserError):  # a cache that cannot be written costs time only
            make_folder(file.parent)
            text = np.frombuffer("\n".join(found.examples).encode(), dtype=np.uint8)
            arrays = {name: getattr(found, name) for name in ("bonds", "counts", "charges", "keep")}
            write_npz(file, {**arrays, "examples": text})
    return found


def _derive(store: MoleculeStore, progress: Progress | None) -> _Found:
    assert store.smiles is not None
    total = len(store)
    bonds, counts = [], np.zeros(total, dtype=np.int64)
    charges = np.zeros(len(store.atomic_numbers), dtype=np.int8)
    keep, examples = np.ones(total, dtype=bool), []
    for k in range(total):
        atoms = slice(store.offsets[k], store.offsets[k + 1])
        numbers = np.asarray(store.atomic_numbers[atoms])
        try:
            found = topology_from_smiles(store.smiles[k], numbers, store.positions[atoms])
        except UserError as error:
            keep[k] = False
            if len(examples) < 3:
                examples.append(f"molecule {k + 1}: {error}")
        else:
            bonds.append(found.bonds.astype(np.int32))
            counts[k] = len(found.bonds)
            charges[atoms] = found.formal_charges
        if progress and ((k + 1) % _EVERY == 0 or k + 1 == total):
            progress(k + 1, total)
    rows = np.concatenate(bonds) if bonds else np.empty((0, 3), dtype=np.int32)
    return _Found(rows, counts, charges, keep, tuple(examples))


def _cache_file(store: MoleculeStore) -> Path | None:
    """Where the arrays of a store that comes from a file are kept: by all that they follow from."""
    if store.source is None:
        return None
    import rdkit

    assert store.smiles is not None
    digest = hashlib.sha256("\n".join([rdkit.__version__, *store.smiles]).encode())
    for array in (store.offsets, store.atomic_numbers, store.positions):
        digest.update(np.ascontiguousarray(array).data)
    return cache_dir() / "topology" / f"{digest.hexdigest()}-{_FORM}.npz"


def _load(file: Path, store: MoleculeStore) -> _Found | None:
    """Return what the cache file holds, or None where there is none or it does not fit."""
    if not file.is_file():
        return None
    try:
        arrays = read_npz(file)
        text = arrays["examples"].tobytes().decode()
        found = _Found(
            *(np.asarray(arrays[name]) for name in ("bonds", "counts", "charges", "keep")),
            examples=tuple(text.split("\n")) if text else (),
        )
    except (UserError, KeyError, ValueError):
        return None
    fits = (
        found.counts.shape == found.keep.shape == (len(store),)
        and found.charges.shape == store.atomic_numbers.shape
        and found.bonds.shape == (int(found.counts.sum()), 3)
    )
    return found if fits else None
