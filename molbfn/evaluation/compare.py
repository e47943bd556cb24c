"""Compare two sets of molecules, and say in a sentence what differs beyond noise."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from molbfn.atomic import replacing
from molbfn.chem.files import Problem
from molbfn.chem.hydrogens import hydrogen_note
from molbfn.data.store import MoleculeStore
from molbfn.evaluation import agreement, bonds, edm, physics, posebusters, revisited
from molbfn.evaluation.compare_sets import ComparedSet, evaluate_set
from molbfn.evaluation.differences import (
    Difference,
    additive_difference,
    as_estimate,
    combined,
    holm,
    statistic_difference,
)
from molbfn.evaluation.intervals import Estimate
from molbfn.evaluation.metrics import NamedRatio, NamedStatistic, by_name
from molbfn.evaluation.protocols import Context
from molbfn.evaluation.rarefaction import share_at
from molbfn.evaluation.reference import KnownSmiles, Progress, check_split, open_reference
from molbfn.evaluation.registry import (
    DEFAULT_SAMPLES,
    check_samples,
    chosen_protocols,
)
from molbfn.evaluation.sampled import Settings, selection_note
from molbfn.evaluation.source import file_of
from molbfn.seeds import check_seed

#: Protocols that two sets can be compared by.
COMPARABLE = (
    edm.PROTOCOL,
    bonds.PROTOCOL,
    revisited.PROTOCOL,
    agreement.PROTOCOL,
    posebusters.PROTOCOL,
    physics.PROTOCOL,
)
ALPHA = 0.05
_Named = TypeVar("_Named", NamedRatio, NamedStatistic)
_Pair = tuple[_Named | None, _Named | None]


@dataclasses.dataclass(frozen=True)
class ComparedMetric:
    """One metric of both sets: a share between 0 and 1, or a mean or median in its unit."""

    name: str
    label: str
    protocol: str
    first: Estimate | None
    """None where it is not defined: a denominator of 0, fewer than six numbers"""
    second: Estimate | None
    difference: Difference | None
    """second minus first"""
    adjusted_p: float | None
    """Holm's, over all metrics compared"""
    size: int | None
    """number of molecules that both sets are reduced to; None where the number does not matter"""
    definition: str
    unit: str | None = None
    """of a mean or median; None for a share"""
    measured: tuple[tuple[int, int], tuple[int, int]] | None = None
    """for both sets, molecules that a mean or median is of, and that it was asked of"""

    @property
    def differs(self) -> bool:
        """The difference is beyond noise, all metrics considered."""
        return self.adjusted_p is not None and self.adjusted_p < ALPHA


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two sets of molecules beside each other."""

    sources: tuple[str, str]
    given: tuple[int, int]
    """molecules, unreadable ones included"""
    unreadable: tuple[int, int]
    metrics: tuple[ComparedMetric, ...]
    reference: str | None
    notes: tuple[str, ...]
    """what to know about this comparison, a line each"""
    seed: int

    def __getitem__(self, name: str) -> ComparedMetric:
        """Return a metric by its name.

        Raises:
            KeyError: there is none; names the nearest.
        """
        return by_name(name, self.metrics, kind="metric")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; what is not defined is None."""
        from molbfn.evaluation.compare_table import sentence

        return {
            "format": 1,
            "sources": list(self.sources),
            "given": list(self.given),
            "unreadable": list(self.unreadable),
            "reference": self.reference,
            "seed": self.seed,
            "sentence": sentence(self),
            "notes": list(self.notes),
            "metrics": [
                dataclasses.asdict(metric) | {"differs": metric.differs} for metric in self.metrics
            ],
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return JSON, and write it to ``path`` (whole or not at all) if one is given.

        Raises:
            UserError: the file cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        if path is not None:
            with replacing(Path(path)) as stream:
                stream.write(text.encode())
        return text


def compare(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    reference: str | os.PathLike[str] | MoleculeStore | None = None,
    reference_split: str | None = None,
    protocols: Sequence[str] = (edm.PROTOCOL,),
    samples: Mapping[str, int | None] | None = None,
    settings: Settings | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    on_problem: Callable[[Problem], None] | None = None,
) -> Comparison:
    """Return the metrics of two files, folders or named data sets, and their differences.

    The two are taken for independent samples. Records that cannot be read count in the
    denominators. What depends on the number of molecules (uniqueness, novelty and what is made of
    them) is compared at the smaller of the two numbers (`molbfn.evaluation.rarefaction`). Slow
    protocols compare a sample of each; what fails there counts in shares, and beside means.

    Args:
        first, second: files or folders, or names of data sets ("qm9").
        reference: what novelty is compared with, as in `molbfn.evaluation.evaluate`; by its own
            SMILES where it has them, else by distances.
        reference_split: part of the reference.
        protocols: names in `COMPARABLE`; ("all",) takes all whose packages are installed.
        samples: molecules of each set that a slow protocol looks at, by its name; None: all.
        settings: timeout, processes and cache of the slow protocols.
        seed: of the bootstrap and of the samples.
        progress: called with a label, the molecules so far and their total or None.
        on_problem: called with each record that cannot be read.

    Raises:
        UserError: a file is missing or unreadable, an argument is not known, or a package that a
            protocol needs is not installed.
    """
    check_seed(seed)
    check_split(reference, reference_split)
    names, skipped = chosen_protocols(protocols, COMPARABLE)
    check_samples(samples or {}, names)
    sizes = {**DEFAULT_SAMPLES, **(samples or {})}
    paths = file_of(first), file_of(second)
    known: KnownSmiles | None = None
    if reference is not None:
        opened = open_reference(reference, split=reference_split)
        route = "smiles" if opened.has_smiles() else "distances"
        known = opened.known(route, progress=progress)
    context = Context(
        seed=seed,
        settings=settings or Settings(),
        known=() if known is None else (known,),
        progress=progress,
    )
    sets = [
        evaluate_set(
            path, names, label=label, samples=sizes, context=context, on_problem=on_problem
        )
        for path, label in zip(paths, "AB", strict=True)
    ]
    metrics = [m for name in names for m in _metrics(sets, name, known, seed=seed)]
    return Comparison(
        sources=(str(paths[0]), str(paths[1])),
        given=(sets[0].given, sets[1].given),
        unreadable=(sets[0].unreadable, sets[1].unreadable),
        metrics=tuple(_adjusted(metrics)),
        reference=None if known is None else known.name,
        notes=(
            *_notes(paths, sets, metrics),
            *(known.notes if known is not None else []),
            *(f"{name}: skipped, {reason}" for name, reason in skipped.items()),
        ),
        seed=seed,
    )


def _metrics(
    sets: Sequence[ComparedSet], protocol: str, known: KnownSmiles | None, *, seed: int
) -> list[ComparedMetric]:
    """Return the metrics of one protocol, not yet adjusted for their number."""
    found = [one.findings[protocol] for one in sets]
    rows = []
    for one, other in _paired(found[0].ratios, found[1].ratios):
        named = one or other
        assert named is not None
        if named.ratio.additive:
            rows.append(_additive(named, (one, other), seed=seed))
        else:
            rows.append(_distinct(sets, named, protocol, known))
    if any(protocol in one.unjudged and one.unjudged[protocol].all for one in sets):
        # What fails for want of bonds or of a rule says nothing of the molecules.
        rows = [dataclasses.replace(row, difference=None) for row in rows]
    pairs = _paired(found[0].statistics, found[1].statistics)
    return [*rows, *(_statistic(one, other, seed=seed) for one, other in pairs if one and other)]


def _paired(first: Sequence[_Named], second: Sequence[_Named]) -> list[_Pair]:
    """Return what has the same name; None where one set lacks it, as where all its tests failed."""
    sides = [{named.name: named for named in side} for side in (first, second)]
    return [(sides[0].get(name), sides[1].get(name)) for name in sides[0] | sides[1]]


def _additive(named: NamedRatio, pair: _Pair[NamedRatio], *, seed: int) -> ComparedMetric:
    """Return a metric of counts that add up over molecules."""
    one, other = pair
    ends = [None if n is None else as_estimate(n.ratio, seed=seed) for n in pair]
    gap = None
    if one is not None and other is not None:
        gap = additive_difference(one.ratio, other.ratio, seed=seed)
    return _row(named, ends, gap)


def _distinct(
    sets: Sequence[ComparedSet], named: NamedRatio, protocol: str, known: KnownSmiles | None
) -> ComparedMetric:
    """Return a metric that counts different structures, at the smaller number of molecules."""
    kind = named.name.removeprefix("" if protocol == edm.PROTOCOL else f"{protocol}_")
    structures = [one.structures(protocol, kind, known) for one in sets]
    size = min(len(s.labels) for s in structures)
    a, b = shares = [share_at(s, size) for s in structures]
    gap = None if a is None or b is None else combined(a, b)
    return _row(named, shares, gap, size=size)


def _statistic(first: NamedStatistic, second: NamedStatistic, *, seed: int) -> ComparedMetric:
    """Return a mean or median of one number per molecule."""
    ends: list[Estimate | None] = []
    for named in (first, second):
        value, found = named.value, named.interval(seed=seed)
        ends.append(None if value is None or found is None else Estimate(value, found))
    gap = statistic_difference(first.values, second.values, first.reduce, seed=seed)
    return dataclasses.replace(
        _row(first, ends, gap if all(ends) else None),
        unit=first.unit,
        measured=((first.count, first.given), (second.count, second.given)),
    )


def _row(
    named: NamedRatio | NamedStatistic,
    ends: Sequence[Estimate | None],
    gap: Difference | None,
    *,
    size: int | None = None,
) -> ComparedMetric:
    return ComparedMetric(
        name=named.name,
        label=named.label,
        protocol=named.protocol,
        first=ends[0],
        second=ends[1],
        difference=gap,
        adjusted_p=None,
        size=size,
        definition=named.definition,
    )


def _adjusted(metrics: Sequence[ComparedMetric]) -> list[ComparedMetric]:
    compared = [m for m in metrics if m.difference is not None]
    p_values = iter(holm([m.difference.p for m in compared if m.difference]))
    return [
        m if m.difference is None else dataclasses.replace(m, adjusted_p=next(p_values))
        for m in metrics
    ]


def _notes(
    paths: tuple[Path, Path],
    sets: Sequence[ComparedSet],
    metrics: Sequence[ComparedMetric],
) -> list[str]:
    notes = []
    if paths[0].exists() and os.path.samefile(*paths):
        notes.append("A and B are the same file")
    if sets[0].given != sets[1].given:
        notes.append(
            f"A has {sets[0].given:,} molecules and B {sets[1].given:,}: uniqueness falls with "
            "their number and is not comparable as it is; what counts different structures is "
            "compared at the smaller number, as the mean over all subsamples"
        )
    for label, one in zip("AB", sets, strict=True):
        if one.selected:
            notes.append(f"{label}: {selection_note(one.selected, one.given)}")
        if one.bare:
            notes.append(f"{label}: {hydrogen_note(one.bare, one.given)}")
        notes += [f"{label}: {note}" for found in one.findings.values() for note in found.notes]
        for protocol, unjudged in one.unjudged.items():
            if unjudged.count:
                verb = "so nothing is compared by it" if unjudged.all else "they fail"
                notes.append(f"{label}: {protocol}: {unjudged.in_words()}; {verb}")
    slow = [found for one in sets for found in one.findings.values() if found.statistics]
    if any(not outcome.ok for found in slow for outcome in found.outcomes.values()):
        notes.append(
            "means and medians are over the molecules that succeeded; where the two sets do not "
            'fail equally often, look at the shares, and at the median with "failed as worst"'
        )
    if any(m.difference is None for m in metrics):
        names = ", ".join(m.name for m in metrics if m.difference is None)
        notes.append(f"not defined for both, and left out: {names}")
    return notes
