"""Worker processes that answer requests, and are killed and replaced when they hang or die.

For work inside C++ or Fortran that can hang or exhaust memory, where only ending the process
helps. A worker reads requests from its stdin and writes replies to its stdout: uint32 length
(little-endian), then JSON; ``{"error": text}`` says that a request failed. Its first reply comes
unasked, when it is ready. `molbfn.chem._worker.serve` is the worker's side.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

Status = Literal["ok", "failed", "timeout", "died", "unavailable"]
Item = TypeVar("Item")
Result = TypeVar("Result")

_START_TIMEOUT = 60.0  # seconds for a worker to load what it needs, on a busy machine
_START_ATTEMPTS = 3
_WATCH_INTERVAL = 0.05  # seconds


@dataclasses.dataclass(frozen=True)
class Answer:
    """What became of a request."""

    status: Status
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    """the reply, where the status is "ok\""""
    reason: str = ""
    """why it is not"""


class WorkerPool:
    """Processes that answer requests; a context manager.

    Args:
        command: what to run as a worker.
        workers: number of processes; they start when first needed.
        timeout: seconds for one request; after that its worker is killed and replaced.
        name: of what the workers run, for messages.
        environment: variables that the workers have besides those of this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        workers: int = 1,
        timeout: float = 5.0,
        name: str = "the worker",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if workers < 1 or not 0 < timeout < math.inf:
            raise ValueError("workers and timeout must be positive, and the timeout finite")
        self._timeout = timeout
        self._workers = [_Worker(command, name, environment or {}) for _ in range(workers)]
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="workers")
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="workers-watch", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers at once; requests under way end as "died" or "unavailable"."""
        for worker in self._workers:
            worker.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.stop()
        self._closed.set()

    def ask(self, request: bytes) -> Answer:
        """Return the answer of the next free worker, within the timeout once it is ready."""
        worker = self._idle.get()
        try:
            return worker.ask(request, self._timeout)
        finally:
            self._idle.put(worker)

    def call(self, function: Callable[[Item], Result], item: Item) -> Result:
        """Return ``function(item)``, run in a thread of the pool."""
        return self._threads.submit(function, item).result()

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield ``function(item)`` in order; reads only a few items ahead of what it yields.

        As many functions run at once as there are workers; they may call `ask`.
        """
        pending: deque[Future[Result]] = deque()
        ahead = 4 * len(self._workers)
        try:
            for item in items:
                pending.append(self._threads.submit(function, item))
                while pending and (len(pending) > ahead or pending[0].done()):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def _watch(self) -> None:
        """Kill workers that are late; that ends the read which waits for them, on every system."""
        while not self._closed.wait(_WATCH_INTERVAL):
            for worker in self._workers:
                worker.kill_if_late()


class _Worker:
    """One worker process, started when first asked and replaced when it hangs or dies."""

    def __init__(self, command: Sequence[str], name: str, environment: Mapping[str, str]) -> None:
        self._command, self._name, self._environment = list(command), name, environment
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._closed = False
        self._late = False
        self._deadline = math.inf
        self._lock = threading.Lock()

    def ask(self, request: bytes, timeout: float) -> Answer:
        """Return the worker's answer, or why there is none, within the timeout."""
        process = self._started()
        if process is None:
            return Answer("unavailable", reason=f"{self._name}'s worker process does not start")
        record = self._exchange(process, request, timeout)
        if record is None:
            self.stop()
            if self._late:
                return Answer("timeout", reason=f"{self._name} took longer than {timeout:g} s")
            code = process.returncode
            return Answer(
                "died", reason=f"{self._name}'s worker process ended (exit status {code})"
            )
        if "error" in record:
            return Answer("failed", reason=str(record["error"]))
        return Answer("ok", record)

    def kill_if_late(self) -> None:
        """Kill the process if it has not answered by its deadline."""
        with self._lock:
            if time.monotonic() > self._deadline and self._process is not None:
                self._late = True
                self._process.kill()

    def close(self) -> None:
        """Kill the process and start no other."""
        with self._lock:
            self._closed = True
            process = self._process
        if process is not None:
            process.kill()  # whoever is waiting for its answer reads the end of the pipe
            process.wait()

    def _started(self) -> subprocess.Popen[bytes] | None:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.stop()
        while self._failures < _START_ATTEMPTS:
            with self._lock:
                if self._closed:
                    return None
                try:
                    process = self._process = _popen(self._command, self._environment)
                except OSError:
                    self._failures = _START_ATTEMPTS
                    return None
            if self._exchange(process, b"", _START_TIMEOUT) is not None:
                self._failures = 0
                return process
            self._failures += 1
            self.stop()
        return None

    def _exchange(
        self, process: subprocess.Popen[bytes], request: bytes, timeout: float
    ) -> dict[str, Any] | None:
        """Send a request and return the reply, or None if the process ended or was too late."""
        with self._lock:
            self._late = False
            self._deadline = time.monotonic() + timeout
        try:
            return _transfer(process, request)
        except (OSError, ValueError):  # broken pipe, or a reply that is not JSON
            return None
        finally:
            with self._lock:
                self._deadline = math.inf

    def stop(self) -> None:
        """End the process, if there is one, and release its pipes."""
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


def _popen(command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )


def _transfer(process: subprocess.Popen[bytes], request: bytes) -> dict[str, Any] | None:
    assert process.stdin is not None
    view = memoryview(request)
    while view:
        view = view[process.stdin.write(view) :]
    head = _read(process, 4)
    data = _read(process, struct.unpack("<I", head)[0]) if len(head) == 4 else b""
    return json.loads(data) if data else None


def _read(process: subprocess.Popen[bytes], count: int) -> bytes:
    assert process.stdout is not None
    parts = []
    while count and (part := process.stdout.read(count)):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
