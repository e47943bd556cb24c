"""The process in which RDKit reads its own binary format, for `molbfn.chem.pickled`.

A request is a frame (`_worker.frame`) of these bytes. The reply (see `molbfn.chem.workers`)
has "conformers": of each the fields of a `Molecule`, or an "error".
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from molbfn.chem import _worker
from molbfn.chem._worker import limit_memory, read_frame, serve
from molbfn.chem.molecule import Molecule
from molbfn.errors import UserError

if TYPE_CHECKING:
    from rdkit import Chem


def command(*, alarm: float) -> list[str]:
    """Return the command that runs a worker; ``alarm`` as in `serve`, seconds."""
    return _worker.command(__name__, str(alarm))


def decode(stream: BinaryIO) -> tuple[bytes] | None:
    """Return the bytes of the next request; None at the end."""
    data = read_frame(stream)
    return None if data is None else (data,)


def conformers(data: bytes) -> dict[str, Any]:
    """Return all conformers of a molecule in RDKit's format."""
    from rdkit import Chem

    mol = Chem.Mol(data)
    if not mol.GetNumConformers():
        return {"conformers": [{"error": "the molecule has no 3D coordinates (embed it first)"}]}
    for number, conformer in enumerate(mol.GetConformers()):
        conformer.SetId(number)  # those added by hand may all have the same
    return {"conformers": [_fields(mol, k) for k in range(mol.GetNumConformers())]}


def _fields(mol: Chem.Mol, conformer: int) -> dict[str, Any]:
    try:
        molecule = Molecule.from_rdkit(mol, conformer=conformer)
    except UserError as error:
        return {"error": str(error)}
    assert molecule.formal_charges is not None
    assert molecule.bonds is not None
    return {
        "atomic_numbers": molecule.atomic_numbers.tolist(),
        "positions": molecule.positions.tolist(),
        "formal_charges": molecule.formal_charges.tolist(),
        "bonds": molecule.bonds.tolist(),
        "title": molecule.title,
        "properties": dict(molecule.properties),
    }


def main() -> None:
    """Run the worker; the last argument is the alarm in seconds."""
    from rdkit import Chem, RDLogger  # noqa: F401  load before reporting ready

    RDLogger.DisableLog("rdApp.*")
    limit_memory()
    serve(conformers, alarm=float(sys.argv[-1]), read=decode)
