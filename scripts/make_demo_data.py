"""Make data/demo.npz: small C/H/N/O/F molecules put together at random, geometries from MMFF94.

The molecules come from the grammar below (a core, then groups in place of hydrogens) and from no
list of molecules; duplicates by SMILES are dropped. RDKit embeds each one (ETKDGv3) and relaxes it
(MMFF94). The same seed and the same RDKit version give the same file.

    python scripts/make_demo_data.py [--count 3600] [--seed 0] [--output data/demo.npz]
"""

from __future__ import annotations

import argparse
import dataclasses
import random
from collections import Counter
from pathlib import Path

import numpy as np
from rdkit import Chem, RDLogger, rdBase
from rdkit.Chem import AllChem

from molbfn.chem.bonds import bond_orders, stable_atoms
from molbfn.chem.molecule import Molecule
from molbfn.data.builder import StoreBuilder
from molbfn.data.splits import random_split
from molbfn.data.store import MoleculeStore

LARGEST = 9  # heavy atoms
HEAVY_ATOM_WEIGHTS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 16, 7: 28, 8: 40, 9: 50}

CORES = (
    *("C", "N", "O", "CC", "C=C", "C#C", "CCC", "CC=C", "C=O", "CC#N", "CO", "CN", "COC", "CNC"),
    *("NC=O", "OC=O", "COC=O", "CNC=O", "CC(C)=O", "CC(C)C", "CC(C)(C)C", "C=CC=C", "NC(N)=O"),
    *("C1CC1", "C1CCC1", "C1CCCC1", "C1CCCCC1", "C1CO1", "C1CN1", "C1COC1", "C1CNC1", "C1CCOC1"),
    *("C1CCNC1", "C1CCOCC1", "C1CCNCC1", "C1COCCO1", "C1COCCN1", "C1=CCCC1", "C1=CCCCC1"),
    *("O=C1CCC1", "O=C1CCCC1", "O=C1CCCO1", "O=C1CCCN1", "C1CC2CC12", "C1CC2CCC12", "C1CC2CCC1C2"),
    *("c1ccccc1", "c1ccncc1", "c1cncnc1", "c1cnccn1", "c1ccoc1", "c1cc[nH]c1", "c1c[nH]cn1"),
    *("c1cn[nH]c1", "c1cocn1", "c1conc1"),
)
GROUPS = (
    *("C", "C", "C", "CC", "C(C)C", "C=C", "C#C", "C#N", "O", "O", "OC", "N", "NC", "N(C)C", "F"),
    *("F", "C=O", "C(C)=O", "C(=O)O", "C(N)=O", "CO", "CN", "COC", "CF", "C(F)F", "C(F)(F)F"),
    *("C1CC1", "C1CO1", "CC#N"),
)
# Bonds and patterns that a chemist would not put into a jar.
UNWANTED = tuple(
    Chem.MolFromSmarts(smarts)
    for smarts in (
        "[O;!a]-[O,N;!a]",
        "[N;!a]-[N;!a]",
        "F-[!#6]",
        "[OH,NH2,NH1;!$(*C=[O,N])][CX4][OH,NH2,NH1]",  # loses water or ammonia
        "[CX4]([F])[OH,NH2,NH1]",
        "[OH,NH2]-C=[C;!a]",  # enols
        "[OH]-C#*",
        "[N,O]-C#C",
    )
)


def assemble(rng: random.Random) -> str | None:
    """Return the canonical SMILES of one random molecule, or None if the draw came to nothing."""
    sizes, weights = zip(*HEAVY_ATOM_WEIGHTS.items(), strict=True)
    target = rng.choices(sizes, weights)[0]
    molecule = Chem.MolFromSmiles(rng.choice(CORES))
    while molecule is not None and molecule.GetNumAtoms() < target:
        molecule = _substitute(molecule, Chem.MolFromSmiles(rng.choice(GROUPS)), rng)
    if molecule is None or molecule.GetNumAtoms() > LARGEST:
        return None
    if any(molecule.HasSubstructMatch(pattern) for pattern in UNWANTED):
        return None
    return Chem.MolToSmiles(molecule)


def _substitute(molecule: Chem.Mol, group: Chem.Mol, rng: random.Random) -> Chem.Mol | None:
    """Bind the group's first atom to a random atom that has a hydrogen."""
    places = [atom.GetIdx() for atom in molecule.GetAtoms() if atom.GetTotalNumHs()]
    if not places:
        return None
    place = rng.choice(places)
    joined = Chem.RWMol(Chem.CombineMols(molecule, group))
    joined.AddBond(place, molecule.GetNumAtoms(), Chem.BondType.SINGLE)
    atom = joined.GetAtomWithIdx(place)
    atom.SetNumExplicitHs(max(0, atom.GetNumExplicitHs() - 1))  # the H of a pyrrole's N
    try:
        Chem.SanitizeMol(joined)
    except Chem.MolSanitizeException:
        return None
    return joined.GetMol()


def embed(smiles: str, seed: int) -> Chem.Mol | None:
    """Return the molecule with H and a relaxed MMFF94 geometry, None where that fails."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    settings = AllChem.ETKDGv3()
    settings.randomSeed = seed
    if AllChem.EmbedMolecule(molecule, settings) != 0:
        return None
    if not AllChem.MMFFHasAllMoleculeParams(molecule):
        return None
    if AllChem.MMFFOptimizeMolecule(molecule, mmffVariant="MMFF94", maxIters=5000) != 0:
        return None
    return molecule


def make(count: int, seed: int) -> tuple[MoleculeStore, Counter[str]]:
    """Return a store of ``count`` molecules with SMILES and split, and what was dropped."""
    rng = random.Random(seed)
    builder, seen, dropped = StoreBuilder(), set(), Counter()
    while len(builder) < count:
        smiles = assemble(rng)
        if smiles is None or smiles in seen:
            dropped["not a wanted molecule" if smiles is None else "duplicate"] += 1
            continue
        seen.add(smiles)
        molecule = embed(smiles, seed)
        if molecule is None:
            dropped["no geometry"] += 1
            continue
        builder.add(_compact(Molecule.from_rdkit(molecule)), smiles)
    return dataclasses.replace(builder.build("demo"), split=random_split(count, seed=seed)), dropped


def _compact(molecule: Molecule) -> Molecule:
    """Centred and rounded to 0.001 angstrom (packs well); without what the SMILES says already."""
    centred = molecule.positions - molecule.positions.mean(axis=0)
    return dataclasses.replace(
        molecule, positions=centred.round(3), formal_charges=None, bonds=None, title=""
    )


def stability(store: MoleculeStore) -> tuple[float, float]:
    """Return EDM's atom and molecule stability of the geometries."""
    stable = [
        stable_atoms(
            molecule.atomic_numbers, bond_orders(molecule.atomic_numbers, molecule.positions)
        )
        for molecule in map(store.molecule, range(len(store)))
    ]
    return float(np.concatenate(stable).mean()), float(np.mean([atoms.all() for atoms in stable]))


def main() -> None:
    """Make the file and print what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3600, help="molecules to make")
    parser.add_argument("--seed", type=int, default=0, help="of the grammar, ETKDG and the split")
    parser.add_argument("--output", type=Path, default=Path("data/demo.npz"))
    arguments = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    store, dropped = make(arguments.count, arguments.seed)
    store.save(arguments.output, compressed=True)
    atoms, molecules = stability(store)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.2f} MB")
    print(f"RDKit {rdBase.rdkitVersion}, seed {arguments.seed}; dropped: {dict(dropped)}")
    print(f"{len(store)} molecules, {store.sizes.mean():.1f} atoms on average")
    print(f"sizes {store.size_histogram()}")
    print(f"elements {store.element_counts()}")
    print(f"split (train, valid, test) {np.bincount(store.split).tolist()}")
    print(f"EDM stability: atoms {atoms:.4f}, molecules {molecules:.4f}")


if __name__ == "__main__":
    main()
