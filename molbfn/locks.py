"""One program at a time for a file or folder."""

from __future__ import annotations

import errno
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from molbfn.errors import UserError

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)  # NFS, Lustre, FUSE
# Without locks newer versions take a file's existence for one, which a kill would leave behind.
_PLAIN = {
    name: False
    for name in inspect.signature(FileLock.__init__).parameters
    if name == "fallback_to_soft"
}


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
    lock = FileLock(path, **_PLAIN)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(busy) from None
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
