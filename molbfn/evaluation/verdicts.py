"""What a protocol says of single molecules, gathered into the ratios that are its metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from molbfn.evaluation.intervals import Ratio, additive_ratio
from molbfn.evaluation.metrics import NamedRatio

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule
    from molbfn.evaluation.reference import KnownSmiles


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the protocol says of one molecule."""

    atoms: int
    """0 where there is no molecule"""
    stable_atoms: int
    smiles: str | None
    """of the largest fragment; None: not valid"""
    fragments: int
    """connected parts; 0 where not valid"""
    problem: str | None = None
    """why the molecule could not be judged; it then fails everything"""
    charge: int = dataclasses.field(default=0, kw_only=True)
    """sum of the formal charges, where the protocol looks at them"""

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


@dataclasses.dataclass
class Unjudged:
    """How many molecules, of those that could be read, a protocol could not judge."""

    read: int = 0
    count: int = 0
    example: str = ""
    """why, of the first of them"""

    def add(self, molecules: Sequence[Molecule | None], verdicts: Sequence[Verdict]) -> None:
        """Count the verdicts of more molecules; None is one that could not be read."""
        for molecule, verdict in zip(molecules, verdicts, strict=True):
            self.read += molecule is not None
            if molecule is not None and verdict.problem is not None:
                self.count += 1
                self.example = self.example or verdict.problem

    @property
    def all(self) -> bool:
        """Whether it judged none."""
        return 0 < self.count == self.read

    def in_words(self) -> str:
        """Return the count and a reason."""
        return f"{self.count:,} of {self.read:,} molecules not judged ({self.example})"


@dataclasses.dataclass(frozen=True)
class Definitions:
    """What the metrics of a protocol mean, a sentence each."""

    atom_stability: str
    molecule_stability: str
    validity: str
    connected_validity: str = "valid molecules in one piece, over all molecules given"
    uniqueness: str = (
        "different SMILES of largest fragments among the valid molecules, over the valid "
        "molecules; falls with their number"
    )
    valid_unique: str = (
        "different SMILES of largest fragments of valid molecules, over all molecules given"
    )
    novelty: str = "share of the different SMILES that are not among"
    valid_unique_novel: str = (
        "number of different SMILES of valid molecules, over all molecules given, that are not "
        "among"
    )
    net_charge: str | None = None
    """None where the protocol does not look at charges; there is no such metric then"""


class Protocol:
    """Gathers verdicts and turns them into ratios; holds some bytes per molecule.

    Args:
        name: of the protocol.
        judge: returns a verdict on each molecule; None stands for one that could not be read.
        definitions: what the metrics mean.
        prefix: of the metrics' names, to tell protocols apart.
    """

    def __init__(
        self,
        name: str,
        judge: Callable[[Sequence[Molecule | None]], list[Verdict]],
        definitions: Definitions,
        *,
        prefix: str = "",
    ) -> None:
        self._name, self._judge = name, judge
        self._definitions, self._prefix = definitions, prefix
        self._rows: list[tuple[int, int, bool, bool, int, bool, bool]] = []
        self._structures: dict[str, int] = {}

    def add(self, molecules: Sequence[Molecule | None]) -> list[Verdict]:
        """Judge more molecules; None counts as one that failed. Returns the verdicts."""
        verdicts = self._judge(molecules)
        for v in verdicts:
            # structure -1: not valid
            structure = -1
            if v.smiles is not None:
                structure = self._structures.setdefault(v.smiles, len(self._structures))
            judged, charged = v.problem is None, v.charge != 0
            row = (v.atoms, v.stable_atoms, v.stable, v.connected, structure, judged, charged)
            self._rows.append(row)
        return verdicts

    def ratios(self, references: Sequence[KnownSmiles] = ()) -> list[NamedRatio]:
        """Return the metrics of all molecules so far, novelty once for each reference."""
        table = np.array(self._rows, dtype=np.int64).reshape(-1, 7)
        atoms, stable, all_stable, connected, structure, judged, charged = table.T
        every, valid = np.ones(len(table), dtype=np.int64), structure >= 0
        distinct = np.ones(len(self._structures), dtype=bool)

        def add(name: str, label: str, ratio: Ratio, *, suffix: str = "", of: str = "") -> None:
            definition = getattr(self._definitions, name) + of
            found.append(
                NamedRatio(f"{self._prefix}{name}{suffix}", label, self._name, definition, ratio)
            )

        found: list[NamedRatio] = []
        add("atom_stability", "Atom stability", additive_ratio(stable, atoms))
        add("molecule_stability", "Molecule stability", additive_ratio(all_stable, every))
        add("validity", "Validity", additive_ratio(valid, every))
        add("connected_validity", "Connected validity", additive_ratio(connected, every))
        if self._definitions.net_charge is not None:
            add("net_charge", "Net charge", additive_ratio(charged, judged))
        add("uniqueness", "Uniqueness", distinct_ratio(structure, distinct, valid))
        add("valid_unique", "Validity × uniqueness", distinct_ratio(structure, distinct, every))
        for known in references:
            new = np.fromiter(
                (s not in known.smiles for s in self._structures), bool, len(self._structures)
            )
            where = f" the {len(known.smiles):,} different structures of {known.description}"
            add(
                "novelty",
                f"Novelty ({known.route})",
                _distinct_share(structure, new),
                suffix=known.suffix,
                of=where,
            )
            add(
                "valid_unique_novel",
                f"Validity × uniqueness × novelty ({known.route})",
                distinct_ratio(structure, new, every),
                suffix=known.suffix,
                of=where,
            )
        return found


def distinct_ratio(
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
