"""Bonds and formal charges from coordinates, for files that must have them.

Three routes are tried in turn: RDKit's ``rdDetermineBonds`` ("rdkit"; after Kim & Kim, Bull. Korean
Chem. Soc. 36, 1769, 2015) with total charges 0, +1 and -1; EDM's distance table ("table"); and
single bonds by covalent radii ("single"). Every molecule gets a result, with its route.

RDKit's search can hang or exhaust memory in C++, so it runs in worker processes that are killed and
replaced after a timeout. "rdkit" means that RDKit sanitises the result without adding hydrogens; it
may still consist of several fragments, or balance a missing hydrogen with a charge of +-1.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from molbfn.chem.bonds import bond_list, bond_orders, pairs_in_table
from molbfn.chem.molecule import Molecule

Route = Literal["rdkit", "table", "single"]
Status = Literal["ok", "failed", "timeout", "died", "unavailable"]

_START_TIMEOUT = 60.0  # seconds for a worker to load RDKit, on a busy machine
_START_ATTEMPTS = 3
_WATCH_INTERVAL = 0.05  # seconds
_RADIUS_FACTOR = 1.3  # bonded if closer than this times the sum of the covalent radii
_MIN_DISTANCE = 0.4  # angstrom; no bond is shorter, so closer atoms are a clash


@dataclasses.dataclass(frozen=True)
class PerceivedMolecule:
    """A molecule with bonds and charges, and where they come from."""

    molecule: Molecule
    """as given, with ``bonds`` and ``formal_charges`` set"""
    route: Route
    charge: int
    """total charge; 0 unless the route is "rdkit\""""
    status: Status
    """how RDKit's perception ended"""
    reason: str = ""
    """why the route is not "rdkit"; empty if it is"""


class BondPerceiver:
    """Perceive bonds with RDKit in worker processes; a context manager.

    Args:
        workers: number of processes; they start when first needed.
        timeout: seconds for one molecule; after that its worker is killed and replaced, and the
            molecule takes the next route. On a starved machine this can change a molecule's route.
        command: what to run as a worker, for tests; it must speak the protocol of ``_worker``.
    """

    def __init__(
        self, workers: int = 1, timeout: float = 5.0, *, command: Sequence[str] | None = None
    ) -> None:
        if workers < 1 or not timeout > 0:
            raise ValueError("workers and timeout must be positive")
        script = str(Path(__file__).with_name("_worker.py"))
        # -P keeps the script's folder, with its short module names, off the import path
        default = (sys.executable, "-P", script, str(2 * timeout + 1))
        self._timeout = timeout
        self._workers = [_Worker(command or default) for _ in range(workers)]
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="bonds")
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="bonds-watch", daemon=True).start()

    def __enter__(self) -> BondPerceiver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers at once; molecules still under way take the next route."""
        for worker in self._workers:
            worker.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.stop()
        self._closed.set()

    def perceive(self, molecule: Molecule) -> PerceivedMolecule:
        """Return one molecule with bonds; never raises because of the molecule."""
        return self._pool.submit(self._perceive, molecule).result()

    def perceive_many(self, molecules: Iterable[Molecule]) -> Iterator[PerceivedMolecule]:
        """Yield the molecules with bonds, in order; reads only a few ahead of what it yields."""
        pending: deque[Future[PerceivedMolecule]] = deque()
        ahead = 4 * len(self._workers)
        try:
            for molecule in molecules:
                pending.append(self._pool.submit(self._perceive, molecule))
                if len(pending) > ahead:
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

    def _perceive(self, molecule: Molecule) -> PerceivedMolecule:
        if len(molecule) == 0 or not np.isfinite(molecule.positions).all():
            return fall_back(molecule, "failed", "no atoms, or coordinates that are not finite")
        worker = self._idle.get()
        try:
            answer = worker.ask(molecule, self._timeout)
        finally:
            self._idle.put(worker)
        if answer.status != "ok":
            return fall_back(molecule, answer.status, answer.reason)
        perceived = dataclasses.replace(
            molecule,
            bonds=np.array(answer.record["bonds"], dtype=np.int64).reshape(-1, 3),
            formal_charges=np.array(answer.record["charges"], dtype=np.int64),
        )
        return PerceivedMolecule(perceived, "rdkit", perceived.charge, "ok")


def fall_back(molecule: Molecule, status: Status, reason: str) -> PerceivedMolecule:
    """Return bonds from distances alone: EDM's table, else single bonds by covalent radii.

    The table does not serve where two atoms are near enough to be bonded by their radii but the
    table knows no bond between their elements. Formal charges are all 0.
    """
    close = _covalent_contacts(molecule)
    unknown = close & ~pairs_in_table(molecule.atomic_numbers)
    route: Route = "single" if unknown.any() else "table"
    if route == "single":
        i, j = np.argwhere(unknown)[0]
        reason = f"{reason}; no bond table for atoms {i + 1} and {j + 1}"
        orders = close.astype(np.int8)
    else:
        orders = bond_orders(molecule.atomic_numbers, molecule.positions)
    result = dataclasses.replace(
        molecule,
        bonds=bond_list(orders),
        formal_charges=np.zeros(len(molecule), dtype=np.int64),
    )
    return PerceivedMolecule(result, route, 0, status, reason)


def _covalent_contacts(molecule: Molecule) -> NDArray[np.bool_]:
    """Return bool [N, N]: closer than 1.3 times the sum of the covalent radii, not on top."""
    points = molecule.positions.astype(np.float64)
    distances = np.linalg.norm(points[:, None] - points[None, :], axis=-1)
    radii = _covalent_radii()[molecule.atomic_numbers]
    near = distances < _RADIUS_FACTOR * (radii[:, None] + radii[None, :])
    return near & (distances > _MIN_DISTANCE) & ~np.eye(len(points), dtype=bool)


@functools.cache
def _covalent_radii() -> NDArray[np.float64]:
    """Return covalent radii in angstrom by atomic number (RDKit; Cordero et al. 2008)."""
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    return np.array([0.0] + [table.GetRcovalent(z) for z in range(1, 119)])


@dataclasses.dataclass(frozen=True)
class _Answer:
    status: Status
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    reason: str = ""


class _Worker:
    """One worker process, started when first asked and replaced when it hangs or dies."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._closed = False
        self._late = False
        self._deadline = math.inf
        self._lock = threading.Lock()

    def ask(self, molecule: Molecule, timeout: float) -> _Answer:
        """Return the worker's answer, or why there is none, within the timeout."""
        process = self._started()
        if process is None:
            return _Answer("unavailable", reason="RDKit's worker process does not start")
        request = (
            struct.pack("<I", len(molecule))
            + molecule.atomic_numbers.astype("<i4").tobytes()
            + molecule.positions.astype("<f8").tobytes()
        )
        record = self._exchange(process, request, timeout)
        if record is None:
            self.stop()
            if self._late:
                return _Answer("timeout", reason=f"RDKit took longer than {timeout:g} s")
            code = process.returncode
            return _Answer("died", reason=f"RDKit's worker process ended (exit status {code})")
        if "error" in record:
            return _Answer("failed", reason=str(record["error"]))
        return _Answer("ok", record)

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
                    process = self._process = _popen(self._command)
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


def _popen(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
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
