"""What all protocols have in common, for those that need more than a verdict per molecule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from molbfn.evaluation.metrics import NamedRatio, NamedStatistic, Quantity
from molbfn.evaluation.sampled import Outcome, Settings

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule
    from molbfn.evaluation.distributions import Distribution
    from molbfn.evaluation.reference import KnownSmiles

Progress = Callable[[str, int, "int | None"], None]
"""Called with what is going on, the molecules so far and in all (or None)."""


@dataclasses.dataclass(frozen=True)
class Context:
    """What a protocol may need to come to its end."""

    seed: int
    settings: Settings
    known: tuple[KnownSmiles, ...] = ()
    """the reference's structures"""
    seconds: float | None = None
    """in which the molecules were made, where that is known"""
    no_seconds: str | None = None
    """why it is not, although it is on record"""
    progress: Progress | None = None

    def counter(self, label: str) -> Callable[[int, int], None] | None:
        """Return what reports (molecules so far, in all) under a label; None if nobody listens."""
        report = self.progress
        return report and (lambda done, total: report(label, done, total))


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a protocol found."""

    ratios: Sequence[NamedRatio] = ()
    statistics: Sequence[NamedStatistic] = ()
    quantities: Sequence[Quantity] = ()
    """numbers that are neither; tables show them after the statistics"""
    distributions: Sequence[Distribution] = ()
    notes: Sequence[str] = ()
    """what the table's reader has to know, a line each"""
    packages: Sequence[str] = ()
    """that the result depends on, beside RDKit and numpy"""
    outcomes: Mapping[int, Outcome] = dataclasses.field(default_factory=dict)
    """what was found of single molecules, by their place among those given, from 0"""


class SlowProtocol(Protocol):
    """A protocol that takes molecules one after the other and finds out at the end."""

    def add(self, molecules: Sequence[Molecule | None]) -> None:
        """Take more molecules; None is one that could not be read."""

    def finish(self, context: Context) -> Findings:
        """Return what was found."""
