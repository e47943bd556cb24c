"""What is wrong with a molecule, in words that name the atom.

A verdict of `molbfn.evaluation` says that a molecule fails; here is why: the atoms whose valence
the protocol's table does not have, what RDKit objects to, and the pieces it is in. Atoms count
from 1.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from molbfn.chem.bonds import VALENCES as TABLE_VALENCES
from molbfn.chem.elements import symbol
from molbfn.chem.molecule import skeleton
from molbfn.evaluation.bonds import VALENCES as CHARGED_VALENCES
from molbfn.evaluation.verdicts import Verdict

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

Status = Literal["stable", "unstable", "pieces", "invalid", "unjudged", "unreadable"]

#: What each status means, best first.
STATUSES: dict[Status, str] = {
    "stable": "valid, in one piece, every atom has a valence of the protocol's table",
    "unstable": "valid and in one piece, but an atom's valence is not in the protocol's table",
    "pieces": "RDKit accepts it, but it is not in one piece",
    "invalid": "RDKit does not accept its bonds",
    "unjudged": "the protocol has no rule for it",
    "unreadable": "the record in the file is not a molecule",
}


@dataclasses.dataclass(frozen=True)
class Reason:
    """One thing that is wrong."""

    text: str
    """of this molecule, such as "atom 7 (N) has valence 5 instead of 3\""""
    kind: str
    """the same for all molecules that fail alike, such as "N with valence 5\""""
    atoms: tuple[int, ...] = ()
    """from 0"""


_REFUSED = Reason("RDKit does not accept its bonds", "RDKit does not accept its bonds")
_NO_BONDS = Reason("the file states no bonds", "no bonds stated")


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A status, and the reasons for it; none where the molecule is as it should be."""

    status: Status
    reasons: tuple[Reason, ...] = ()


def unreadable(reason: str, record: int) -> Judgement:
    """Return the judgement on a record that is not a molecule.

    Args:
        reason: names the file, the record and the line.
        record: its number in the file, from 1.
    """
    _, place, rest = reason.partition(f"record {record}")
    short = re.sub(r"^ \(line \d+\)", "", rest).removeprefix(": ") if place else reason
    return Judgement("unreadable", (Reason(reason, short),))


def explain(
    molecule: Molecule,
    verdict: Verdict,
    *,
    bonds: NDArray[np.int64] | None,
    charged: bool,
) -> Judgement:
    """Return the status that a verdict amounts to, and why.

    Args:
        molecule: that was judged.
        verdict: of EDM's protocol or that of the molecule's own bonds.
        bonds: [E, 3] that the protocol judged by; None where it had none.
        charged: the formal charges count (own bonds), or are taken as 0 (EDM).
    """
    if charged and bonds is not None and not molecule.states_bonds:
        return Judgement("unjudged", (_NO_BONDS,))
    if verdict.problem is not None or bonds is None:
        problem = verdict.problem or "cannot be judged"
        return Judgement("unjudged", (Reason(problem, problem),))
    charges = molecule.formal_charges if charged else None
    if charges is None:
        charges = np.zeros(len(molecule), dtype=np.int64)
    valences = np.bincount(bonds[:, :2].ravel(), np.repeat(bonds[:, 2], 2), len(molecule))
    found = _unusual(molecule, valences.astype(np.int64), charges, charged=charged)
    if verdict.smiles is None:
        found = _objections(molecule, bonds, charges, valences.astype(np.int64)) or found
    pieces = _pieces(molecule, bonds)
    if verdict.smiles is None:
        return Judgement("invalid", (*(found or [_REFUSED]), *pieces))
    if verdict.fragments > 1:
        return Judgement("pieces", (*pieces, *found))
    return Judgement("stable" if verdict.stable else "unstable", tuple(found))


def _unusual(
    molecule: Molecule,
    valences: NDArray[np.int64],
    charges: NDArray[np.int64],
    *,
    charged: bool,
) -> list[Reason]:
    """Return the atoms whose valence the protocol's table does not have."""
    found = []
    atoms = zip(molecule.atomic_numbers.tolist(), valences.tolist(), charges.tolist(), strict=True)
    for k, (number, valence, charge) in enumerate(atoms):
        name = symbol(number)
        if charged:
            known = CHARGED_VALENCES.get(name, {}).get(charge, ())
        else:
            known = TABLE_VALENCES.get(name, ())
        if valence not in known:
            expected = f" instead of {' or '.join(map(str, known))}" if known else ""
            found.append(_valence(k, name, valence, charge, expected))
    return found


def _valence(k: int, name: str, valence: int, charge: int, more: str) -> Reason:
    what = name + (f"{abs(charge) if abs(charge) > 1 else ''}{'+' if charge > 0 else '−'}")
    what = what if charge else name
    return Reason(
        f"atom {k + 1} ({what}) has valence {valence}{more}", f"{what} with valence {valence}", (k,)
    )


def _objections(
    molecule: Molecule,
    bonds: NDArray[np.int64],
    charges: NDArray[np.int64],
    valences: NDArray[np.int64],
) -> list[Reason]:
    """Return what RDKit objects to."""
    from rdkit import Chem, rdBase

    mol = skeleton(molecule.atomic_numbers, bonds, charges)
    with rdBase.BlockLogs():
        problems = Chem.DetectChemistryProblems(mol)
    found = []
    for problem in problems:
        if problem.GetType() == "AtomValenceException":
            k = problem.GetAtomIdx()
            name = symbol(int(molecule.atomic_numbers[k]))
            allowed = list(Chem.GetPeriodicTable().GetValenceList(name))
            more = f", RDKit allows {' or '.join(map(str, allowed))}" if charges[k] == 0 else ""
            found.append(_valence(k, name, int(valences[k]), int(charges[k]), more))
        else:
            text = " ".join(problem.Message().split())
            found.append(Reason(f"RDKit: {text}", f"RDKit: {problem.GetType()}"))
    return found


def _pieces(molecule: Molecule, bonds: NDArray[np.int64]) -> list[Reason]:
    """Return that the molecule is not in one piece, if so; the smaller pieces are its atoms."""
    labels = connected_parts(len(molecule), bonds)
    sizes = Counter(labels).most_common()
    if len(sizes) < 2:
        return []
    shown = ", ".join(str(size) for _, size in sizes[:4]) + (", ..." if len(sizes) > 4 else "")
    atoms = tuple(k for k, label in enumerate(labels) if label != sizes[0][0])
    return [Reason(f"in {len(sizes)} pieces ({shown} atoms)", f"in {len(sizes)} pieces", atoms)]


def connected_parts(atoms: int, bonds: NDArray[np.int64]) -> list[int]:
    """Return a label for each atom, the same for those that bonds connect."""
    parent = list(range(atoms))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    for i, j in bonds[:, :2].tolist():
        parent[root(i)] = root(j)
    return [root(k) for k in range(atoms)]
