"""Processes that end with the one that started them: a killed one says nothing to anybody."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
import time

_PAUSE = 0.5  # seconds between two looks at who the parent is


def end_with_parent(started_by: int | None = None) -> None:
    """Watch, in a thread, for the end of the parent process, and then end this one at once.

    Args:
        started_by: process id of the parent, for a process that `multiprocessing` did not start;
            not on Windows, where nothing changes when it ends.
    """
    if started_by is None or os.name != "nt":
        threading.Thread(target=_watch, args=(started_by,), daemon=True).start()


def _watch(started_by: int | None) -> None:
    if started_by is None:
        parent = multiprocessing.parent_process()
        if parent is None:
            return
        multiprocessing.connection.wait([parent.sentinel])
    else:
        while os.getppid() == started_by:
            time.sleep(_PAUSE)
    os._exit(1)
