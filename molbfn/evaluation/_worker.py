"""The process that runs the slow protocols on single molecules, see `molbfn.chem.workers`.

A request is uint32 length (little-endian), then the molecule as JSON (`encode`).
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from molbfn.chem import _worker
from molbfn.chem._worker import frame, limit_memory, read_frame, serve
from molbfn.chem.molecule import Molecule

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
#: A process per core does the parallel work; threads within would get in its way.
ENVIRONMENT = dict.fromkeys(_THREADS, "1")


def command(task: str, *, alarm: float) -> list[str]:
    """Return the command that runs a worker.

    Args:
        task: "module:function"; the function takes a `Molecule` and returns plain values, or
            raises. A molecule of hydrogen is put to it before the first request, so that what it
            loads does not count into a molecule's timeout.
        alarm: seconds after which a request ends the process, see `serve`.
    """
    return _worker.command(__name__, task, str(alarm))


def encode(molecule: Molecule) -> bytes:
    """Return the request for a molecule: what it is made of, without title and other properties."""
    charges, bonds = molecule.formal_charges, molecule.bonds
    fields = {
        "atomic_numbers": molecule.atomic_numbers.tolist(),
        "positions": molecule.positions.tolist(),
        "formal_charges": None if charges is None else charges.tolist(),
        "bonds": None if bonds is None else bonds.tolist(),
        "properties": {"charge": molecule.stated_charge} if molecule.stated_charge else {},
    }
    return frame(json.dumps(fields).encode())


def decode(stream: BinaryIO) -> tuple[Molecule] | None:
    """Return the molecule of the next request; None at the end."""
    data = read_frame(stream)
    if data is None:
        return None
    fields: dict[str, Any] = json.loads(data)
    positions = np.array(fields.pop("positions"), dtype=np.float32).reshape(-1, 3)
    return (Molecule(positions=positions, **fields),)


def warm_up(task: Callable[[Molecule], Any]) -> None:
    """Have a task load what it needs, by way of a molecule of hydrogen.

    Raises:
        ImportError: a package that it needs cannot be loaded.
    """
    hydrogen = Molecule(
        atomic_numbers=np.array([1, 1]),
        positions=np.array([[0, 0, 0], [0, 0, 0.74]]),
        formal_charges=np.zeros(2),
        bonds=np.array([[0, 1, 1]]),
    )
    try:
        task(hydrogen)
    except ImportError:
        raise
    except Exception:
        return  # what it says of this molecule is of no interest


def main() -> None:
    """Run the worker; arguments: the folder of molbfn, the task, and the alarm in seconds."""
    from rdkit import RDLogger

    RDLogger.DisableLog("rdApp.*")
    module, _, function = sys.argv[2].partition(":")
    task = getattr(importlib.import_module(module), function)
    limit_memory()
    warm_up(task)
    serve(task, alarm=float(sys.argv[3]), read=decode)
