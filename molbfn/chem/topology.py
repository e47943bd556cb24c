"""Bonds and formal charges of a geometry whose SMILES is known.

For data sets that store a SMILES and coordinates but no bonds, such as QM9's common npz form: the
heavy atoms stand in the order of the SMILES, hydrogens anywhere, each bound to the nearest heavy
atom. The result is checked against the coordinates, so that a wrong order cannot pass.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from molbfn.errors import UserError

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

_STRETCH = 1.3
"""A bond may be this much longer than the sum of the covalent radii (QM9: at most 1.23)."""


@dataclass(frozen=True)
class Topology:
    """Kekule bonds, int64 [E, 3] rows (i, j, order) with i < j, and charges, int64 [N]."""

    bonds: NDArray[np.int64]
    formal_charges: NDArray[np.int64]


def topology_from_smiles(
    smiles: str, atomic_numbers: NDArray[np.integer], positions: NDArray[np.floating]
) -> Topology:
    """Return the bonds and charges that the SMILES gives the atoms.

    Args:
        smiles: of the molecule; explicit ``[H]`` atoms are not allowed.
        atomic_numbers: [N]; the heavy atoms in the order of the SMILES.
        positions: [N, 3], angstrom.

    Raises:
        UserError: RDKit cannot read the SMILES, or SMILES and geometry disagree; says where.
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    if mol is None or mol.GetNumAtoms() == 0:
        raise UserError(f"SMILES '{smiles}' cannot be read")
    Chem.Kekulize(mol, clearAromaticFlags=True)
    heavy = np.flatnonzero(atomic_numbers != 1)
    elements = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    if elements != np.asarray(atomic_numbers)[heavy].tolist():
        raise UserError(f"the heavy atoms are not those of SMILES '{smiles}', in its order")
    charges = np.zeros(len(atomic_numbers), dtype=np.int64)
    charges[heavy] = [atom.GetFormalCharge() for atom in mol.GetAtoms()]
    ends = [
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), int(bond.GetBondTypeAsDouble()))
        for bond in mol.GetBonds()
    ]
    skeleton = np.array(ends, dtype=np.int64).reshape(-1, 3)
    skeleton[:, :2] = heavy[skeleton[:, :2]]
    hydrogens, owners = _owners(atomic_numbers, positions, heavy)
    wanted = [atom.GetTotalNumHs() for atom in mol.GetAtoms()]
    found = np.bincount(owners, minlength=len(heavy)).tolist()
    if found != wanted:
        k = next(k for k, pair in enumerate(zip(found, wanted, strict=True)) if pair[0] != pair[1])
        raise UserError(
            f"atom {heavy[k] + 1} has {found[k]} hydrogens near it, SMILES '{smiles}' has "
            f"{wanted[k]}"
        )
    rows = np.stack([heavy[owners], hydrogens, np.ones_like(hydrogens)], axis=1)
    bonds = np.concatenate([skeleton, rows])
    bonds[:, :2].sort(axis=1)
    bonds = bonds[np.lexsort((bonds[:, 1], bonds[:, 0]))]
    _check_lengths(bonds, atomic_numbers, positions)
    return Topology(bonds, charges)


def with_bonds_of_smiles(molecule: Molecule, smiles: str) -> Molecule | None:
    """Return the molecule with the bonds and charges of its SMILES; None where they do not fit."""
    try:
        found = topology_from_smiles(smiles, molecule.atomic_numbers, molecule.positions)
        return dataclasses.replace(molecule, bonds=found.bonds, formal_charges=found.formal_charges)
    except (UserError, ValueError):  # ValueError: a bond that is not single, double or triple
        return None


def _owners(
    atomic_numbers: NDArray[np.integer],
    positions: NDArray[np.floating],
    heavy: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the hydrogens [H], and for each the place in ``heavy`` of the nearest heavy atom."""
    hydrogens = np.flatnonzero(atomic_numbers == 1)
    offsets = positions[hydrogens][:, None] - positions[heavy][None]
    return hydrogens, np.square(offsets).sum(-1).argmin(1)


def _check_lengths(
    bonds: NDArray[np.int64],
    atomic_numbers: NDArray[np.integer],
    positions: NDArray[np.floating],
) -> None:
    first, second = bonds[:, 0], bonds[:, 1]
    lengths = np.linalg.norm(positions[first] - positions[second], axis=1)
    radii = covalent_radii()
    limits = _STRETCH * (radii[atomic_numbers[first]] + radii[atomic_numbers[second]])
    if (lengths > limits).any():
        k = int((lengths / limits).argmax())
        raise UserError(
            f"atoms {first[k] + 1} and {second[k] + 1} are bound by the SMILES but "
            f"{lengths[k]:.2f} angstrom apart"
        )


def covalent_radii() -> NDArray[np.float64]:
    """Return RDKit's covalent radii in angstrom, indexed by atomic number (index 0 unused)."""
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    return np.array([table.GetRcovalent(z) for z in range(119)])
