"""Molecules with all that a report says of each: verdicts, reasons, drawing, properties."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from molbfn.chem.bonds import bond_list, bond_orders, pairs_in_table
from molbfn.chem.elements import symbol
from molbfn.chem.files import read_molecules
from molbfn.chem.formats import formula
from molbfn.chem.molecule import Molecule
from molbfn.chem.perception import fall_back
from molbfn.chem.properties import as_number
from molbfn.evaluation import bonds as own
from molbfn.evaluation import edm
from molbfn.evaluation.properties import properties
from molbfn.evaluation.verdicts import Verdict
from molbfn.report.depict import Depiction, depict
from molbfn.report.measured import MEASURED, Outcomes, measured
from molbfn.report.reasons import Judgement, explain, unreadable

#: Numbers computed for each molecule: name -> label and unit.
COMPUTED: dict[str, tuple[str, str | None]] = {
    "atoms": ("Atoms", None),
    "heavy": ("Heavy atoms", None),
    "weight": ("Weight", "g/mol"),
    "net_charge": ("Net charge", None),
    "rings": ("Rings", None),
    "qed": ("QED", None),
    "logp": ("logP", None),
}
#: All numbers that a report may add to those of the file: name -> label and unit.
LABELS = {**COMPUTED, **MEASURED}

_LARGEST_GUESSED = 2000
"""atoms of the largest molecule whose bonds are guessed by radii: every pair is looked at"""


@dataclasses.dataclass(frozen=True)
class Card:
    """One record of a file, as a report shows it."""

    record: int
    """in its file, from 1"""
    molecule: Molecule | None
    judgements: dict[str, Judgement]
    """by protocol, "edm" and "bonds\""""
    bonds: NDArray[np.int64]
    """[E, 3] that are shown: the molecule's own, else by distance"""
    bonds_by: str
    """where they come from: "file", "table", "single" (radii) or "none\""""
    depiction: Depiction | None
    numbers: dict[str, float]
    """those of `LABELS` that could be, then the numeric properties of the file"""
    texts: dict[str, str]
    """other properties"""
    formula: str = ""
    smiles: str | None = None
    """of all pieces, by the bonds shown, where RDKit accepts them"""
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    """why a number of `MEASURED` is not there, where its protocol ran"""
    stated: dict[str, str] = dataclasses.field(default_factory=dict)
    """numbers of the file as it writes them, where it writes "-7.30" and not -7.3"""
    words: dict[str, str] = dataclasses.field(default_factory=dict)
    """what slow protocols found beside numbers"""

    @property
    def main(self) -> Judgement:
        """By the molecule's own bonds where it has any, else by EDM's distances."""
        return self.judgements[main_protocol(self.molecule)]


def main_protocol(molecule: Molecule | None) -> str:
    """Return the protocol that says most of a molecule: its own bonds if it has any."""
    stated = molecule is not None and molecule.states_bonds
    return own.PROTOCOL if stated else edm.PROTOCOL


def collect(path: Path, limit: int) -> Iterator[Card]:
    """Yield the first records of a file, those that cannot be read among them.

    Raises:
        UserError: as `read_molecules`.
    """
    for record in islice(read_molecules(path), limit):
        if record.molecule is None:
            reason = (record.reason or "cannot be read").replace(str(path), path.name)
            yield _unreadable(record.index + 1, reason)
        else:
            yield card(record.index + 1, record.molecule)


def with_measurements(card: Card, outcomes: Outcomes, place: int) -> Card:
    """Return the card with what slow protocols found of its molecule.

    Args:
        place: of the molecule in the file, from 0.
    """
    if card.molecule is None:
        return card
    found = measured(outcomes, place)
    return dataclasses.replace(
        card,
        numbers={**card.numbers, **found.numbers},
        missing=found.missing,
        words=found.words,
    )


def _unreadable(number: int, reason: str) -> Card:
    judgement = unreadable(reason, number)
    return Card(
        number,
        None,
        {edm.PROTOCOL: judgement, own.PROTOCOL: judgement},
        np.empty((0, 3), dtype=np.int64),
        "file",
        None,
        {},
        {},
    )


def card(number: int, molecule: Molecule) -> Card:
    """Return what there is to say of a molecule.

    Args:
        number: of its record, from 1.
    """
    (by_table,), (by_bonds,) = edm.judge([molecule]), own.judge([molecule])
    table = None
    if by_table.problem is None:
        table = bond_list(bond_orders(molecule.atomic_numbers, molecule.positions))
    judgements = {
        edm.PROTOCOL: explain(molecule, by_table, bonds=table, charged=False),
        own.PROTOCOL: explain(molecule, by_bonds, bonds=molecule.bonds, charged=True),
    }
    shown, route = _shown_bonds(molecule, table)
    verdict = by_bonds if route == "file" else by_table
    numbers, texts, stated = _properties(molecule)
    charges = molecule.formal_charges if route == "file" else None
    return Card(
        number,
        molecule,
        judgements,
        shown,
        route,
        depict(molecule.atomic_numbers, shown, charges),
        {**_computed(molecule, shown, charges, sound=verdict.valid), **numbers},
        texts,
        formula(molecule),
        _smiles(molecule, verdict, bonds=shown, charges=charges),
        stated=stated,
    )


def _smiles(
    molecule: Molecule,
    verdict: Verdict,
    *,
    bonds: NDArray[np.int64],
    charges: NDArray[np.int64] | None,
) -> str | None:
    """Return the SMILES of the whole molecule; a verdict has that of the largest piece."""
    if verdict.fragments < 2:
        return verdict.smiles
    return dataclasses.replace(molecule, bonds=bonds, formal_charges=charges).smiles()


def _shown_bonds(
    molecule: Molecule, table: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], str]:
    """Return the bonds to show, and where they come from."""
    if molecule.bonds is not None and molecule.states_bonds:
        return molecule.bonds, "file"
    # the table has not all pairs of the elements it knows, such as boron and carbon
    if table is not None and pairs_in_table(molecule.atomic_numbers).all():
        return table, "table"
    if len(molecule) > _LARGEST_GUESSED:
        return (np.empty((0, 3), dtype=np.int64), "none") if table is None else (table, "table")
    guessed = fall_back(molecule, "failed", "")
    assert guessed.molecule.bonds is not None
    return guessed.molecule.bonds, guessed.route


def _properties(
    molecule: Molecule,
) -> tuple[dict[str, float], dict[str, str], dict[str, str]]:
    """Return the properties that are numbers, the others, and numbers that were text."""
    numbers, texts, stated = {}, {}, {}
    for key, value in molecule.properties.items():
        if key in LABELS:
            key = f"{key} (file)"
        number = as_number(value)
        if number is None or not _usable(number):
            texts[key] = str(value)
            continue
        numbers[key] = number
        if isinstance(value, str):
            stated[key] = value.strip()
    return numbers, texts, stated


def _usable(value: float) -> bool:
    # whole numbers beyond 2^53 would not survive in a browser
    return abs(value) < 2**53


def _computed(
    molecule: Molecule,
    bonds: NDArray[np.int64],
    charges: NDArray[np.int64] | None,
    *,
    sound: bool,
) -> dict[str, float]:
    """Return what can be computed; chemistry only where RDKit accepts the bonds."""
    from rdkit import Chem

    numbers = molecule.atomic_numbers
    table = Chem.GetPeriodicTable()
    found: dict[str, float] = {
        "atoms": len(molecule),
        "heavy": int((numbers > 1).sum()),
        "weight": round(sum(table.GetAtomicWeight(symbol(z)) for z in numbers.tolist()), 3),
    }
    if molecule.states_bonds or molecule.stated_charge is not None:
        found["net_charge"] = molecule.charge
    if sound:
        mol = dataclasses.replace(molecule, bonds=bonds, formal_charges=charges).to_rdkit()
        values = properties(mol)
        found["rings"] = len(Chem.GetSymmSSSR(mol))
        found |= {name: round(values[name], 3) for name in ("qed", "logp") if name in values}
    return found
