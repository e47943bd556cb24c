"""Plane drawings of molecules, also of those that are chemically wrong.

Hydrogens with one single bond to a heavier atom become part of its label. Nothing is sanitised:
what is drawn is what is stated, Kekule bonds and charges, no stereochemistry.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from molbfn.chem.molecule import skeleton

if TYPE_CHECKING:
    from rdkit import Chem

MAX_DRAWN_ATOMS = 200
"""heavier molecules are not drawn: a layout would be slow and nobody could read it"""


@dataclasses.dataclass(frozen=True)
class Depiction:
    """Atoms and bonds on a plane."""

    mol: Chem.Mol
    """with a 2D conformer; hydrogens that are folded into labels are implied ones of their atoms"""
    atoms: tuple[int, ...]
    """which atom of the molecule each atom of ``mol`` is"""
    points: NDArray[np.float64]
    """[K, 2], a bond is about 1.5 long"""
    hydrogens: tuple[int, ...]
    """[K] folded into each atom's label"""

    def shown(self, atoms: tuple[int, ...]) -> list[int]:
        """Return which atoms of ``mol`` stand for these of the molecule; folded ones have none."""
        wanted = set(atoms)
        return [k for k, atom in enumerate(self.atoms) if atom in wanted]


def depict(
    atomic_numbers: NDArray[np.integer],
    bonds: NDArray[np.integer],
    charges: NDArray[np.integer] | None = None,
) -> Depiction | None:
    """Return a drawing, or None where there is nothing to draw or too much.

    Args:
        atomic_numbers: [N].
        bonds: rows (i, j, order) [E, 3].
        charges: [N]; None: all zero.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDepictor

    folded = _folded(atomic_numbers, bonds, charges)
    kept = [k for k in range(len(atomic_numbers)) if k not in folded]
    if not 0 < len(kept) <= MAX_DRAWN_ATOMS:
        return None
    place = {atom: k for k, atom in enumerate(kept)}
    inner = [(place[i], place[j], o) for i, j, o in bonds.tolist() if i in place and j in place]
    mol = skeleton(
        np.asarray(atomic_numbers)[kept],
        np.array(inner, dtype=np.int64).reshape(-1, 3),
        None if charges is None else np.asarray(charges)[kept],
    )
    hydrogens = [0] * len(kept)
    for owner in folded.values():
        hydrogens[place[owner]] += 1
    for atom, count in zip(mol.GetAtoms(), hydrogens, strict=True):
        atom.SetNumExplicitHs(count)
    plain = mol.GetMol()
    with rdBase.BlockLogs():
        plain.UpdatePropertyCache(strict=False)
        Chem.FastFindRings(plain)
        rdDepictor.Compute2DCoords(plain)
    points = plain.GetConformer().GetPositions()[:, :2]
    return Depiction(plain, tuple(kept), points, tuple(hydrogens))


def _folded(
    atomic_numbers: NDArray[np.integer],
    bonds: NDArray[np.integer],
    charges: NDArray[np.integer] | None,
) -> dict[int, int]:
    """Return hydrogen -> the heavier atom whose label it becomes part of."""
    numbers = np.asarray(atomic_numbers)
    ends, degree = bonds[:, :2], np.bincount(bonds[:, :2].ravel(), minlength=len(numbers))
    found = {}
    for (i, j), order in zip(ends.tolist(), bonds[:, 2].tolist(), strict=True):
        for hydrogen, owner in ((i, j), (j, i)):
            plain = numbers[hydrogen] == 1 and (charges is None or charges[hydrogen] == 0)
            if plain and order == 1 and degree[hydrogen] == 1 and numbers[owner] != 1:
                found[hydrogen] = owner
    return found
