"""Whether hydrogens were left out of a molecule, as many programs do in their files.

RDKit takes a carbon with two bonds and no hydrogens for a radical and accepts it, so that such
molecules are valid, and no metric of validity would show that they are not what was meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

# Bonds that a neutral atom makes at least; fewer, and not one H in the molecule: H were left out.
_LEAST_VALENCE = {6: 4, 7: 3, 8: 2}


def lacks_hydrogen(molecule: Molecule) -> bool:
    """Return whether a molecule has no hydrogen although its valences want some.

    By its own bonds where it states any, else by EDM's distance table.
    """
    numbers = molecule.atomic_numbers
    if (numbers == 1).any() or not np.isfinite(molecule.positions).all():
        return False
    least = np.array([_LEAST_VALENCE.get(z, 0) for z in numbers.tolist()])
    if not least.any():
        return False
    made = np.zeros(len(numbers), dtype=np.int64)
    if molecule.bonds is not None and molecule.states_bonds:
        for end in (0, 1):
            np.add.at(made, molecule.bonds[:, end], molecule.bonds[:, 2])
    else:
        from molbfn.chem.bonds import bond_orders

        made += np.asarray(bond_orders(numbers, molecule.positions)).sum(-1).astype(np.int64)
    if molecule.formal_charges is not None:
        made += np.abs(molecule.formal_charges)  # O- and such want no H
    return bool((made < least).any())


def hydrogen_note(lacking: int, given: int) -> str:
    """Return what to know of molecules without the hydrogens that they want."""
    return (
        f"{lacking:,} of {given:,} molecules have no hydrogen although their valences want it: "
        f"validity, novelty, physics and properties are those of radicals; add hydrogens first "
        f"(RDKit: Chem.AddHs(mol, addCoords=True))"
    )
