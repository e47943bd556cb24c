"""One run at a time for an output file."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from molbfn.chem.files import count_complete
from molbfn.chem.records import partial_path, system_errors
from molbfn.errors import UserError
from molbfn.locks import hold


@contextmanager
def sole_writer(output: Path) -> Iterator[None]:
    """Hold the lock ``.NAME.lock`` beside the output; a killed process lets go of it too.

    What such a process left half-written of its record is removed.

    Raises:
        UserError: another run has it, or the folder cannot be written.
    """
    path = output.with_name(f".{output.name}.lock")
    busy = f"{output}: another run is writing this file; wait for it or give another --output"
    with ExitStack() as stack:
        with system_errors(output):
            stack.enter_context(hold(path, busy=busy))
            _tidy(output)
        yield


def _tidy(output: Path) -> None:
    """Remove records that a killed run was writing; there is an older whole one of each."""
    for record in (f"{output.name}.json", f"{output.name}.partial.json"):
        for half in output.parent.glob(f".{glob.escape(record)}.*.partial"):
            half.unlink()


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
