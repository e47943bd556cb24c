"""One program at a time for a file or folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from molbfn.errors import UserError


@contextmanager
def hold(path: Path, *, busy: str) -> Iterator[None]:
    """Hold the lock file ``path``; a killed process lets go of it too.

    Where a file system knows no locks, nothing is held.

    Args:
        path: made, and removed at the end.
        busy: what to say if another process has it.

    Raises:
        UserError: another process has it.
        OSError: the file cannot be written.
    """
    lock = FileLock(path)
    with suppress(NotImplementedError):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise UserError(busy) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
