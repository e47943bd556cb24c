"""Write molecules to files one by one, so that whatever happens leaves a valid file.

A new file grows beside its final name as ``PATH.partial`` and takes the name when it is closed:

- normal end, or Ctrl-C (``KeyboardInterrupt``) where nothing had the name: PATH holds everything
  written so far;
- Ctrl-C where it would replace an older file: PATH is untouched, ``PATH.partial`` holds it;
- any other exception: PATH is untouched, ``PATH.partial`` ends with its last complete record;
- a killed process: ``PATH.partial`` may end in half a record, which appending cuts off.

Appending goes on with ``PATH.partial`` where there is one, else with PATH itself, in place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from molbfn.chem.formats import FORMATS, TextFormat
from molbfn.chem.molecule import Molecule
from molbfn.chem.records import ResumePoint, highest, partial_path, system_errors
from molbfn.errors import UserError, nearest

WRITABLE = (".sdf", ".sdf.gz", ".xyz", ".smi", ".csv", ".npz")

_BUFFER = 1 << 18  # bytes of text gathered before a write; one gzip member of a .gz file


class Writer(Protocol):
    """A context manager that takes molecules; see `open_writer`."""

    resumed: ResumePoint
    """what was there before; 0 records unless appending"""
    placed: bool
    """whether the file is closed and has its final name"""

    def write(self, molecule: Molecule) -> None:
        """Add one molecule.

        Raises:
            UserError: the disk is full, or another error of the operating system.
            ValueError: coordinates that are not finite (.sdf, .xyz).
        """

    def flush(self) -> None:
        """Hand everything written so far to the operating system."""

    def close(self) -> None:
        """Finish the file and give it its final name."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None: ...


def open_writer(path: str | os.PathLike[str], *, append: bool = False) -> Writer:
    """Return a writer for .sdf, .sdf.gz, .xyz, .smi, .csv or .npz, by the suffix.

    Memory does not grow with the number of molecules. What each format holds is said in
    `molbfn.chem.sdf`, `molbfn.chem.xyz`, `molbfn.chem.formats` and `molbfn.chem.columns`.

    Args:
        path: the file; see the module about ``.partial``.
        append: go on after the complete records that are there; without it they are replaced.

    Raises:
        UserError: unknown suffix, missing folder, or a file that cannot be written or continued.
    """
    target = Path(path)
    kind = check_writable(target)
    if kind == ".npz":
        from molbfn.chem.columns import NpzWriter

        return NpzWriter(target, append=append)
    return _TextWriter(target, FORMATS[kind](), append=append)


def check_writable(path: Path) -> str:
    """Return the kind of file to write (".sdf" also for ".sdf.gz") if the path can be one.

    Raises:
        UserError: unknown suffix, a folder, or a folder that does not exist.
    """
    kind = _kind(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")
    return kind


def count_complete(path: str | os.PathLike[str]) -> ResumePoint:
    """Return how many complete records ``PATH.partial``, else PATH, holds; changes nothing.

    Opening with ``append`` cuts off what follows the last complete record and goes on from there.

    Raises:
        UserError: unknown suffix or unreadable file.
    """
    target = Path(path)
    kind = _kind(target)
    if kind == ".npz":
        from molbfn.chem.columns import count_columns

        return count_columns(target)
    source = _existing(target)
    if source is None:
        return ResumePoint(0, None, None)
    return _scan(source, FORMATS[kind](), packed=_packed(target)).point


def _kind(path: Path) -> str:
    suffix = next((s for s in WRITABLE if path.name.lower().endswith(s)), None)
    if suffix is None:
        hint = nearest(path.suffix, WRITABLE)
        raise UserError(
            f"{path}: cannot write this kind of file;{hint} use one of {', '.join(WRITABLE)}"
        )
    return suffix.removesuffix(".gz")


def _packed(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _existing(path: Path) -> Path | None:
    return next((p for p in (partial_path(path), path) if p.exists()), None)


@dataclasses.dataclass(frozen=True)
class _Scan:
    point: ResumePoint
    end: int
    """offset in the (unpacked) text after the last complete record"""


def _scan(path: Path, text_format: TextFormat, *, packed: bool) -> _Scan:
    """Find the complete records of a file that may end in the middle of one, or of a gzip block."""
    offset = 0

    def lines(stream: BinaryIO) -> Iterator[bytes]:
        nonlocal offset
        with contextlib.suppress(EOFError, gzip.BadGzipFile, zlib.error):
            for line in stream:
                if line.endswith(b"\n"):
                    offset += len(line)
                    yield line

    records, end, index = 0, 0, None
    with system_errors(path), path.open("rb") as raw:
        stream = gzip.GzipFile(fileobj=raw) if packed else raw
        try:
            for is_record, found in text_format.scan(lines(stream)):
                records += is_record
                index = highest(index, found)
                end = offset
        except UserError as error:
            raise UserError(f"{path}: {error}; cannot go on with this file") from None
    return _Scan(ResumePoint(records, index, path), end)


class _TextWriter:
    """Gather records and write them in blocks, remembering where the last complete one ends."""

    def __init__(self, path: Path, text_format: TextFormat, *, append: bool) -> None:
        self._path, self._packed, self._format = path, _packed(path), text_format
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._closed = False
        self.placed = False
        self.resumed = ResumePoint(0, None, None)
        existing = _existing(path) if append else None
        self._growing = existing or partial_path(path)
        self._end = self._prepare() if existing else 0
        with system_errors(self._growing):
            self._file = self._growing.open("r+b" if existing else "wb", buffering=0)
            self._file.truncate(self._end)

    def _prepare(self) -> int:
        """Look at the file to go on with; return where its last complete record ends."""
        scan = _scan(self._growing, self._format, packed=self._packed)
        foreign = self._growing == self._path and scan.point.records == 0
        with system_errors(self._growing):
            if foreign and self._growing.stat().st_size > 0:
                raise UserError(
                    f"{self._path}: holds no complete record to go on after; "
                    "remove the file or choose another name"
                )
            self.resumed = scan.point
            return _repack(self._growing, scan.end) if self._packed else scan.end

    def write(self, molecule: Molecule) -> None:
        empty = self._end == 0 and not self._pending
        text = self._format.header(molecule) if empty else ""
        data = (text + self._format.record(molecule)).encode()
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        """Write what is pending after the last complete record; all of it or nothing counts."""
        data = b"".join(self._pending)
        if not data:
            return
        view = memoryview(gzip.compress(data, 6, mtime=0) if self._packed else data)
        end = self._end + len(view)
        with system_errors(self._growing):
            self._file.seek(self._end)
            while view:
                view = view[self._file.write(view) :]
        self._end, self._pending, self._pending_size = end, [], 0

    def close(self) -> None:
        if self._closed:
            return
        try:
            self.flush()
            with system_errors(self._growing):
                self._file.truncate(self._end)
                os.fsync(self._file.fileno())
        except BaseException:
            self._abandon()
            raise
        self._closed = True
        self._file.close()
        if self._growing != self._path:
            with system_errors(self._path):
                os.replace(self._growing, self._path)
        self.placed = True

    def _abandon(self) -> None:
        """Leave the growing file as it is after its last complete record."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            self._file.truncate(self._end)
        with contextlib.suppress(OSError):
            self._file.close()
        if self._end == 0 and self._growing != self._path:
            with contextlib.suppress(OSError):
                self._growing.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        anything = self._end > 0 or bool(self._pending)
        replaces = self._growing != self._path and self._path.exists()
        if kind is None or (issubclass(kind, KeyboardInterrupt) and anything and not replaces):
            self.close()
            return
        with contextlib.suppress(UserError):
            self.flush()
        self._abandon()


def _repack(path: Path, end: int) -> int:
    """Rewrite a .gz so that it holds just its first ``end`` bytes of text; return its size."""
    temporary = path.with_name(path.name + ".repack")
    try:
        with path.open("rb") as raw, temporary.open("wb") as out:
            stream, left = gzip.GzipFile(fileobj=raw), end
            while left and (block := stream.read1(min(left, _BUFFER))):
                out.write(gzip.compress(block, 6, mtime=0))
                left -= len(block)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path.stat().st_size
