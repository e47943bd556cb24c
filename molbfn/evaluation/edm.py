"""EDM's evaluation protocol, and what it hides set beside it.

Hoogeboom et al., "Equivariant Diffusion for Molecule Generation in 3D", ICML 2022; used with the
same distance tables by GeoLDM, EquiFM, GeoBFN (arXiv 2403.15441) and others. It looks at elements
and coordinates only: bonds and charges that a file states are ignored. The margins of the tables
were tuned on QM9, and only H, C, N, O and F have entries; a molecule with another element cannot
be judged and fails every metric.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from molbfn.chem.bonds import bond_list, bond_orders, pairs_in_table, stable_atoms
from molbfn.chem.elements import MAX_ATOMIC_NUMBER, symbol
from molbfn.evaluation.graph import judge_graph
from molbfn.evaluation.intervals import Ratio, additive_ratio
from molbfn.evaluation.metrics import NamedRatio

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule
    from molbfn.evaluation.reference import KnownSmiles

PROTOCOL = "edm"
_PAIRS_PER_GROUP = 1_000_000  # bounds the padded bond orders of one group

_EVERY = np.arange(1, MAX_ATOMIC_NUMBER + 1)
#: Elements that the distance tables know, by atomic number (index 0 is no element).
_IN_TABLE = np.concatenate([[False], np.diagonal(pairs_in_table(_EVERY))])


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the protocol says of one molecule."""

    atoms: int
    """0 where there is no molecule"""
    stable_atoms: int
    smiles: str | None
    """of the largest fragment by the distance rule; None: not valid"""
    fragments: int
    """connected parts; 0 where not valid"""
    problem: str | None = None
    """why the molecule could not be judged; it then fails everything"""

    @property
    def stable(self) -> bool:
        """Every atom is stable."""
        return self.problem is None and self.stable_atoms == self.atoms

    @property
    def valid(self) -> bool:
        """RDKit sanitises the graph, whatever its number of fragments."""
        return self.smiles is not None

    @property
    def connected(self) -> bool:
        """Valid and in one piece."""
        return self.valid and self.fragments == 1


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
    for row, molecule in enumerate(molecules):
        graph = judge_graph(molecule.atomic_numbers, bond_list(orders[row]))
        yield Verdict(len(molecule), int(stable[row]), graph.smiles, graph.fragments)


class EdmProtocol:
    """Gathers verdicts and turns them into ratios; holds some bytes per molecule."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, bool, bool, int]] = []
        self._structures: dict[str, int] = {}

    def add(self, molecules: Sequence[Molecule | None]) -> list[Verdict]:
        """Judge more molecules; None counts as one that failed. Returns the verdicts."""
        verdicts = judge(molecules)
        for v in verdicts:
            # structure -1: not valid
            structure = -1
            if v.smiles is not None:
                structure = self._structures.setdefault(v.smiles, len(self._structures))
            self._rows.append((v.atoms, v.stable_atoms, v.stable, v.connected, structure))
        return verdicts

    def ratios(self, references: Sequence[KnownSmiles] = ()) -> list[NamedRatio]:
        """Return the metrics of all molecules so far, novelty once for each reference."""
        table = np.array(self._rows, dtype=np.int64).reshape(-1, 5)
        atoms, stable, all_stable, connected, structure = table.T
        every, valid = np.ones(len(table), dtype=np.int64), structure >= 0
        distinct = np.ones(len(self._structures), dtype=bool)

        def add(name: str, label: str, definition: str, ratio: Ratio) -> NamedRatio:
            return NamedRatio(name, label, PROTOCOL, definition, ratio)

        found = [
            add("atom_stability", "Atom stability", _ATOM_STABILITY, additive_ratio(stable, atoms)),
            add(
                "molecule_stability",
                "Molecule stability",
                _MOLECULE_STABILITY,
                additive_ratio(all_stable, every),
            ),
            add("validity", "Validity", _VALIDITY, additive_ratio(valid, every)),
            add(
                "connected_validity",
                "Connected validity",
                _CONNECTED,
                additive_ratio(connected, every),
            ),
            add("uniqueness", "Uniqueness", _UNIQUENESS, _distinct(structure, distinct, valid)),
            add(
                "valid_unique",
                "Validity × uniqueness",
                _VALID_UNIQUE,
                _distinct(structure, distinct, every),
            ),
        ]
        for known in references:
            new = np.fromiter(
                (s not in known.smiles for s in self._structures), bool, len(self._structures)
            )
            where = f"the {len(known.smiles):,} different structures of {known.description}"
            found += [
                add(
                    f"novelty{known.suffix}",
                    f"Novelty ({known.route})",
                    f"{_NOVELTY} {where}",
                    _distinct_share(structure, new),
                ),
                add(
                    f"valid_unique_novel{known.suffix}",
                    f"Validity × uniqueness × novelty ({known.route})",
                    f"{_VALID_UNIQUE_NOVEL} {where}",
                    _distinct(structure, new, every),
                ),
            ]
        return found


def _distinct(
    structure: NDArray[np.int64], counted: NDArray[np.bool_], denominator: NDArray[np.generic]
) -> Ratio:
    """Return the number of different structures that count, over sum(denominator).

    Args:
        structure: [M] number of each molecule's structure, -1 for none.
        counted: [D] which structures count.
        denominator: bool or integers [M].
    """
    parts = np.stack([_lost(structure, counted), denominator], axis=1).astype(np.int64)
    return Ratio(int(counted.sum()), int(np.sum(denominator)), parts, additive=False)


def _distinct_share(structure: NDArray[np.int64], counted: NDArray[np.bool_]) -> Ratio:
    """Return the different structures that count, over all different structures."""
    every = np.ones_like(counted)
    parts = np.stack([_lost(structure, counted), _lost(structure, every)], axis=1)
    return Ratio(int(counted.sum()), len(counted), parts, additive=False)


def _lost(structure: NDArray[np.int64], counted: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return [M] 1 where a molecule is the only one of a structure that counts."""
    occurrences = np.bincount(structure[structure >= 0], minlength=len(counted))
    # the entry behind the last stands for "no structure", which index -1 picks
    single = np.append((occurrences == 1) & counted, False)
    return single[structure].astype(np.int64)


_ATOM_STABILITY = (
    "atoms whose bond orders by the distance table add up to their valence, over all atoms of all "
    "molecules that could be read; no charges allowed; an atom of an element without a table is "
    "not stable, nor are the others of its molecule"
)
_MOLECULE_STABILITY = (
    "molecules in which every atom is stable, over all molecules given; they need not be connected"
)
_VALIDITY = (
    "molecules whose graph by the distance table RDKit can sanitise, over all molecules given; "
    "several fragments and radicals are allowed"
)
_CONNECTED = "valid molecules in one piece, over all molecules given"
_UNIQUENESS = (
    "different SMILES of largest fragments among the valid molecules, over the valid molecules; "
    "falls with their number"
)
_VALID_UNIQUE = "different SMILES of largest fragments of valid molecules, over all molecules given"
_NOVELTY = "share of the different SMILES that are not among"
_VALID_UNIQUE_NOVEL = (
    "number of different SMILES of valid molecules, over all molecules given, that are not among"
)
