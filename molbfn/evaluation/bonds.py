"""Molecules judged by their own bonds and formal charges, kekulised.

The protocol of generators that make bonds (EQGAT-diff, SemlaFlow, FlowMol and others). An atom is
stable if its bond orders add up to a valence that its element has at its formal charge. Bonds are
Kekule orders 1, 2, 3 throughout, so the aromatic order of 1.5 that earlier tables truncated cannot
arise. Its figures are not comparable with those of the distance tables (`edm`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from molbfn.chem.elements import atomic_number, symbol
from molbfn.evaluation.graph import judge_graph
from molbfn.evaluation.verdicts import Definitions, Protocol, Verdict

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

PROTOCOL = "bonds"

#: Element -> formal charge -> sums of Kekule bond orders that count as stable.
VALENCES: dict[str, dict[int, tuple[int, ...]]] = {
    "H": {0: (1,)},
    "B": {0: (3,), -1: (4,)},
    "C": {0: (4,), 1: (3,), -1: (3,)},
    "N": {0: (3,), 1: (4,), -1: (2,)},
    "O": {0: (2,), 1: (3,), -1: (1,)},
    "F": {0: (1,), -1: (0,)},
    "Al": {0: (3,), -1: (4,)},
    "Si": {0: (4,)},
    "P": {0: (3, 5), 1: (4,)},
    "S": {0: (2, 4, 6), 1: (3, 5), -1: (1,)},
    "Cl": {0: (1,), -1: (0,)},
    "As": {0: (3, 5), 1: (4,)},
    "Se": {0: (2, 4, 6), 1: (3,), -1: (1,)},
    "Br": {0: (1,), -1: (0,)},
    "I": {0: (1, 3, 5), -1: (0,)},
}

_STABLE = {
    (atomic_number(name), charge, total)
    for name, charges in VALENCES.items()
    for charge, totals in charges.items()
    for total in totals
}
_KNOWN = {atomic_number(name) for name in VALENCES}


def judge(molecules: Sequence[Molecule | None]) -> list[Verdict]:
    """Return the verdict on each molecule; None stands for one that could not be read."""
    return [_judge(molecule) for molecule in molecules]


def _judge(molecule: Molecule | None) -> Verdict:
    if molecule is None:
        return Verdict(0, 0, None, 0, "cannot be read")
    numbers, atoms = molecule.atomic_numbers, len(molecule)
    unknown = sorted(set(numbers.tolist()) - _KNOWN)
    problem = None
    if atoms == 0:
        problem = "has no atoms"
    elif not molecule.states_bonds:
        problem = "has no bonds (its file states none)"
    elif unknown:
        names = ", ".join(symbol(z) for z in unknown)
        problem = f"has elements without a valence table: {names}"
    if problem is not None or molecule.bonds is None:
        return Verdict(atoms, 0, None, 0, problem)
    charges = molecule.formal_charges
    charges = np.zeros(atoms, dtype=np.int64) if charges is None else charges
    ends, orders = molecule.bonds[:, :2], molecule.bonds[:, 2]
    totals = np.bincount(ends.ravel(), np.repeat(orders, 2), minlength=atoms).astype(np.int64)
    states = zip(numbers.tolist(), charges.tolist(), totals.tolist(), strict=True)
    graph = judge_graph(numbers, molecule.bonds, charges)
    stable = sum(state in _STABLE for state in states)
    return Verdict(atoms, stable, graph.smiles, graph.fragments, charge=int(charges.sum()))


DEFINITIONS = Definitions(
    atom_stability=(
        "atoms whose own Kekule bond orders add up to a valence of their element at their formal "
        "charge, over all atoms of all molecules that could be read"
    ),
    molecule_stability=(
        "molecules in which every atom is stable by its own bonds and charge, over all molecules "
        "given; they need not be connected"
    ),
    validity=(
        "molecules whose own bonds and charges RDKit can sanitise, over all molecules given; "
        "several fragments and radicals are allowed"
    ),
    net_charge=(
        "molecules whose formal charges do not add up to 0, over all molecules that could be "
        "judged; ions may be stable and valid, and where the training data have none, each is a "
        "molecule with a hydrogen too few or too many"
    ),
)


def bonds_protocol() -> Protocol:
    """Return an empty protocol of the molecules' own bonds."""
    return Protocol(PROTOCOL, judge, DEFINITIONS, prefix="bonds_")
