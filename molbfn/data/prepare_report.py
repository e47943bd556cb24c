"""What `molbfn data prepare` says of a data set that it made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from molbfn.data.store import SPLITS, MoleculeStore

_PLACES = 5  # examples kept for each reason


@dataclass
class Tally:
    """How often something happened, and the first places where it did."""

    count: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, place: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.places) < _PLACES:
            self.places.append(place)


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did.

    Attributes:
        output: the npz written.
        read: molecules found in the input; ``kept``: those in the output.
        skipped: reason -> how many were left out for it, and where the first of them stand.
        warnings: remark -> the same, for molecules that were kept.
        splits: molecules in train, valid and test; ``split_is_old``: as the input has them;
            ``elements``: atoms of each symbol.
        smallest, largest: atoms of the smallest and the largest molecule kept.
        with_bonds: whether bonds and formal charges are stored, which a model can then learn.
        with_smiles: molecules kept whose bonds, and so SMILES, are known; ``structures``:
            different ones among these; ``shared``: parts with a structure that another has too.
        carried: properties and other arrays of numbers that are kept beside the molecules;
            ``not_kept``: properties and arrays that are not.
    """

    output: Path
    read: int
    kept: int
    skipped: dict[str, Tally]
    warnings: dict[str, Tally]
    splits: dict[str, int]
    split_is_old: bool
    elements: dict[str, int]
    smallest: int
    largest: int
    with_bonds: bool
    with_smiles: int
    structures: int
    shared: list[str]
    carried: list[str]
    not_kept: list[str]


def make_report(
    store: MoleculeStore,
    output: Path,
    *,
    read: int,
    skipped: dict[str, Tally],
    warnings: dict[str, Tally],
    split_is_old: bool,
    not_kept: list[str],
) -> PrepareReport:
    """Return the report of a store that has been written; arguments as its attributes."""
    from molbfn.chem.elements import symbol

    def by_count(tallies: dict[str, Tally]) -> dict[str, Tally]:
        return dict(sorted(tallies.items(), key=lambda entry: -entry[1].count))

    return PrepareReport(
        output=output,
        read=read,
        kept=len(store),
        skipped=by_count(skipped),
        warnings=by_count(warnings),
        splits=dict(zip(SPLITS, np.bincount(store.split, minlength=3).tolist(), strict=True)),
        split_is_old=split_is_old,
        elements={symbol(number): count for number, count in store.element_counts().items()},
        smallest=int(store.sizes.min()),
        largest=int(store.sizes.max()),
        with_bonds=store.bonds is not None and store.formal_charges is not None,
        with_smiles=sum(map(bool, store.smiles or [])),
        structures=len(set(store.smiles or []) - {""}),
        shared=_shared(store),
        carried=[
            *store.property_names,
            *store.extras,
            *(["smiles_consistent"] if store.consistent is not None else []),
        ],
        not_kept=not_kept,
    )


def nothing_left(files: Sequence[Path], read: int, skipped: dict[str, Tally]) -> str:
    """Return what to say where no molecule could be used, and why."""
    where = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more files"
    if not read:
        return f"{where}: there are no molecules in it"
    reasons = "; ".join(
        f"{tally.count} {reason} (first: {tally.places[0]})" for reason, tally in skipped.items()
    )
    return f"{where}: not one of {read} molecules can be used: {reasons}"


def _shared(store: MoleculeStore) -> list[str]:
    """Return the names of the parts in which there is a structure that another part has too."""
    assert store.split is not None
    places: dict[str, set[int]] = {}
    for smiles, part in zip(store.smiles or [], store.split.tolist(), strict=False):
        places.setdefault(smiles, set()).add(part)
    several = [parts for smiles, parts in places.items() if smiles and len(parts) > 1]
    return [SPLITS[part] for part in sorted(set().union(*several))]
