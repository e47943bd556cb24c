"""Whether hydrogens were left out of a molecule, as many programs do in their files.

RDKit takes a carbon with two bonds and no hydrogens for a radical and accepts it, so that such
molecules are valid, and no metric of validity would show that they are not what was meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from molbfn.chem.elements import SYMBOLS

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

_H, _C, _N, _O = (SYMBOLS.index(symbol) for symbol in ("H", "C", "N", "O"))
# Bonds that a neutral atom makes at least; fewer, and H were left out.
_LEAST_VALENCE = {_C: 4, _N: 3, _O: 2}
# What tells an atom that has its bonds from one that lost hydrogens, where no bonds are stated:
_RADIUS_FACTOR = 1.2  # neighbours are closer than this times the sum of the covalent radii
_FLAT = 0.35  # angstrom that a C of three neighbours is above their plane; 0.3 in C60, 0.5 in CH
_STRAIGHT = 150.0  # degrees at a C of two neighbours
_SHORT_CO = 1.17  # angstrom; carbon monoxide, not formaldehyde
_LONGEST_MULTIPLE = {_N: 1.25, _O: 1.33}  # angstrom to the only neighbour, if it is C, N or O


def lacks_hydrogen(molecule: Molecule) -> bool:
    """Return whether all hydrogens, or all those of carbon, were left out.

    A molecule without any lacks some if a C, N or O wants them. One that has them only on other
    atoms than carbon, as files with polar hydrogens do, lacks some if a carbon wants them. By its
    own bonds and charges where it states bonds, else by the neighbours of each atom and where they
    are: no table gives the right orders for all molecules.
    """
    numbers = molecule.atomic_numbers
    judged = numbers == _C
    if not (numbers == _H).any():
        judged |= (numbers == _N) | (numbers == _O)
    if not judged.any() or not np.isfinite(molecule.positions).all():
        return False
    lacks = _lacks_by_bonds if molecule.states_bonds else _lacks_by_geometry
    return lacks(molecule, np.flatnonzero(judged))


def hydrogen_note(lacking: int, given: int) -> str:
    """Return what to know of molecules without the hydrogens that they want."""
    return (
        f"{lacking:,} of {given:,} molecules lack hydrogens, all or those of carbon, that their "
        f"valences want: validity, novelty, physics and properties are those of radicals; add "
        f"hydrogens first (RDKit: Chem.AddHs(mol, addCoords=True))"
    )


def _lacks_by_bonds(molecule: Molecule, judged: NDArray[np.intp]) -> bool:
    numbers, bonds = molecule.atomic_numbers, molecule.bonds
    assert bonds is not None
    ends = np.sort(numbers[bonds[:, :2]], axis=1)
    if (ends == [_H, _C]).all(axis=1).any():
        return False
    made = np.zeros(len(numbers), dtype=np.int64)
    for end in (0, 1):
        np.add.at(made, bonds[:, end], bonds[:, 2])
    if molecule.formal_charges is not None:
        made += np.abs(molecule.formal_charges)  # O- and such want no H
    least = np.array([_LEAST_VALENCE[z] for z in numbers[judged].tolist()])
    return bool((made[judged] < least).any())


def _lacks_by_geometry(molecule: Molecule, judged: NDArray[np.intp]) -> bool:
    from molbfn.chem.perception import covalent_radii

    numbers, points = molecule.atomic_numbers, molecule.positions.astype(np.float64)
    radii = covalent_radii()[numbers]
    lacking = False
    for atom in judged.tolist():
        arms = points - points[atom]
        near = np.linalg.norm(arms, axis=1) < _RADIUS_FACTOR * (radii + radii[atom])
        near[atom] = False
        others = np.flatnonzero(near)
        if (numbers[others] == _H).any():  # of a carbon: others are judged where there is no H
            return False
        lacking = lacking or _is_open(int(numbers[atom]), numbers[others], arms[others])
    return lacking


def _is_open(own: int, others: NDArray[np.int64], arms: NDArray[np.float64]) -> bool:
    """Return whether the neighbours of a C, N or O leave room for hydrogens.

    Args:
        own: its atomic number.
        others: atomic numbers of its neighbours [n].
        arms: where these are from it [n, 3], angstrom.
    """
    lengths = np.linalg.norm(arms, axis=1)
    if len(others) == 0:
        return True
    if own != _C:
        of_these = others[0] in _LEAST_VALENCE
        return len(others) == 1 and bool(of_these and lengths[0] > _LONGEST_MULTIPLE[own])
    if len(others) == 1:
        return not (others[0] == _O and lengths[0] < _SHORT_CO)
    if len(others) == 2:
        cosine = arms[0] @ arms[1] / lengths.prod()
        return bool(np.degrees(np.arccos(np.clip(cosine, -1, 1))) < _STRAIGHT)
    if len(others) == 3:
        normal = np.cross(arms[1] - arms[0], arms[2] - arms[0])
        return bool(abs(arms[0] @ normal) > _FLAT * np.linalg.norm(normal))
    return False
