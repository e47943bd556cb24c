"""Which molecules go into a data set, and what is to be said of those that do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from molbfn.chem.hydrogens import lacks_hydrogen
from molbfn.data.builder import smiles_of
from molbfn.data.inputs import Item
from molbfn.data.store import LARGEST_CHARGE
from molbfn.errors import UserError

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

_TOO_CLOSE = 0.4  # angstrom; the shortest bond there is, in H2, has 0.74
_LARGEST_PAIRWISE = 2000  # atoms up to which all distances are looked at


class Wanted:
    """Which molecules are kept.

    Args:
        elements: symbols of those that they may have; None: any.
        max_atoms: of the largest; None: any.
        conformers: the first so many of one structure in one part; None: all.

    Raises:
        UserError: an unknown element, or a limit below 1.
    """

    def __init__(
        self, elements: Sequence[str] | None, *, max_atoms: int | None, conformers: int | None
    ) -> None:
        from molbfn.chem.elements import atomic_number

        for name, limit in (("max_atoms", max_atoms), ("conformers", conformers)):
            if limit is not None and limit < 1:
                raise UserError(f"{name} must be at least 1, not {limit}")
        self._elements = None if elements is None else frozenset(map(atomic_number, elements))
        self._max_atoms, self._conformers = max_atoms, conformers
        self._met: Counter[tuple[int | None, str]] = Counter()
        self._last: tuple[Molecule, str] | None = None

    def judge(self, item: Item, part: int | None) -> tuple[str, str | None]:
        """Return the SMILES of a molecule, "" where not known, and why it is left out, if it is."""
        reason = item.reason or _unusable(item.molecule, self._elements, self._max_atoms)
        if reason:
            return "", reason
        smiles = item.smiles or self._smiles(item.molecule)
        if self._conformers is not None and item.molecule.bonds is not None:
            key = part, item.molecule.smiles(stereo=True) or smiles
            self._met[key] += 1
            if key[1] and self._met[key] > self._conformers:
                return smiles, f"more than {self._conformers} conformers of one structure"
        return smiles, None

    def _smiles(self, molecule: Molecule) -> str:
        # Conformers follow each other, and a SMILES takes longer than the rest.
        if self._last is None or not _same_graph(molecule, self._last[0]):
            self._last = molecule, smiles_of(molecule)
        return self._last[1]


def remark_on(molecule: Molecule) -> str | None:
    """What the user should know of a molecule that is kept."""
    if lacks_hydrogen(molecule):
        return "H atoms are missing, all or those of C (models here expect explicit H)"
    if len(molecule.positions) > 4 and not molecule.positions[:, 2].any():
        return "all z are 0: a flat molecule, or a 2D drawing"
    return None


def _same_graph(one: Molecule, two: Molecule) -> bool:
    """Whether two molecules are the same, atom by atom, but for their coordinates."""
    pairs = (
        (one.atomic_numbers, two.atomic_numbers),
        (one.bonds, two.bonds),
        (one.formal_charges, two.formal_charges),
    )
    return all(a is None if b is None else a is not None and np.array_equal(a, b) for a, b in pairs)


def _unusable(
    molecule: Molecule, allowed: frozenset[int] | None, max_atoms: int | None
) -> str | None:
    """Why a molecule cannot be used, in words that do not name the single molecule."""
    from molbfn.chem.elements import symbol

    numbers, positions = molecule.atomic_numbers, molecule.positions
    if not len(numbers):
        return "no atoms"
    if max_atoms is not None and len(numbers) > max_atoms:
        return f"more than {max_atoms} atoms"
    if allowed is not None:
        others = sorted(set(numbers.tolist()) - allowed)
        if others:
            return f"element {symbol(others[0])} not asked for"
    if not np.isfinite(positions).all():
        return "a position that is not a number"
    charges = molecule.formal_charges
    if charges is not None and np.abs(charges).max() > LARGEST_CHARGE:
        return f"a formal charge beyond {LARGEST_CHARGE}"
    if _closest(positions) < _TOO_CLOSE:
        return f"two atoms closer than {_TOO_CLOSE} angstrom (no 3D coordinates?)"
    return None


def _closest(positions: np.ndarray) -> float:
    """The shortest distance; infinity for one atom, and for molecules too large to look."""
    if not 1 < len(positions) <= _LARGEST_PAIRWISE:
        return math.inf
    points = positions.astype(np.float64)
    squares = ((points[:, None] - points[None]) ** 2).sum(-1)
    np.fill_diagonal(squares, np.inf)
    return float(np.sqrt(squares.min()))
