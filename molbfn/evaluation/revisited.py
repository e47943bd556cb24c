"""The protocol "revisited": valences with aromatic bonds counted apart, and a legacy table beside.

After "GEOM-Drugs Revisited" (Nikitin et al., Digital Discovery 4:3282, 2025): an atom is stable if
(aromatic bonds, sum of its other bond orders, formal charge) is a valence that its element has in
known molecules; the table is counted by us, see `molbfn.evaluation.valences`. Aromatic bonds are
those of RDKit's model, perceived on the file's bonds after kekulisation; a molecule that RDKit
cannot sanitise has none. Valences are judged as they are stated, so a nitro group drawn with
five-valent nitrogen is not stable; aromaticity and structure are those of the molecule as RDKit
normalises it. A valid molecule that is not in one piece is counted as such, and
structures are told apart by standard InChIKey too: tautomers and resonance forms then are one.
The file's own coordinates decide nothing here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from molbfn.evaluation.graph import largest_smiles
from molbfn.evaluation.intervals import additive_ratio
from molbfn.evaluation.metrics import NamedRatio
from molbfn.evaluation.valences import atom_valences, counted_over, is_counted, is_legacy
from molbfn.evaluation.verdicts import Definitions, Protocol, Verdict, distinct_ratio

if TYPE_CHECKING:
    from rdkit import Chem

    from molbfn.chem.molecule import Molecule
    from molbfn.evaluation.reference import KnownSmiles

PROTOCOL = "revisited"


@dataclasses.dataclass(frozen=True)
class RevisitedVerdict(Verdict):
    """A verdict, and what only this protocol looks at."""

    legacy_stable_atoms: int = 0
    inchikey: str | None = None
    """standard, of the whole molecule; None: not valid, or InChI refuses it"""


def judge(molecules: Sequence[Molecule | None]) -> list[RevisitedVerdict]:
    """Return the verdict on each molecule; None stands for one that could not be read."""
    return [_judge(molecule) for molecule in molecules]


def _judge(molecule: Molecule | None) -> RevisitedVerdict:
    from rdkit import Chem, rdBase

    if molecule is None:
        return RevisitedVerdict(0, 0, None, 0, "cannot be read")
    if len(molecule) == 0 or not molecule.states_bonds:
        what = "bonds (its file states none)" if len(molecule) else "atoms"
        return RevisitedVerdict(len(molecule), 0, None, 0, f"has no {what}")
    mol, sound = molecule.to_rdkit(), molecule.sanitised()
    elements = [atom.GetSymbol() for atom in mol.GetAtoms()]
    states = list(zip(elements, atom_valences(mol, sound), strict=True))
    stable = sum(is_counted(*state) for state in states)
    legacy = sum(is_legacy(*state) for state in states)
    if sound is None:
        return RevisitedVerdict(len(molecule), stable, None, 0, None, legacy)
    with rdBase.BlockLogs():
        smiles, key = largest_smiles(sound), inchikey(sound)
        fragments = len(Chem.GetMolFrags(sound))
    return RevisitedVerdict(len(molecule), stable, smiles, fragments, None, legacy, key)


def inchikey(mol: Chem.Mol) -> str | None:
    """Return the standard InChIKey of a sanitised molecule, without stereochemistry.

    None where InChI refuses it.
    """
    from rdkit import Chem

    flat = Chem.Mol(mol)
    flat.RemoveAllConformers()  # stereochemistry of the coordinates makes no new structure
    Chem.RemoveStereochemistry(flat)
    return Chem.MolToInchiKey(flat) or None


DEFINITIONS = Definitions(
    atom_stability=(
        "atoms whose (aromatic bonds, sum of other bond orders, formal charge) occurs in known "
        "molecules, over all atoms of all molecules that could be read; elements that do not occur "
        "there are not stable; the table is counted, not that of the paper, over "
    ),
    molecule_stability=(
        "molecules in which every atom is stable by the counted valences, over all molecules "
        "given; they need not be connected"
    ),
    validity=(
        "molecules whose own bonds and charges RDKit can sanitise, over all molecules given; "
        "several fragments and radicals are allowed"
    ),
)
_LEGACY = (
    "whose bond orders, aromatic ones truncated to 1, add up to a valence of MiDi's table (C: 3 "
    "or 4, N: 2 or 3), for comparison with older papers only, over all "
)


class RevisitedProtocol(Protocol):
    """Gathers verdicts, and what the legacy table and InChIKeys say beside them."""

    def __init__(self) -> None:
        stability = DEFINITIONS.atom_stability + counted_over()
        definitions = dataclasses.replace(DEFINITIONS, atom_stability=stability)
        super().__init__(PROTOCOL, judge, definitions, prefix=f"{PROTOCOL}_")
        self._legacy: list[tuple[int, int, bool]] = []
        self._keys: dict[str, int] = {}
        self._key_rows: list[int] = []

    def add(self, molecules: Sequence[Molecule | None]) -> list[Verdict]:
        """Judge more molecules; None counts as one that failed. Returns the verdicts."""
        verdicts = super().add(molecules)
        for v in verdicts:
            assert isinstance(v, RevisitedVerdict)
            whole = v.atoms > 0 and v.legacy_stable_atoms == v.atoms
            self._legacy.append((v.atoms, v.legacy_stable_atoms, whole))
            key = v.inchikey if v.connected else None
            row = -1 if key is None else self._keys.setdefault(key, len(self._keys))
            self._key_rows.append(row)
        return verdicts

    def ratios(self, references: Sequence[KnownSmiles] = ()) -> list[NamedRatio]:
        """Return the metrics of all molecules so far, novelty once for each reference."""
        atoms, stable, whole = np.array(self._legacy, dtype=np.int64).reshape(-1, 3).T
        every = np.ones(len(atoms), dtype=np.int64)
        structure = np.array(self._key_rows, dtype=np.int64)
        distinct = np.ones(len(self._keys), dtype=bool)
        return [
            *super().ratios(references),
            NamedRatio(
                f"{PROTOCOL}_connected_unique_inchikey",
                "Connected × unique InChIKeys",
                PROTOCOL,
                "different standard InChIKeys, without stereochemistry, of valid molecules in one "
                "piece, over all molecules given",
                distinct_ratio(structure, distinct, every),
            ),
            NamedRatio(
                "legacy_atom_stability",
                "Atom stability, legacy table",
                PROTOCOL,
                f"atoms {_LEGACY}atoms of all molecules that could be read",
                additive_ratio(stable, atoms),
            ),
            NamedRatio(
                "legacy_molecule_stability",
                "Molecule stability, legacy table",
                PROTOCOL,
                f"molecules with only atoms {_LEGACY}molecules given",
                additive_ratio(whole, every),
            ),
        ]
