"""Compare two sets of molecules, and say in a sentence what differs beyond noise."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molbfn.chem.files import Problem, read_molecules
from molbfn.data.npz import replacing
from molbfn.data.store import MoleculeStore
from molbfn.errors import UserError, nearest
from molbfn.evaluation import bonds, edm
from molbfn.evaluation.differences import (
    Difference,
    additive_difference,
    as_share,
    combined,
    holm,
)
from molbfn.evaluation.metrics import NamedRatio
from molbfn.evaluation.rarefaction import Share, Structures, share_at
from molbfn.evaluation.reference import KnownSmiles, Progress, open_reference
from molbfn.evaluation.verdicts import Protocol

#: Protocols that two sets can be compared by.
COMPARABLE = {edm.PROTOCOL: edm.edm_protocol, bonds.PROTOCOL: bonds.bonds_protocol}
ALPHA = 0.05
_CHUNK = 512


@dataclasses.dataclass(frozen=True)
class ComparedMetric:
    """One metric of both sets; shares between 0 and 1."""

    name: str
    label: str
    protocol: str
    first: Share | None
    """None where the denominator is 0"""
    second: Share | None
    difference: Difference | None
    """second minus first"""
    adjusted_p: float | None
    """Holm's, over all metrics compared"""
    size: int | None
    """number of molecules that both sets are reduced to; None where the number does not matter"""
    definition: str

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
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(f"no metric '{name}';{nearest(name, [m.name for m in self.metrics])}")

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
    seed: int = 0,
    progress: Progress | None = None,
    on_problem: Callable[[Problem], None] | None = None,
) -> Comparison:
    """Return the metrics of two files or folders of molecules, and their differences.

    The two are taken for independent samples. Records that cannot be read count in the
    denominators. What depends on the number of molecules (uniqueness, novelty and what is made of
    them) is compared at the smaller of the two numbers (`molbfn.evaluation.rarefaction`).

    Args:
        first, second: files or folders.
        reference: what novelty is compared with, as in `molbfn.evaluation.evaluate`; by its own
            SMILES where it has them, else by distances.
        reference_split: part of the reference.
        protocols: names in `COMPARABLE`.
        seed: of the bootstrap.
        progress: called with a label, the molecules so far and None.
        on_problem: called with each record that cannot be read.

    Raises:
        UserError: a file is missing or unreadable, or an argument is not known.
    """
    for name in protocols:
        if name not in COMPARABLE:
            hint = nearest(name, COMPARABLE)
            raise UserError(f"unknown protocol '{name}';{hint} known: {', '.join(COMPARABLE)}")
    if not protocols:
        raise UserError(f"no protocol given; known: {', '.join(COMPARABLE)}")
    known: KnownSmiles | None = None
    if reference is not None:
        opened = open_reference(reference, split=reference_split)
        route = "smiles" if opened.has_smiles() else "distances"
        known = opened.known(route, progress=progress)
    names = list(dict.fromkeys(protocols))
    sets = [
        _judge(Path(path), names, label=label, progress=progress, on_problem=on_problem)
        for path, label in ((first, "reading A"), (second, "reading B"))
    ]
    metrics = [m for name in names for m in _metrics(sets, name, known, seed=seed)]
    return Comparison(
        sources=(str(first), str(second)),
        given=(sets[0].given, sets[1].given),
        unreadable=(sets[0].unreadable, sets[1].unreadable),
        metrics=tuple(_adjusted(metrics)),
        reference=None if known is None else known.name,
        notes=tuple(_notes(first, second, sets, metrics)),
        seed=seed,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Judged:
    """One set of molecules under every protocol."""

    given: int
    unreadable: int
    protocols: dict[str, Protocol]
    smiles: dict[str, list[str | None]]
    """one per molecule, None where it is not valid"""


def _judge(
    path: Path,
    names: Sequence[str],
    *,
    label: str,
    progress: Progress | None,
    on_problem: Callable[[Problem], None] | None,
) -> _Judged:
    protocols = {name: COMPARABLE[name]() for name in names}
    smiles: dict[str, list[str | None]] = {name: [] for name in names}
    pool: dict[str, str] = {}  # equal SMILES are one object: memory grows with different ones
    given = unreadable = 0
    records = read_molecules(path, on_problem=on_problem)
    while chunk := [record.molecule for record in islice(records, _CHUNK)]:
        given += len(chunk)
        unreadable += sum(molecule is None for molecule in chunk)
        for name, protocol in protocols.items():
            found = [verdict.smiles for verdict in protocol.add(chunk)]
            smiles[name] += [None if s is None else pool.setdefault(s, s) for s in found]
        if progress:
            progress(label, given, None)
    return _Judged(given, unreadable, protocols, smiles)


def _metrics(
    sets: Sequence[_Judged], protocol: str, known: KnownSmiles | None, *, seed: int
) -> list[ComparedMetric]:
    """Return the metrics of one protocol, not yet adjusted for their number."""
    found = []
    references = () if known is None else (known,)
    named = [judged.protocols[protocol].ratios(references) for judged in sets]
    prefix = named[0][0].name.removesuffix("atom_stability")
    for one, other in zip(*named, strict=True):
        if one.ratio.additive:
            ends = [as_share(n.ratio, seed=seed) for n in (one, other)]
            gap = additive_difference(one.ratio, other.ratio, seed=seed)
            found.append(_row(one, ends, gap, size=None))
            continue
        kind = one.name.removeprefix(prefix)
        structures = [_structures(judged.smiles[protocol], kind, known) for judged in sets]
        size = min(len(s.labels) for s in structures)
        shares = [share_at(s, size) for s in structures]
        a, b = shares
        gap = None if a is None or b is None else combined(a, b)
        found.append(_row(one, shares, gap, size=size))
    return found


def _row(
    named: NamedRatio, shares: Sequence[Share | None], gap: Difference | None, *, size: int | None
) -> ComparedMetric:
    return ComparedMetric(
        name=named.name,
        label=named.label,
        protocol=named.protocol,
        first=shares[0],
        second=shares[1],
        difference=gap,
        adjusted_p=None,
        size=size,
        definition=named.definition,
    )


def _structures(smiles: list[str | None], kind: str, known: KnownSmiles | None) -> Structures:
    """Return the molecules that a metric of distinct structures draws from."""
    among_all = kind.startswith("valid_unique")
    drawn = smiles if among_all else [s for s in smiles if s is not None]
    numbers: dict[str, int] = {}
    labels: NDArray[np.int64] = np.array(
        [-1 if s is None else numbers.setdefault(s, len(numbers)) for s in drawn], dtype=np.int64
    )
    novel = known is not None and "novel" in kind
    counted = np.array([not novel or s not in known.smiles for s in numbers], dtype=bool)
    return Structures(labels, counted, among_all=not kind.startswith("novelty"))


def _adjusted(metrics: Sequence[ComparedMetric]) -> list[ComparedMetric]:
    compared = [m for m in metrics if m.difference is not None]
    p_values = iter(holm([m.difference.p for m in compared if m.difference]))
    return [
        m if m.difference is None else dataclasses.replace(m, adjusted_p=next(p_values))
        for m in metrics
    ]


def _notes(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    sets: Sequence[_Judged],
    metrics: Sequence[ComparedMetric],
) -> list[str]:
    notes = []
    if Path(first).exists() and os.path.samefile(first, second):
        notes.append("A and B are the same file")
    if sets[0].given != sets[1].given:
        notes.append(
            f"A has {sets[0].given:,} molecules and B {sets[1].given:,}: uniqueness falls with "
            "their number and is not comparable as it is; what counts different structures is "
            "compared at the smaller number, as the mean over all subsamples"
        )
    if any(m.difference is None for m in metrics):
        names = ", ".join(m.name for m in metrics if m.difference is None)
        notes.append(f"not defined for both, and left out: {names}")
    return notes
