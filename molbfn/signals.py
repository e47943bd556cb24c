"""Requests to stop from outside: Ctrl-C, SIGTERM (kill, Slurm), SIGHUP (the terminal is gone)."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


def _quiet_ends() -> list[int]:
    """Return the signals besides Ctrl-C that end a process here; nohup lets it ignore SIGHUP."""
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [getattr(signal, name) for name in names]
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


class StopSignals:
    """Turns a first SIGINT, SIGTERM or SIGHUP into a request, so that a step is never cut in two.

    A second one of the same kind does what it always did; SIGHUP that is ignored stays so.  Does
    nothing outside the main thread.
    """

    def __init__(self) -> None:
        self.received = False
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Take over the signals."""
        self._install([signal.SIGINT, *_quiet_ends()], self._on_signal)

    def restore(self) -> None:
        """Give the signals back to whoever had them."""
        while self._before:
            signal.signal(*self._before.popitem())

    def _install(
        self, numbers: list[int], handler: Callable[[int, FrameType | None], None]
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in numbers:
                self._before[number] = signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        # The others stay: whoever closes a session sends SIGHUP right after SIGTERM.
        signal.signal(number, self._before.pop(number, signal.SIG_DFL))

    @contextmanager
    def as_ctrl_c(self) -> Iterator[None]:
        """Let SIGTERM and SIGHUP raise KeyboardInterrupt inside, as Ctrl-C does by itself."""

        def interrupt(number: int, frame: FrameType | None) -> None:
            first = not self.received
            self._on_signal(number, frame)
            if first:
                raise KeyboardInterrupt

        own = [number for number in _quiet_ends() if signal.getsignal(number) == signal.SIG_DFL]
        self._install(own, interrupt)
        try:
            yield
        finally:
            self.restore()
