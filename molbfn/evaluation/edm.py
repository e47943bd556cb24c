"""EDM's evaluation protocol, and what it hides set beside it.

Hoogeboom et al., "Equivariant Diffusion for Molecule Generation in 3D", ICML 2022; used with the
same distance tables by GeoLDM, EquiFM, GeoBFN (arXiv 2403.15441) and others. It looks at elements
and coordinates only: bonds and charges that a file states are ignored. The margins of the tables
were tuned on QM9. Beside its elements they have B, Si, P, S, Cl, As, Br and I, not in all pairs: a
pair without a length is not bonded. A molecule with an element that they lack altogether cannot be
judged and fails every metric. For GEOM-Drugs EDM asks RDKit about a graph in which all bonds are
single; here validity is always that of the orders found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from molbfn.chem.bonds import VALENCES, bond_list, bond_orders, stable_atoms
from molbfn.chem.elements import MAX_ATOMIC_NUMBER, atomic_number, symbol
from molbfn.evaluation.graph import judge_graph
from molbfn.evaluation.verdicts import Definitions, Protocol, Verdict

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

PROTOCOL = "edm"
_PAIRS_PER_GROUP = 1_000_000  # bounds the padded bond orders of one group
# no element of the tables has more than 5, so RDKit need not be asked; where thousands of atoms
# lie on top of each other it would take minutes and gigabytes to say the same
_MOST_NEIGHBOURS = 16

#: Elements that EDM's tables know, by atomic number; all that have a length have a valence.
_IN_TABLE = np.isin(np.arange(MAX_ATOMIC_NUMBER + 1), [atomic_number(name) for name in VALENCES])


def judge(molecules: Sequence[Molecule | None]) -> list[Verdict]:
    """Return EDM's verdict on each molecule; None stands for one that could not be read."""
    verdicts = [_unjudged(molecule) for molecule in molecules]
    open_ones = [k for k, verdict in enumerate(verdicts) if verdict.problem is None]
    for group in _groups(open_ones, [len(m) if m is not None else 0 for m in molecules]):
        chosen = [m for k in group if (m := molecules[k]) is not None]
        for k, verdict in zip(group, _judge_group(chosen), strict=True):
            verdicts[k] = verdict
    return verdicts


def _unjudged(molecule: Molecule | None) -> Verdict:
    """Return a verdict that names the problem, or no problem if the molecule can be judged."""
    if molecule is None:
        return Verdict(0, 0, None, 0, "cannot be read")
    problem = None
    unknown = np.unique(molecule.atomic_numbers[~_IN_TABLE[molecule.atomic_numbers]])
    if len(molecule) == 0:
        problem = "has no atoms"
    elif len(unknown):
        names = ", ".join(symbol(z) for z in unknown.tolist())
        problem = f"has elements without a distance table: {names}"
    elif not np.isfinite(molecule.positions).all():
        problem = "has coordinates that are not finite"
    return Verdict(len(molecule), 0, None, 0, problem)


def _groups(indices: list[int], sizes: list[int]) -> Iterator[list[int]]:
    """Yield the indices in groups of similar size whose padded pairs fit into memory."""
    group: list[int] = []
    for k in sorted(indices, key=lambda k: sizes[k]):
        if group and (len(group) + 1) * sizes[k] ** 2 > _PAIRS_PER_GROUP:
            yield group
            group = []
        group.append(k)
    if group:
        yield group


def _judge_group(molecules: list[Molecule]) -> Iterator[Verdict]:
    longest = max(len(m) for m in molecules)
    numbers = np.zeros((len(molecules), longest), dtype=np.int64)
    points = np.zeros((len(molecules), longest, 3), dtype=np.float32)
    for row, molecule in enumerate(molecules):
        numbers[row, : len(molecule)] = molecule.atomic_numbers
        points[row, : len(molecule)] = molecule.positions
    orders = bond_orders(numbers, points)
    stable = stable_atoms(numbers, orders).sum(axis=1)
    crowded = (orders > 0).sum(axis=2).max(axis=1, initial=0) > _MOST_NEIGHBOURS
    for row, molecule in enumerate(molecules):
        if crowded[row]:
            yield Verdict(len(molecule), int(stable[row]), None, 0)
            continue
        graph = judge_graph(molecule.atomic_numbers, bond_list(orders[row]))
        yield Verdict(len(molecule), int(stable[row]), graph.smiles, graph.fragments)


DEFINITIONS = Definitions(
    atom_stability=(
        "atoms whose bond orders by the distance table add up to their valence, over all atoms of "
        "all molecules that could be read; no charges allowed; an atom of an element without a "
        "table is not stable, nor are the others of its molecule"
    ),
    molecule_stability=(
        "molecules in which every atom is stable, over all molecules given; they need not be "
        "connected"
    ),
    validity=(
        "molecules whose graph by the distance table RDKit can sanitise, over all molecules "
        "given; several fragments and radicals are allowed"
    ),
)


def edm_protocol() -> Protocol:
    """Return an empty EDM protocol."""
    return Protocol(PROTOCOL, judge, DEFINITIONS)
