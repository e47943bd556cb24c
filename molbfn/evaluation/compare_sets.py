"""One of two sets of molecules that are compared: what every protocol finds, and its structures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from molbfn.chem.files import Problem, read_molecules
from molbfn.chem.hydrogens import lacks_hydrogen
from molbfn.chem.records import is_selected
from molbfn.evaluation.protocols import Context, Findings
from molbfn.evaluation.rarefaction import Structures
from molbfn.evaluation.reference import KnownSmiles
from molbfn.evaluation.registry import finish, open_protocol
from molbfn.evaluation.revisited import RevisitedVerdict
from molbfn.evaluation.verdicts import Unjudged, Verdict

INCHIKEY = "connected_unique_inchikey"
"""end of the name of the metric that tells structures apart by InChIKey"""
_CHUNK = 512


@dataclasses.dataclass(frozen=True, eq=False)
class ComparedSet:
    """One set of molecules under every protocol."""

    given: int
    unreadable: int
    selected: int
    """molecules that passed a test when they were made"""
    bare: int
    """molecules without the hydrogens that their valences want"""
    findings: dict[str, Findings]
    """by protocol"""
    smiles: dict[str, list[str | None]]
    """by protocol that judges molecules: one per molecule, None where it is not valid"""
    keys: dict[str, list[str | None]]
    """the same of InChIKeys, None also where it is not in one piece"""
    unjudged: dict[str, Unjudged]
    """by protocol that judges molecules"""

    def structures(self, protocol: str, kind: str, known: KnownSmiles | None) -> Structures:
        """Return the molecules that a metric of different structures draws from.

        Args:
            kind: the metric's name without the protocol's prefix.
            known: what novelty is measured against.
        """
        if kind == INCHIKEY:
            return _structures(self.keys[protocol], None, among_all=True)
        among_all, smiles = kind.startswith("valid_unique"), self.smiles[protocol]
        drawn = smiles if among_all else [s for s in smiles if s is not None]
        return _structures(
            drawn, known if "novel" in kind else None, among_all=not kind.startswith("novelty")
        )


def _structures(
    names: Sequence[str | None], known: KnownSmiles | None, *, among_all: bool
) -> Structures:
    numbers: dict[str, int] = {}
    labels: NDArray[np.int64] = np.array(
        [-1 if s is None else numbers.setdefault(s, len(numbers)) for s in names], dtype=np.int64
    )
    counted = np.array([known is None or s not in known.smiles for s in numbers], dtype=bool)
    return Structures(labels, counted, among_all=among_all)


def evaluate_set(
    path: Path,
    names: Sequence[str],
    *,
    label: str,
    samples: Mapping[str, int | None],
    context: Context,
    on_problem: Callable[[Problem], None] | None,
) -> ComparedSet:
    """Return what protocols find in a file or folder.

    Args:
        names: of the protocols.
        label: "A" or "B", before what the progress says.
        samples: molecules that slow protocols look at, by name.

    Raises:
        UserError: as `read_molecules` and the slow protocols.
    """
    report = context.progress
    running = {name: open_protocol(name, samples, None, seed=context.seed) for name in names}
    smiles: dict[str, list[str | None]] = {}
    keys: dict[str, list[str | None]] = {}
    pool: dict[str, str] = {}  # equal texts are one object: memory grows with different ones
    unjudged: dict[str, Unjudged] = {}
    given = unreadable = selected = bare = 0
    records = read_molecules(path, on_problem=on_problem)
    while chunk := [record.molecule for record in islice(records, _CHUNK)]:
        given += len(chunk)
        unreadable += sum(molecule is None for molecule in chunk)
        selected += sum(m is not None and is_selected(m.properties) for m in chunk)
        bare += sum(m is not None and lacks_hydrogen(m) for m in chunk)
        for name, protocol in running.items():
            verdicts = protocol.add(chunk) or []
            if verdicts:
                unjudged.setdefault(name, Unjudged()).add(chunk, verdicts)
            smiles.setdefault(name, []).extend(_pooled(v.smiles, pool) for v in verdicts)
            keys.setdefault(name, []).extend(_pooled(_key(v), pool) for v in verdicts)
        if report:
            report(f"reading {label}", given, None)
    labelled = report and (lambda text, done, total: report(f"{label}: {text}", done, total))
    own = dataclasses.replace(context, progress=labelled)
    findings = {name: finish(protocol, own) for name, protocol in running.items()}
    return ComparedSet(given, unreadable, selected, bare, findings, smiles, keys, unjudged)


def _key(verdict: Verdict) -> str | None:
    if isinstance(verdict, RevisitedVerdict) and verdict.connected:
        return verdict.inchikey
    return None


def _pooled(text: str | None, pool: dict[str, str]) -> str | None:
    return None if text is None else pool.setdefault(text, text)
