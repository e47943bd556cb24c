"""Records that could not be read: the first few on stderr, all of them to a file."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from molbfn.chem.files import Problem, once
from molbfn.errors import UserError

#: Exit code of a command that did its work but had to leave out records that it could not read.
SKIPPED = 3
_PRINTED = 10
_FIELDS = tuple(field.name for field in dataclasses.fields(Problem))


class ProblemLog:
    """Takes problems as they are met; memory does not grow with their number.

    Args:
        stream: open text file for all of them, or None.
        as_csv: CSV with a header; else one JSON object a line.
    """

    def __init__(self, stream: IO[str] | None, *, as_csv: bool) -> None:
        self.count = 0
        self._first: list[str] = []
        self._stream = stream
        self._rows = csv.writer(stream, lineterminator="\n") if stream and as_csv else None
        if self._rows is not None:
            self._rows.writerow(_FIELDS)

    def add(self, problem: Problem) -> None:
        """Take one more."""
        self.count += 1
        if len(self._first) < _PRINTED:
            self._first.append(str(problem))
        values = dataclasses.asdict(problem)
        if self._rows is not None:
            self._rows.writerow(values.values())
        elif self._stream is not None:
            self._stream.write(json.dumps(values, ensure_ascii=False) + "\n")

    def exit_code(self, path: Path | None) -> int:
        """Print what was skipped and return the command's exit code."""
        if not self.count:
            return 0
        noun = "record" if self.count == 1 else "records"
        print(f"molbfn: skipped {self.count:,} unreadable {noun}:", file=sys.stderr)
        for line in self._first:
            print(f"  {line}", file=sys.stderr)
        if self.count > len(self._first):
            where = f"all are in {path}" if path else "--problems FILE lists all"
            print(f"  and {self.count - len(self._first):,} more; {where}", file=sys.stderr)
        return SKIPPED


@contextlib.contextmanager
def problem_log(path: Path | None) -> Iterator[ProblemLog]:
    """Open a log that writes to ``path`` (.csv, else JSON lines) if one is given.

    Raises:
        UserError: the file cannot be written.
    """
    if path is None:
        yield ProblemLog(None, as_csv=False)
        return
    try:
        stream = path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
    with stream:
        yield ProblemLog(stream, as_csv=path.suffix.lower() == ".csv")


def without_repeats(paths: list[Path]) -> list[Path]:
    """Return files and folders without what would be read again, and say so on stderr."""
    kept, repeated = once(paths)
    for path in repeated:
        print(f"molbfn: {path} is there twice; it is read once", file=sys.stderr)
    return kept
