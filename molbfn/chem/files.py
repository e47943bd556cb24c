"""Read molecules from files, record by record, and say of each bad record what is wrong.

Reads .sdf, .sd and .mol (V2000, V3000), .xyz and .extxyz (plain or extended), each also with .gz,
.npz in the layout of `molbfn.data.store`, RDKit's molecules in .pickle and .pkl, folders of such
files, and pipes. Writing is in `molbfn.chem.writers`. What is read and what is not is in
docs/input_files.md.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from molbfn.chem import sdf, xyz
from molbfn.chem.lines import READ_ERRORS, sniff, text_lines
from molbfn.chem.molecule import Molecule
from molbfn.chem.records import Problem, ReadRecord, RecordError, ResumePoint, at_one_point
from molbfn.chem.trajectory import SUFFIX as TRAJECTORY
from molbfn.chem.writers import count_complete, open_writer
from molbfn.errors import UserError

__all__ = [
    "Problem",
    "ReadRecord",
    "ResumePoint",
    "count_complete",
    "open_writer",
    "read_molecules",
]

READABLE = (
    *(".sdf", ".sdf.gz", ".sd", ".sd.gz", ".mol", ".mol.gz", ".xyz", ".xyz.gz"),
    *(".extxyz", ".extxyz.gz", ".npz", ".pickle", ".pkl"),
)

_KINDS = {
    **{".sd": "sdf", ".mo": "sdf", ".xy": "xyz", ".ex": "xyz", ".np": "npz"},
    **{".pi": "pickle", ".pk": "pickle"},
}
_Parsed = Molecule | Problem
_SNIFFED = 4096  # bytes


def read_molecules(
    path: str | os.PathLike[str], *, on_problem: Callable[[Problem], None] | None = None
) -> Iterator[ReadRecord]:
    """Return an iterator over the records of a file, or of a folder's files in name order.

    A record that cannot be read comes as a `ReadRecord` with a problem; none is left out. What a
    folder holds twice, by a link, is read once. Text is read in bounded memory. A pipe
    (``/dev/stdin``, a FIFO) is read once, as SDF or XYZ by its first lines.

    Args:
        path: of the file or folder.
        on_problem: called with each problem when it is met.

    Raises:
        UserError: the file is missing, unreadable, of an unknown kind or empty (the last is found
            when the iterator is used). In a folder, such a file is a record with a problem.
    """
    source = Path(path)
    try:
        if source.is_dir():
            files, _ = once(_molecule_files(source))
            if not files:
                raise UserError(f"{source}: no {', '.join(READABLE)} files in this folder")
            return _numbered(_folder(files), on_problem)
        if not source.exists():
            raise UserError(f"{source}: no such file")
        if not is_readable(source):
            raise UserError(f"{source}: {unknown_kind(source)}")
        if source.is_file():
            with source.open("rb") as stream:
                if not stream.read(1):
                    raise UserError(f"{source}: the file is empty")
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror or error}") from None
    return _numbered(_file(source), on_problem)


def is_readable(path: Path) -> bool:
    """Return whether a path is of a kind that `read_molecules` can read: by its name, or a pipe."""
    return _kind(path) is not None or _is_pipe(path)


def unknown_kind(path: Path) -> str:
    """Return why a file that is not `is_readable` is not read, in words."""
    if path.name.lower().removesuffix(".gz").endswith(TRAJECTORY):
        return (
            f"a name in {TRAJECTORY} is that of how molecules came about, frame by frame, not of "
            f"molecules; rename it to read its frames as molecules"
        )
    return f"cannot read this kind of file (can: {', '.join(READABLE)})"


def once(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Return the paths without what would be read again, and the latter.

    Links are followed, and folders looked into: a file of a folder that is named too is read with
    the folder, and a folder some of whose files are read with another one becomes its other files.
    What does not exist is left for the reader to report.
    """
    named = list(paths)
    inside = [_files_in(path) for path in named]
    seen: dict[tuple[int, int], int] = {}  # file or folder -> place of the path that it is read by
    kept: list[list[Path]] = [[] for _ in named]
    repeated: list[Path] = []
    for place in sorted(range(len(named)), key=lambda k: inside[k] is None):  # folders first
        path, files = named[place], inside[place] or []
        if _claimed(path, place, seen) is not None:
            repeated.append(path)
            continue
        earlier = {file: _claimed(file, place, seen) for file in files}
        again = [file for file, by in earlier.items() if by is not None]
        repeated += again
        elsewhere = any(by not in (None, place) for by in earlier.values())
        kept[place] = [file for file in files if file not in again] if elsewhere else [path]
    return [path for part in kept for path in part], repeated


def _claimed(path: Path, place: int, seen: dict[tuple[int, int], int]) -> int | None:
    """Return the place that reads a file or folder already; None if it is this one from now on."""
    try:
        found = path.stat()
    except OSError:
        return None
    key = (found.st_dev, found.st_ino)
    if key in seen:
        return seen[key]
    seen[key] = place
    return None


def _files_in(path: Path) -> list[Path] | None:
    """Return the molecule files of a folder; None for what is no folder, or cannot be opened."""
    try:
        return _molecule_files(path) if path.is_dir() else None
    except OSError:
        return None


def _molecule_files(folder: Path) -> list[Path]:
    """Return the molecule files of a folder, in name order."""
    return sorted(item for item in folder.iterdir() if _kind(item) and item.is_file())


def _kind(path: Path) -> str | None:
    """Return "sdf", "xyz", "npz" or "pickle" by the suffix (of what a link leads to), or None."""
    for name in (path.name.lower(), os.path.basename(os.path.realpath(path)).lower()):
        if name.removesuffix(".gz").endswith(TRAJECTORY):
            return None  # unfinished frames
        suffix = next((s for s in READABLE if name.endswith(s)), "")
        kind = _KINDS.get(suffix[:3])
        if kind:
            return kind
    return None


def _is_pipe(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)


def _numbered(
    parsed: Iterator[_Parsed], on_problem: Callable[[Problem], None] | None
) -> Iterator[ReadRecord]:
    for index, item in enumerate(parsed):
        if isinstance(item, Molecule):
            yield ReadRecord(index, item)
            continue
        if on_problem is not None:
            on_problem(item)
        yield ReadRecord(index, None, item)


def _folder(files: list[Path]) -> Iterator[_Parsed]:
    for file in files:
        try:
            yield from _file(file)
        except UserError as error:
            reason = str(error).removeprefix(f"{file}: ")
            yield Problem(str(file), None, None, reason)


def _file(path: Path) -> Iterator[_Parsed]:
    """Yield the records of one file; UserError if there are none at all."""
    found = False
    read = {"npz": _npz, "pickle": _pickle}.get(_kind(path) or "", _text)
    for item in read(path):
        found = True
        yield item
    if not found:
        raise UserError(f"{path}: the file holds no molecules")


def _text(path: Path) -> Iterator[_Parsed]:
    done = 0
    try:
        with path.open("rb") as stream:
            kind = _kind(path)
            packed = stream.peek(2)[:2] == b"\x1f\x8b"  # whatever the name says
            if kind is None:
                kind, packed = sniff(stream.peek(_SNIFFED))
            form = xyz if kind == "xyz" else sdf
            for raw in form.split_records(text_lines(stream, packed=packed)):
                done += 1
                try:
                    if raw.problem is not None:
                        raise raw.problem
                    molecule = (
                        xyz.parse_record(raw.lines)
                        if form is xyz
                        else sdf.parse_record(raw.lines, ended=raw.ended)
                    )
                    if (reason := at_one_point(molecule)) is not None:
                        raise RecordError(reason)
                    yield molecule
                except RecordError as error:
                    line = raw.first + (error.line or 1) - 1
                    yield Problem(str(path), done, line, str(error))
    except READ_ERRORS as error:
        problem = getattr(error, "strerror", None) or str(error)
        if not done:
            raise UserError(f"{path}: cannot be read: {problem}") from None
        yield Problem(str(path), None, None, f"cannot be read after record {done}: {problem}")


def _pickle(path: Path) -> Iterator[_Parsed]:
    from molbfn.chem.pickled import read_pickled

    number = 0
    try:
        for number, item in enumerate(read_pickled(path), 1):
            yield _with_place(item, path, number)
    except OSError as error:
        reason = error.strerror or str(error)
        if not number:
            raise UserError(f"{path}: cannot be read: {reason}") from None
        yield Problem(str(path), None, None, f"cannot be read after record {number}: {reason}")


def _npz(path: Path) -> Iterator[_Parsed]:
    from molbfn.chem.npz_records import read_records

    for number, item in enumerate(read_records(path), 1):
        yield _with_place(item, path, number)


def _with_place(item: Molecule | str, path: Path, number: int) -> _Parsed:
    """Return a molecule of a file without lines, or what is wrong with it."""
    if isinstance(item, str):
        return Problem(str(path), number, None, item)
    reason = at_one_point(item)
    return item if reason is None else Problem(str(path), number, None, reason)
