"""The processes of one run on several devices: they end together, and one line says why."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

_STARTED_BY = "MOLBFN_STARTED_BY"  # process id of the run's first process, for those it starts
_OBSERVER = "lightning.fabric.strategies.launchers.subprocess_script"


def ended(processes: int) -> str:
    """Return what is said when one of so many processes is gone."""
    return (
        f"--devices: one of the {processes} processes of this run died (killed, or for lack of "
        f"memory); the same command with --resume goes on from the last checkpoint"
    )


def is_of_another(error: BaseException) -> bool:
    """Whether an error says that another process of the run is gone."""
    lost = getattr(torch.distributed, "DistError", ())
    text = str(error).lower()
    return isinstance(error, lost) or (
        isinstance(error, RuntimeError) and ("gloo" in text or "nccl" in text)
    )


def parent_of_run() -> int | None:
    """Return the id of the run's first process where that has started this one."""
    parent = os.environ.get(_STARTED_BY, "")
    return int(parent) if parent.isdigit() and int(parent) != os.getpid() else None


@contextmanager
def starting(processes: int, *, tell: Callable[[str], None]) -> Iterator[None]:
    """Let the processes that Lightning starts inside know this one, and tell when one dies.

    Lightning looks every few seconds, and kills this process, too, where one has died.
    """
    if processes == 1:
        yield
        return
    observer = logging.getLogger(_OBSERVER)
    handler, before = _Told(lambda: tell(ended(processes))), (observer.level, observer.propagate)
    own = os.environ.setdefault(_STARTED_BY, str(os.getpid())) == str(os.getpid())
    observer.addHandler(handler)
    observer.setLevel(logging.INFO)
    observer.propagate = False
    try:
        yield
    finally:
        observer.removeHandler(handler)
        observer.setLevel(before[0])
        observer.propagate = before[1]
        if own:
            del os.environ[_STARTED_BY]


class _Told(logging.Handler):
    """Says one line of our own for the first message that a process is gone."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__(logging.INFO)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        if "terminated with code" in record.getMessage():
            self._tell()
