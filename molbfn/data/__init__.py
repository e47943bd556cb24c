"""Data sets of 3D molecules: flat arrays on disk, preparation, QM9, downloads, batches."""

from __future__ import annotations

from molbfn.data.locate import resolve_dataset
from molbfn.data.store import MoleculeStore

__all__ = ["MoleculeStore", "resolve_dataset"]
