"""Count which valences atoms have in sets of known molecules, for the protocol "revisited".

Of each atom: the number of its aromatic bonds (RDKit's model), the sum of the orders of its other
bonds, hydrogens included, and its formal charge. A valence counts once a molecule. Written are
those that at least --fewest molecules have, with their number, by element; atoms with unpaired
electrons are left out.

    python scripts/make_valences.py --smiles geom_drugs_smiles_train.txt.xz \
        --npz druglike_pdbligands.npz druglike_confbench.npz --store qm9 \
        -o molbfn/evaluation/valences.json
"""

from __future__ import annotations

import argparse
import json
import lzma
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import rdkit
from rdkit import Chem, rdBase

from molbfn.chem.files import read_molecules
from molbfn.data.store import MoleculeStore
from molbfn.evaluation.valences import atom_valences


def main() -> None:
    """Count and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smiles", type=Path, nargs="*", default=[], help="a SMILES a line, .xz")
    parser.add_argument("--npz", type=Path, nargs="*", default=[], help="molecules with bonds")
    parser.add_argument("--store", nargs="*", default=[], help="data sets with SMILES")
    parser.add_argument(
        "--fewest", type=int, default=10, help="molecules that make a valence known"
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    sources = {path.name: _of_smiles(_lines(path)) for path in arguments.smiles}
    sources |= {path.name: _of_file(path) for path in arguments.npz}
    for name in arguments.store:
        sources[f"{name} (SMILES)"] = _of_smiles(iter(MoleculeStore.open(name).smiles or ()))
    counts: Counter[tuple[str, int, int, int]] = Counter()
    molecules = {}
    for name, mols in sources.items():
        molecules[name] = 0
        for mol in mols:
            molecules[name] += 1
            counts.update(_valences(mol))
        print(f"{name}: {molecules[name]:,} molecules")
    found: dict[str, list[list[int]]] = {}
    for (element, *valence), count in sorted(counts.items()):
        if count >= arguments.fewest:
            found.setdefault(element, []).append([*valence, count])
    record = {
        "what": "element -> [aromatic bonds, sum of other bond orders, formal charge, molecules]",
        "rule": f"all that at least {arguments.fewest} molecules have; no unpaired electrons",
        "molecules": molecules,
        "rdkit": rdkit.__version__,
        "valences": found,
    }
    text = json.dumps(record, indent=1)
    for element, rows in found.items():  # a valence a line
        old = json.dumps({element: rows}, indent=1).split("\n", 1)[1].rsplit("\n", 1)[0]
        new = f' "{element}": [\n' + ",\n".join(f"   {row}" for row in rows) + "\n  ]"
        text = text.replace(old.replace("\n", "\n "), new)
    arguments.output.write_text(text + "\n")


def _lines(path: Path) -> Iterator[str]:
    with lzma.open(path, "rt") as stream:
        yield from (line.split()[0] for line in stream if line.strip())


def _of_smiles(lines: Iterator[str]) -> Iterator[Chem.Mol]:
    for line in lines:
        with rdBase.BlockLogs():
            mol = Chem.MolFromSmiles(line)
        if mol is not None:
            yield mol


def _of_file(path: Path) -> Iterator[Chem.Mol]:
    for record in read_molecules(path):
        if record.molecule is None or record.molecule.bonds is None:
            continue
        mol = record.molecule.to_rdkit()
        with rdBase.BlockLogs():
            if Chem.SanitizeMol(mol, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE:
                yield mol


def _valences(mol: Chem.Mol) -> set[tuple[str, int, int, int]]:
    found = set()
    for atom, valence in zip(mol.GetAtoms(), atom_valences(mol), strict=True):
        if atom.GetAtomicNum() == 1:
            found.add(("H", *valence))
        elif atom.GetNumRadicalElectrons() == 0:
            found.add((atom.GetSymbol(), *valence))
        if atom.GetTotalNumHs():
            found.add(("H", 0, 1, 0))
    return found


if __name__ == "__main__":
    main()
