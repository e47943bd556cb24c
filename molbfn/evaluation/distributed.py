"""The protocol "distributions": what molecules are made of, beside a sample of a reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from molbfn.errors import UserError
from molbfn.evaluation.distributions import BondRoute, Distribution, DistributionCounter
from molbfn.evaluation.metrics import Quantity
from molbfn.evaluation.protocols import Context, Findings
from molbfn.evaluation.sampled import Sample

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule
    from molbfn.data.store import MoleculeStore
    from molbfn.evaluation.reference import Reference

PROTOCOL = "distributions"
REFERENCE_SAMPLE = 5_000
"""molecules of the reference that are looked at"""
_FAMILIES = {"bond_length": "Bond lengths", "angle": "Angles", "torsion": "Torsions"}
_ROUTES = {
    "own": "by the bonds that the molecules state",
    "table": "by the bonds of EDM's distance table",
}


class DistributionsProtocol:
    """Counts molecules, and at the end a sample of the reference in the same way.

    Bonds are the molecules' own if the first of them and the reference state bonds (or, for a
    data set, SMILES that fit the coordinates), else those of the distance table, for both. A single
    atom has none to state: the first of several atoms decides.
    """

    def __init__(self, reference: Reference | None, *, seed: int = 0) -> None:
        self._reference, self._seed = reference, seed
        self._counter: DistributionCounter | None = None
        self._waiting: list[Molecule] = []  # single atoms before the first molecule that decides

    def add(self, molecules: Sequence[Molecule | None]) -> None:
        """Count more molecules; what could not be read has no distribution."""
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
        notes = [f"{PROTOCOL}: {_ROUTES[own.bonds]}"]
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
        return Findings(
            distributions=found, quantities=list(mean_distances(found, own)), notes=notes
        )

    def _decide(self) -> None:
        """Count what waited, by the bonds that the last of it decides for."""
        self._counter = DistributionCounter(self._route(self._waiting[-1]))
        for molecule in self._waiting:
            self._counter.add(molecule)
        self._waiting.clear()

    def _route(self, first: Molecule) -> BondRoute:
        known = self._reference is None or self._reference.has_smiles()
        return "own" if known and first.states_bonds else "table"


def mean_distances(
    distributions: Sequence[Distribution], counter: DistributionCounter
) -> Iterator[Quantity]:
    """Yield one distance each for bond lengths, angles and torsions.

    The mean of the Wasserstein-1 distances of the kinds that are shown, weighted by the number of
    values that the molecules have of each.
    """
    for family, label in _FAMILIES.items():
        shown = [
            d for d in distributions if d.name.startswith(f"{family}_") and d.distance is not None
        ]
        if not shown:
            continue
        total = sum(d.count for d in shown)
        yield Quantity(
            name=f"{PROTOCOL}_{family}",
            label=f"{label}, mean W1",
            value=sum(d.count * (d.distance or 0.0) for d in shown) / total,
            low=None,
            high=None,
            unit=shown[0].unit or "",
            count=counter.molecules,
            given=counter.molecules,
            protocol=PROTOCOL,
            interval=None,
            definition=f"Wasserstein-1 distance to the reference, mean over the {len(shown)} "
            f"commonest kinds, weighted by the molecules' {total:,} values of them",
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
            molecule = _with_bonds_of_smiles(store, k, molecule)
        if molecule is not None:
            yield molecule


def _with_bonds_of_smiles(store: MoleculeStore, index: int, molecule: Molecule) -> Molecule | None:
    from molbfn.chem.topology import topology_from_smiles

    assert store.smiles is not None
    try:
        found = topology_from_smiles(
            store.smiles[index], molecule.atomic_numbers, molecule.positions
        )
    except UserError:
        return None
    return dataclasses.replace(molecule, bonds=found.bonds, formal_charges=found.formal_charges)
