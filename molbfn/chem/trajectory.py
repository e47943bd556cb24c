"""How molecules come about: the model's estimate after each network call, in a file of its own.

``out.sdf.traj.extxyz`` stands beside ``out.sdf``: extended XYZ, one record a frame, all frames of
one molecule after the other. ASE, OVITO and others read it. The comment of a frame has

* ``index`` of the molecule, as in the properties of the molecule itself,
* ``call``, the number of the network call from 1, and ``calls``, of all of them,
* ``t``, the time of that call between 0 and 1 (of the positions, where variables have their own).

A frame is the mode of the output distribution, what the molecule would be if the run ended there;
it is not the noisy state that the network is shown. The last frame is the molecule. Elements may
change from frame to frame, the number of atoms does not. The suffix is not one of those read as
molecules, so a folder with a trajectory in it is not evaluated with its unfinished frames.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from molbfn.chem import xyz
from molbfn.chem.molecule import Molecule
from molbfn.chem.records import system_errors
from molbfn.errors import UserError

SUFFIX = ".traj.extxyz"


@dataclass(frozen=True)
class Frame:
    """The estimate of one molecule after one network call."""

    index: int
    """of the molecule"""
    call: int
    """number of the network call, from 1"""
    calls: int
    """network calls of the run"""
    t: float
    molecule: Molecule
    """elements and coordinates"""


def trajectory_path(output: Path) -> Path:
    """Return where the trajectories of ``output`` are."""
    return output.with_name(output.name + SUFFIX)


def write_trajectories(path: Path, frames: Iterable[Frame]) -> None:
    """Write frames, sorted by molecule and call, whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    from molbfn.atomic import replacing

    with replacing(path) as stream:
        for frame in sorted(frames, key=lambda frame: (frame.index, frame.call)):
            stream.write(_record(frame).encode())


def _record(frame: Frame) -> str:
    molecule = frame.molecule.with_properties(
        index=frame.index, call=frame.call, calls=frame.calls, t=round(frame.t, 6)
    )
    return xyz.format_record(molecule)


def read_trajectories(path: Path) -> dict[int, list[Frame]]:
    """Return index -> frames in the order of their calls.

    Raises:
        UserError: the file cannot be read, or a frame is broken or lacks index, call, calls or t.
    """
    found: dict[int, list[Frame]] = {}
    with system_errors(path):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    position = 0
    while position < len(lines):
        frame, length = _frame(lines, position, path)
        found.setdefault(frame.index, []).append(frame)
        position += length
    if not found:
        raise UserError(f"{path}: holds no frames")
    for index, frames in found.items():
        frames.sort(key=lambda frame: frame.call)
        if len({len(frame.molecule) for frame in frames}) > 1:
            raise UserError(f"{path}: the frames of molecule {index} differ in their atoms")
    return found


def _frame(lines: list[str], position: int, path: Path) -> tuple[Frame, int]:
    """Return the frame that begins at a line, and its number of lines."""
    where = f"{path}: line {position + 1}"
    count = lines[position].strip()
    if not (count.isdecimal() and len(count) < 10):
        raise UserError(f"{where}: expected a number of atoms")
    record = lines[position : position + int(count) + 2]
    if len(record) < int(count) + 2:
        raise UserError(f"{where}: the frame is cut short")
    try:
        molecule = xyz.parse_record(record)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    index, call, calls, t = (
        molecule.properties.get(key) for key in ("index", "call", "calls", "t")
    )
    if not (isinstance(index, int) and isinstance(call, int) and isinstance(calls, int)):
        raise UserError(f"{where}: not a frame of molbfn (needs index, call and calls)")
    if not isinstance(t, int | float):
        raise UserError(f"{where}: not a frame of molbfn (needs the time t)")
    return Frame(index, call, calls, float(t), molecule), len(record)
