"""Lines and bars on stderr that never end the work: nobody may be reading them any more."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from rich.console import Console


def stderr_console() -> Console:
    """Return a console on stderr; once that cannot be written, it says nothing more."""
    return _Console(stderr=True)


class _Console(Console):
    @property
    def file(self) -> Any:
        return _Forgiving(super().file)

    @file.setter
    def file(self, new: Any) -> None:
        self._file = new


class _Forgiving:
    """A stream whose reader may leave: a pipe's other end, or the terminal."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._mute()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._mute()

    def _mute(self) -> None:
        """Let all that follows go nowhere, also what Python still has to write at its end."""
        with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())
