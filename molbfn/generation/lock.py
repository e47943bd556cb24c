"""One run at a time for an output file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from molbfn.chem.files import count_complete
from molbfn.chem.records import partial_path, system_errors
from molbfn.errors import UserError


@contextmanager
def sole_writer(output: Path) -> Iterator[None]:
    """Hold the lock ``.NAME.lock`` beside the output; a killed process lets go of it too.

    Raises:
        UserError: another run has it, or the folder cannot be written.
    """
    path = output.with_name(f".{output.name}.lock")
    lock = FileLock(path)
    with system_errors(output), suppress(NotImplementedError):  # file systems without locks
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise UserError(
                f"{output}: another run is writing this file; wait for it or give another --output"
            ) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def check_nothing_unfinished(output: Path) -> None:
    """Refuse to begin anew where a killed run left molecules.

    Raises:
        UserError: it names the file that holds them.
    """
    growing = partial_path(output)
    if growing.exists() and (found := count_complete(output).records):
        raise UserError(
            f"{growing}: holds {found} molecules of a run that was killed; go on with --resume, or "
            f"remove it to begin anew"
        )
