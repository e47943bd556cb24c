"""Read npz files without loading them, and write them in one step."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from molbfn.atomic import replacing
from molbfn.errors import UserError

_LOCAL_HEADER = struct.Struct(
    "<26xHH"
)  # lengths of name and extra field close a zip member's header
# what a damaged zip raises beside ValueError: bits of its headers decide the way it is read
_DAMAGED = (
    zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, OverflowError,
    KeyError, TypeError, SyntaxError, zipfile.BadZipFile,
)  # fmt: skip


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an npz file; members stored uncompressed are memory-mapped read-only.

    Raises:
        UserError: the file is missing, unreadable, not an npz, cut short, or holds pickles.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
            return {
                member.filename.removesuffix(".npy"): _read_member(archive, member, stream, path)
                for member in archive.infolist()
                if member.filename.endswith(".npy")
            }
    except FileNotFoundError:
        raise UserError(f"no such data file: {path}") from None
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError) as error:
        raise UserError(
            f"{path} is not a readable npz file ({error}); "
            "molecules of other formats are converted by 'molbfn data prepare'"
        ) from None
    except MemoryError:
        raise UserError(f"cannot read {path}: its arrays do not fit into memory") from None
    except (OSError, ValueError, *_DAMAGED) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays of an npz file that has been read before."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def _read_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, stream: IO[bytes], path: Path
) -> np.ndarray:
    try:
        if member.compress_type == zipfile.ZIP_STORED:
            return _map_member(member, stream, path)
        with archive.open(member) as packed:
            _read_header(packed, member.file_size)
        with archive.open(member) as packed:
            return np.lib.format.read_array(packed, allow_pickle=False)
    except (ValueError, *_DAMAGED) as error:
        raise ValueError(f"array '{member.filename.removesuffix('.npy')}': {error}") from None


def _read_header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return (shape, Fortran order, dtype) of an array that ``size`` bytes can hold.

    Raises:
        ValueError: not an array, Python objects, or a shape beyond the size (which nobody should
            allocate memory for).
    """
    version = np.lib.format.read_magic(stream)
    read_header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read_header(stream)
    if dtype.hasobject:
        raise ValueError("holds Python objects")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"its shape {shape} is more than the file holds")
    return shape, fortran, dtype


def _map_member(member: zipfile.ZipInfo, stream: IO[bytes], path: Path) -> np.ndarray:
    """Map one stored member: the local header gives the true start of its npy header."""
    stream.seek(member.header_offset)
    header = stream.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size:
        raise EOFError(f"array '{member.filename}' is cut short")
    name_length, extra_length = _LOCAL_HEADER.unpack(header)
    stream.seek(member.header_offset + _LOCAL_HEADER.size + name_length + extra_length)
    shape, fortran, dtype = _read_header(stream, member.file_size)
    if 0 in shape or dtype.itemsize == 0:
        return np.empty(shape, dtype)  # the operating system maps no empty ranges
    return np.memmap(
        path, dtype, mode="r", offset=stream.tell(), shape=shape, order="F" if fortran else "C"
    )


def write_npz(path: Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = False) -> None:
    """Write arrays to ``path`` in one step: the old file stays whole until the new one is.

    Uncompressed files can be memory-mapped by `read_npz`. The bytes depend on the arrays only.

    Raises:
        UserError: the folder is missing, not writable, or the disk is full.
    """
    with replacing(path) as stream:
        (np.savez_compressed if compressed else np.savez)(stream, **arrays)
