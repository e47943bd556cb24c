"""Two tables of the valences that atoms may have: one counted, one for older papers.

`COUNTED` is in the form of "GEOM-Drugs Revisited" (Nikitin et al., Digital Discovery 4:3282,
2025): (aromatic bonds, sum of the other bond orders, formal charge) by element. It is not their
published table: `scripts/make_valences.py` counts it over known molecules, and says which.

`LEGACY` holds the valences of MiDi (Vignac et al., ECML 2023) and of what took its metrics over
(EQGAT-diff, SemlaFlow, FlowMol 1 and 2, Megalodon). It allows carbon with three and nitrogen with
two bonds, because an aromatic order of 1.5 lost its half in an array of integers there; a charge
without an entry falls back to the valences of charge 0. Use it for comparison with older numbers
and for nothing else.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rdkit import Chem

Valence = tuple[int, int, int]
"""Aromatic bonds, sum of the other bond orders, formal charge."""

#: Element -> formal charge -> sums of bond orders, aromatic ones counted as 1.
LEGACY: dict[str, dict[int, tuple[int, ...]]] = {
    "H": {0: (1,), 1: (0,), -1: (0,)},
    "B": {0: (3,)},
    "C": {0: (3, 4), 1: (3,), -1: (3,)},
    "N": {0: (2, 3), 1: (2, 3, 4), -1: (2,)},
    "O": {0: (2,), 1: (3,), -1: (1,)},
    "F": {0: (1,), -1: (0,)},
    "Al": {0: (3,)},
    "Si": {0: (4,)},
    "P": {0: (3, 5), 1: (4,)},
    "S": {0: (2, 6), 1: (2, 3), 2: (4,), 3: (5,), -1: (3,)},
    "Cl": {0: (1,)},
    "As": {0: (3,)},
    "Se": {0: (2, 4, 6)},
    "Br": {0: (1,), 1: (2,)},
    "I": {0: (1,)},
    "Hg": {0: (1, 2)},
    "Bi": {0: (3, 5)},
}


@functools.cache
def counted() -> dict[str, frozenset[Valence]]:
    """Return element -> valences that known molecules have."""
    record = json.loads(Path(__file__).with_name("valences.json").read_text())
    return {
        element: frozenset((row[0], row[1], row[2]) for row in rows)
        for element, rows in record["valences"].items()
    }


@functools.cache
def counted_over() -> str:
    """Return in words which molecules the counted table comes from."""
    record = json.loads(Path(__file__).with_name("valences.json").read_text())
    sets = ", ".join(f"{name} ({count:,})" for name, count in record["molecules"].items())
    return f"{sets}; {record['rule']}"


def atom_valences(mol: Chem.Mol, sanitised: Chem.Mol | None = None) -> list[Valence]:
    """Return the valence of each atom, hydrogens that are implied included.

    Args:
        mol: says the bond orders and charges.
        sanitised: the same atoms and bonds; says which bonds are aromatic. None: ``mol`` does.
    """
    found, model = [], mol if sanitised is None else sanitised
    for atom in mol.GetAtoms():
        aromatic = other = 0
        for bond in atom.GetBonds():
            if model.GetBondWithIdx(bond.GetIdx()).GetIsAromatic():
                aromatic += 1
            else:
                other += round(bond.GetBondTypeAsDouble())
        found.append((aromatic, other + atom.GetTotalNumHs(), atom.GetFormalCharge()))
    return found


def is_counted(element: str, valence: Valence) -> bool:
    """Whether known molecules have the valence."""
    return valence in counted().get(element, ())


def is_legacy(element: str, valence: Valence) -> bool:
    """Whether the table of MiDi allows the valence, an aromatic bond counted as 1."""
    aromatic, other, charge = valence
    charges = LEGACY.get(element, {})
    return aromatic + other in charges.get(charge, charges.get(0, ()))
