"""From a graph of atoms and bond orders to validity and a SMILES, as EDM has them.

EDM (Hoogeboom et al., ICML 2022) calls a molecule valid if RDKit can sanitise the graph that the
distance table gives, with every hydrogen an atom and no formal charges. It then goes on with the
SMILES of the largest fragment only, so that a molecule in pieces counts as valid. Graphs whose
bonds and charges are stated are judged alike, with their charges.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from molbfn.chem.molecule import skeleton

if TYPE_CHECKING:
    from rdkit import Chem


@dataclasses.dataclass(frozen=True)
class GraphVerdict:
    """What RDKit says of one graph."""

    smiles: str | None
    """of the largest fragment, canonical, no stereochemistry, hydrogens implied; None: not valid"""
    fragments: int
    """connected parts, lone atoms included; 0 where the graph is not valid"""


def judge_graph(
    atomic_numbers: NDArray[np.integer],
    bonds: NDArray[np.integer],
    charges: NDArray[np.integer] | None = None,
) -> GraphVerdict:
    """Return whether RDKit can sanitise a graph, and its largest fragment's SMILES.

    An atom with too few bonds is a radical: no hydrogens are added to it, its SMILES differs from
    that of the complete molecule. Equally large fragments (hydrogens count) are told apart by
    their SMILES and not, as in EDM, by the order of the atoms.

    Args:
        atomic_numbers: integers [N], 1 to 118.
        bonds: rows (i, j, order) [E, 3], i != j, order 1 to 3.
        charges: formal charges [N]; None: all zero.
    """
    from rdkit import Chem, rdBase

    mol = skeleton(atomic_numbers, bonds, charges)
    with rdBase.BlockLogs():
        if Chem.SanitizeMol(mol, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
            return GraphVerdict(smiles=None, fragments=0)
        return GraphVerdict(smiles=largest_smiles(mol), fragments=len(Chem.GetMolFrags(mol)))


def largest_smiles(mol: Chem.Mol) -> str:
    """Return the canonical SMILES of the largest fragment of a sanitised molecule.

    Hydrogens are implied and count as atoms for the size; no stereochemistry, no isotopes.
    """
    from rdkit import Chem

    parts = Chem.GetMolFrags(mol)
    if len(parts) == 1:
        return _smiles(mol)
    molecules = Chem.GetMolFrags(mol, asMols=True, sanitizeFrags=False)
    sizes = [m.GetNumAtoms() + sum(a.GetTotalNumHs() for a in m.GetAtoms()) for m in molecules]
    largest = [m for m, size in zip(molecules, sizes, strict=True) if size == max(sizes)]
    return min((_smiles(m) for m in largest), default="")


def _smiles(mol: Chem.Mol) -> str:
    from rdkit import Chem

    return Chem.MolToSmiles(Chem.RemoveHs(mol, sanitize=False), isomericSmiles=False)


def canonical_smiles(text: str) -> str | None:
    """Return a SMILES in the form of `judge_graph`, or None where RDKit cannot read it."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(text)
        if mol is None or mol.GetNumAtoms() == 0:
            return None
        # Hydrogens that say how a double bond lies, or that are isotopes, would stay.
        Chem.RemoveStereochemistry(mol)
        for atom in mol.GetAtoms():
            atom.SetIsotope(0)
        return largest_smiles(mol)
