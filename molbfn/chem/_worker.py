"""The process that runs RDKit's bond perception for `molbfn.chem.perception`.

It runs as a script, apart from its parent: RDKit can hang or exhaust memory inside C++, where
only killing the process helps. It imports no molbfn code, so that it starts quickly.

Protocol on stdin and stdout, all little-endian: a request is uint32 N, then int32 the total charge
to try first, then int32 [N] atomic numbers, then float64 [N, 3] positions in angstrom; a reply is
uint32 length, then JSON, either
``{"charge": q, "bonds": [[i, j, order], ...], "charges": [...]}`` or ``{"error": text}``.
The first reply, ``{"ready": true}``, comes unasked when RDKit is loaded.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_LENGTH = struct.Struct("<I")
_CHARGE = struct.Struct("<i")
_MEMORY_LIMIT = 4 << 30  # bytes of address space; perception has been seen to eat all memory
_LONGEST_ALARM = 1e8  # seconds; the operating system refuses some lengths beyond
_MAX_ITERATIONS = 100_000  # of the search over bond orders; keeps most hangs from being hangs

# Ways to decide who is bonded, tried in turn. RDKit's own first; the tighter radii separate atoms
# across small cages (1.9 angstrom apart), which cost 5 % of QM9 with the first way alone.
_CONNECTIVITY: tuple[dict[str, Any], ...] = ({}, {"useVdw": True, "covFactor": 1.15})
_CHARGES = (0, 1, -1)

Reader = Callable[[BinaryIO], "tuple[Any, ...] | None"]
"""Reads the arguments of one request from stdin; None at its end."""


def perceive(atomic_numbers: np.ndarray, positions: np.ndarray, charge: int = 0) -> dict[str, Any]:
    """Return Kekule bonds and formal charges by RDKit's DetermineBonds, or the reason for none.

    Args:
        atomic_numbers: [N].
        positions: [N, 3], angstrom.
        charge: total charge to try first, such as the one that a file states.
    """
    from rdkit import Chem

    if len(atomic_numbers) < 2:
        return {"error": "a single atom has no bonds"}  # RDKit would give it hydrogens
    error = ""
    charges = list(dict.fromkeys((charge, *_CHARGES)))
    for total in charges:
        for options in _CONNECTIVITY:
            try:
                mol = _determine(atomic_numbers, positions, total, options)
            except (ValueError, RuntimeError, MemoryError) as problem:
                error = error or " ".join(str(problem).split())
                continue
            bonds = sorted(
                [*sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx())), round(b.GetBondTypeAsDouble())]
                for b in mol.GetBonds()
            )
            formal = [a.GetFormalCharge() for a in mol.GetAtoms()]
            return {"charge": Chem.GetFormalCharge(mol), "bonds": bonds, "charges": formal}
    tried = ", ".join(f"{total:+d}" if total else "0" for total in charges)
    return {"error": f"no bond orders for charges {tried} ({error})"}


def _determine(
    atomic_numbers: np.ndarray, positions: np.ndarray, charge: int, options: dict[str, Any]
) -> Any:
    """Return a sanitised, kekulised RDKit molecule of the given charge, or raise."""
    from rdkit import Chem
    from rdkit.Chem import rdDetermineBonds

    mol = Chem.RWMol()
    for number in atomic_numbers.tolist():
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    conformer = Chem.Conformer(len(atomic_numbers))
    conformer.SetPositions(positions)
    mol.AddConformer(conformer)
    rdDetermineBonds.DetermineBonds(
        mol, charge=charge, embedChiral=False, maxIterations=_MAX_ITERATIONS, **options
    )
    Chem.SanitizeMol(mol)
    if mol.GetNumAtoms() != len(atomic_numbers) or Chem.GetFormalCharge(mol) != charge:
        raise ValueError("RDKit changed the atoms or the charge")
    if any(atom.GetTotalNumHs() for atom in mol.GetAtoms()):
        raise ValueError("RDKit would add hydrogens")
    Chem.Kekulize(mol, clearAromaticFlags=True)
    return mol


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs ``main`` of a module in a process of its own.

    Args:
        module: its full name.
        arguments: what it finds in ``sys.argv`` from 2 on.
    """
    root = str(Path(__file__).parents[2])  # also where molbfn is not installed
    start = f"import sys; sys.path.insert(0, sys.argv[1]); import {module} as w; w.main()"
    return [sys.executable, "-P", "-c", start, root, *arguments]


def frame(data: bytes) -> bytes:
    """Return a request of any bytes: uint32 length (little-endian), then the bytes."""
    return _LENGTH.pack(len(data)) + data


def read_frame(stream: BinaryIO) -> bytes | None:
    """Return the bytes of the next :func:`frame`; None at the end."""
    if len(head := stream.read(_LENGTH.size)) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    return data if len(data) == length else None


def read_geometry(stream: BinaryIO) -> tuple[np.ndarray, np.ndarray, int] | None:
    """Return atomic numbers [N], positions [N, 3] and the charge to try first of a request."""
    if len(head := stream.read(_LENGTH.size)) == _LENGTH.size:
        (n,) = _LENGTH.unpack(head)
        body = stream.read(_CHARGE.size + 28 * n)
        if len(body) == _CHARGE.size + 28 * n:
            (charge,) = _CHARGE.unpack_from(body)
            numbers = np.frombuffer(body, dtype="<i4", count=n, offset=_CHARGE.size)
            points = np.frombuffer(body, dtype="<f8", offset=_CHARGE.size + 4 * n)
            return numbers, points.reshape(n, 3), charge
    return None


def serve(
    function: Callable[..., dict[str, Any]] = perceive,
    *,
    alarm: float = 0.0,
    read: Reader = read_geometry,
) -> None:
    """Answer requests until stdin closes.

    Args:
        function: what to answer with; takes what ``read`` returns.
        alarm: seconds after which the operating system ends this process over one request, should
            the parent no longer be there to do it; 0 for never.
        read: reads the arguments of a request.
    """
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # a stray print must not garble the replies
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _send(replies, {"ready": True})
    while (arguments := read(sys.stdin.buffer)) is not None:
        _set_alarm(alarm)
        try:
            answer = function(*arguments)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        _set_alarm(0.0)
        _send(replies, answer)


def _send(stream: BinaryIO, answer: dict[str, Any]) -> None:
    stream.write(frame(json.dumps(answer).encode()))


def _set_alarm(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, min(seconds, _LONGEST_ALARM))


def limit_memory() -> None:
    """Let this process have no more than 4 GiB, where the system can see to it."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, _MEMORY_LIMIT))
    except (ImportError, ValueError, OSError):
        pass  # no such limits on this system: the timeout still holds


def main() -> None:
    """Run the worker; the only argument is the alarm in seconds."""
    from rdkit import RDLogger
    from rdkit.Chem import rdDetermineBonds  # noqa: F401  load before reporting ready

    RDLogger.DisableLog("rdApp.*")
    limit_memory()
    serve(alarm=float(sys.argv[1]))


if __name__ == "__main__":
    main()
