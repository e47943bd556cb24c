"""Write files so that a failure destroys nothing: a new one takes the old place when whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from molbfn.errors import UserError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside ``path`` that takes its place when the block succeeds.

    A pipe or device (``/dev/stdout``) is written to, not replaced.

    Raises:
        UserError: an operating-system error while writing; ``path`` is then as it was.
    """
    temporary: str | None = None
    try:
        if _is_device(path):
            with path.open("wb") as stream:
                yield stream
            return
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".partial"
        )
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def check_replaceable(path: Path) -> None:
    """See, before long work, that `replacing` could write ``path``, by a file beside it.

    Raises:
        UserError: the folder is missing or cannot be written, or ``path`` is a folder.
    """
    if _is_device(path):
        return
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")
    try:
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".partial"
        )
        os.close(handle)
        os.unlink(temporary)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def _is_device(path: Path) -> bool:
    """Whether it is a pipe or device; so is all in /dev, wherever its links lead."""
    special = path.exists() and not (path.is_file() or path.is_dir())
    return special or Path("/dev") in path.absolute().parents


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
