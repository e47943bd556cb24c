"""The protocol "distributions": what molecules are made of, beside a sample of a reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from molbfn.chem.topology import with_bonds_of_smiles
from molbfn.evaluation.distributions import (
    FEWEST_VALUES,
    BondRoute,
    Distribution,
    DistributionCounter,
)
from molbfn.evaluation.metrics import Quantity
from molbfn.evaluation.protocols import Context, Findings
from molbfn.evaluation.sampled import Sample

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule
    from molbfn.evaluation.reference import Reference

PROTOCOL = "distributions"
REFERENCE_SAMPLE = 5_000
"""molecules of the reference that are looked at"""
_FAMILIES = {"bond_length": "Bond lengths", "angle": "Angles", "torsion": "Torsions"}
_UNITS = {"bond_length": "Å", "angle": "°", "torsion": "°"}
_ROUTES = {
    "own": "by the bonds that the molecules state",
    "table": "by the bonds of EDM's distance table",
}


class DistributionsProtocol:
    """Counts molecules, and at the end a sample of the reference in the same way.

    Bonds are the molecules' own if the first of them and the reference state bonds (or, for a
    data set, SMILES that fit the coordinates), else those of the distance table, for both. A single
    atom has none to state: the first of several atoms decides.

    Args:
        reference: what the molecules are compared with, if anything.
        bonds: whose bonds count; None: as said above.
        seed: of the sample of the reference.
    """

    def __init__(
        self, reference: Reference | None, *, bonds: BondRoute | None = None, seed: int = 0
    ) -> None:
        self._reference, self._bonds, self._seed = reference, bonds, seed
        self._counter: DistributionCounter | None = None
        self._given = 0
        self._waiting: list[Molecule] = []  # single atoms before the first molecule that decides

    def add(self, molecules: Sequence[Molecule | None]) -> None:
        """Count more molecules; what could not be read has no distribution."""
        self._given += len(molecules)
        for molecule in molecules:
            if molecule is None:
                continue
            if self._counter is None:
                self._waiting.append(molecule)
                if len(molecule) > 1:
                    self._decide()
            else:
                self._counter.add(molecule)

    def finish(self, context: Context) -> Findings:
        """Return the distributions, compared with the reference if there is one."""
        if self._counter is None and self._waiting:
            self._decide()
        own = self._counter
        if own is None:
            return Findings()
        notes = [f"{PROTOCOL}: {_ROUTES[own.bonds]}", *_left_out(own)]
        other = None
        if self._reference is not None:
            other, count = DistributionCounter(own.bonds), 0
            for molecule in reference_molecules(self._reference, own.bonds, seed=self._seed):
                other.add(molecule)
                count += 1
                if context.progress and count % 100 == 0:
                    context.progress(f"reference {self._reference.name}", count, None)
            notes.append(f"{PROTOCOL}: {count:,} molecules of {self._reference.name} beside them")
        found = own.distributions(other)
        quantities = [] if other is None else mean_distances(found, own, other, given=self._given)
        return Findings(distributions=found, quantities=list(quantities), notes=notes)

    def _decide(self) -> None:
        """Count what waited, by the bonds that the last of it decides for."""
        self._counter = DistributionCounter(self._route(self._waiting[-1]))
        for molecule in self._waiting:
            self._counter.add(molecule)
        self._waiting.clear()

    def _route(self, first: Molecule) -> BondRoute:
        if self._bonds is not None:
            return self._bonds
        known = self._reference is None or self._reference.has_smiles()
        return "own" if known and first.states_bonds else "table"


def first_states_bonds(molecules: Iterable[Molecule | None]) -> bool:
    """Whether the first molecule of several atoms, which decides for all, states bonds.

    Where there is none, there are no bonds to miss.
    """
    first = next((m for m in molecules if m is not None and len(m) > 1), None)
    return first is None or first.states_bonds


def _left_out(counter: DistributionCounter) -> Iterator[str]:
    """Yield notes on molecules that count for some of the distributions only."""
    if without := counter.molecules - counter.bonded:
        yield (
            f"{PROTOCOL}: {without:,} of {counter.molecules:,} molecules have no bonds (or "
            f"coordinates that are not finite) and count for elements and sizes only"
        )
    if counter.unsound:
        yield (
            f"{PROTOCOL}: {counter.unsound:,} of {counter.bonded:,} molecules with bonds are not "
            f"sanitised by RDKit: they count by their Kekule orders, and not for properties"
        )


def mean_distances(
    distributions: Sequence[Distribution],
    own: DistributionCounter,
    other: DistributionCounter,
    *,
    given: int,
) -> Iterator[Quantity]:
    """Yield one distance each for bond lengths, angles and torsions, and what it is of.

    The mean of the Wasserstein-1 distances of the kinds that are shown, weighted by the number of
    values that the reference has of each; then the share of all its values that these are. What
    molecules lack altogether has no distance and lowers the share.

    Args:
        distributions: of ``own`` beside ``other``.
        own: of the molecules.
        other: of the reference.
        given: molecules, unreadable ones included.
    """

    def quantity(name: str, label: str, value: float | None, unit: str, what: str) -> Quantity:
        return Quantity(
            name=f"{PROTOCOL}_{name}",
            label=label,
            value=value,
            low=None,
            high=None,
            unit=unit,
            count=own.bonded,
            given=given,
            protocol=PROTOCOL,
            interval=None,
            definition=what,
        )

    for family, label in _FAMILIES.items():
        if not (every := other.values(family)):
            continue
        shown = [d for d in distributions if d.name.startswith(f"{family}_") and d.reference_count]
        total = sum(d.reference_count or 0 for d in shown)
        weighted = sum((d.reference_count or 0) * (d.distance or 0.0) for d in shown)
        kinds = f"the {len(shown)} kinds that are commonest in the reference"
        yield quantity(
            family,
            f"{label}, mean W1",
            weighted / total if total else None,
            _UNITS[family],
            f"Wasserstein-1 distance to the reference, mean over {kinds}, weighted by its values",
        )
        yield quantity(
            f"{family}_coverage",
            f"{label}, reference covered",
            100 * total / every,
            "%",
            f"share of the reference's {every:,} values that {kinds} make up; a kind of which "
            f"there are fewer than {FEWEST_VALUES} values on either side is not among them",
        )


def reference_molecules(
    reference: Reference, bonds: BondRoute, *, seed: int, size: int = REFERENCE_SAMPLE
) -> Iterator[Molecule]:
    """Yield a random sample of a reference's molecules.

    With "own" bonds, a data set without bonds gets those of its SMILES; molecules that these do
    not fit are left out.
    """
    if reference.store is None:
        sample = Sample(size, seed=seed)
        for molecule in reference.molecules():
            sample.add(molecule)
        yield from (m for m in sample.molecules if m is not None)
        return
    store, count = reference.store, len(reference.store)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(count, min(size, count), replace=False)
    for k in np.sort(chosen).tolist():
        molecule = store.molecule(k)
        if bonds == "own" and store.bonds is None:
            assert store.smiles is not None
            molecule = with_bonds_of_smiles(molecule, store.smiles[k])
        if molecule is not None:
            yield molecule
