"""The process in which RDKit reads its own binary format, for `molbfn.chem.pickled`.

A request is uint32 length (little-endian), then the bytes. The reply (see `molbfn.chem.workers`)
has "conformers": of each the fields of a `Molecule`, or an "error".
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from molbfn.chem._worker import limit_memory, serve
from molbfn.chem.molecule import Molecule
from molbfn.errors import UserError

if TYPE_CHECKING:
    from rdkit import Chem

_LENGTH = struct.Struct("<I")


def command(*, alarm: float) -> list[str]:
    """Return the command that runs a worker; ``alarm`` as in `serve`, seconds."""
    root = str(Path(__file__).parents[2])  # also where molbfn is not installed
    start = "import sys; sys.path.insert(0, sys.argv[1]); import molbfn.chem._pickle_worker as w; "
    return [sys.executable, "-P", "-c", start + "w.main()", root, str(alarm)]


def encode(data: bytes) -> bytes:
    """Return the request for a molecule in RDKit's format."""
    return _LENGTH.pack(len(data)) + data


def decode(stream: BinaryIO) -> tuple[bytes] | None:
    """Return the bytes of the next request; None at the end."""
    if len(head := stream.read(_LENGTH.size)) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    return (data,) if len(data) == length else None


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
