"""Cards and evaluations as compact plain values for the page's JSON.

Lengths are whole numbers, coordinates thousandths and drawings hundredths of an angstrom: short,
and exact to what a molecule file has. Lists of atoms and bonds are flat.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from molbfn.evaluation.result import EvaluationResult
from molbfn.report.collect import Card, main_protocol
from molbfn.report.depict import Depiction
from molbfn.report.reasons import Judgement

_FARTHEST = 10**9
"""angstrom; thousandths of it are whole numbers that a browser holds exactly"""


def pack_card(file: int, card: Card, columns: Sequence[Mapping[str, str | None]]) -> dict[str, Any]:
    """Return what the page knows of one record.

    Keys: ``f`` file, ``i`` record from 1, ``t`` title, ``m`` formula, ``s`` SMILES, ``z`` atomic
    numbers, ``x`` coordinates, ``b`` bonds (i, j, order), ``r`` where the bonds come from, ``c``
    charged atoms (atom, charge), ``d`` drawing, ``j`` judgements by protocol, ``v`` values of the
    columns, ``a`` those that the file writes in another way, ``n`` why a column has none, ``w``
    what slow protocols found in words, and what the picture cannot show, ``p`` other properties,
    ``k`` the protocol that says most.
    """
    packed: dict[str, Any] = {
        "f": file,
        "i": card.record,
        "k": main_protocol(card.molecule),
        "j": {name: _judgement(found) for name, found in card.judgements.items()},
        "v": [card.numbers.get(str(column["key"])) for column in columns],
    }
    molecule = card.molecule
    if molecule is None:
        return packed
    packed |= {
        "t": molecule.title,
        "m": card.formula,
        "s": card.smiles,
        "z": molecule.atomic_numbers.tolist(),
        "x": whole(molecule.positions, 1000),
        "b": card.bonds.ravel().tolist(),
        "r": card.bonds_by,
        "p": card.texts,
    }
    written = {str(c["key"]): card.stated.get(str(c["key"])) for c in columns}
    if written := {key: text for key, text in written.items() if text is not None}:
        packed["a"] = written
    if card.missing:
        packed["n"] = card.missing
    words = dict(card.words)
    if np.abs(molecule.positions).max(initial=0.0) > _FARTHEST:
        words["Coordinates"] = f"too far to show: beyond {_FARTHEST:,} Å, where the picture ends"
    if words:
        packed["w"] = words
    if molecule.formal_charges is not None and molecule.formal_charges.any():
        atoms = np.flatnonzero(molecule.formal_charges)
        packed["c"] = np.stack([atoms, molecule.formal_charges[atoms]], 1).ravel().tolist()
    if card.depiction is not None:
        packed["d"] = _depiction(card.depiction)
    return packed


def whole(values: Any, scale: int) -> list[int]:
    """Return numbers times ``scale`` as a flat list of whole ones; none lies beyond `_FARTHEST`."""
    near = np.clip(np.asarray(values, dtype=np.float64), -_FARTHEST, _FARTHEST)
    return np.rint(near * scale).astype(np.int64).ravel().tolist()


def _judgement(found: Judgement) -> list[Any]:
    return [found.status, [[r.text, r.kind, list(r.atoms)] for r in found.reasons]]


def _depiction(depiction: Depiction) -> dict[str, Any]:
    """Return ``a`` atoms of the molecule, ``p`` points, ``h`` hydrogens folded into labels."""
    return {
        "a": list(depiction.atoms),
        "p": whole(depiction.points, 100),
        "h": list(depiction.hydrogens),
    }


def pack_evaluation(
    name: str, result: EvaluationResult, *, shown: int, notes: Sequence[str]
) -> dict[str, Any]:
    """Return what the page knows of one file as a whole."""
    return {
        "name": name,
        "given": result.given,
        "shown": shown,
        "unreadable": result.unreadable,
        "unjudged": result.unjudged,
        "reference": result.reference,
        "metrics": [dataclasses.asdict(metric) for metric in result.metrics],
        "quantities": [dataclasses.asdict(quantity) for quantity in result.quantities],
        "distributions": [_distribution(d.to_dict()) for d in result.distributions],
        "notes": [
            *notes,
            *result.notes,
            *(f"{k}: skipped, {v}" for k, v in result.skipped.items()),
        ],
        "versions": result.versions,
    }


def _distribution(values: dict[str, Any]) -> dict[str, Any]:
    for key in ("shares", "reference_shares", "edges"):
        if values[key] is not None:
            values[key] = [round(value, 6) for value in values[key]]
    return values
