"""Slow measurements: on a sample of the molecules, in killable processes, with a cache on disk.

The sample does not depend on the order of the molecules: each has a random number that a hash of
its content (and of how many equal ones came before) gives, and those with the smallest are taken.
What could not be read is drawn like the rest and counts as failed, so that denominators stay
those of all molecules given.
"""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molbfn.chem.workers import Answer, Status, WorkerPool
from molbfn.errors import UserError
from molbfn.evaluation import _worker

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

Done = Callable[[int, int], None]
"""Called with the molecules so far and in all."""

_DETERMINISTIC = ("ok", "failed")  # worth keeping; a timeout may end well another time


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a measurement said of one molecule of the sample."""

    molecule: Molecule | None
    """None: it could not be read"""
    status: Status | str
    """"ok", "failed", "timeout", "died", "unavailable" or "unreadable\""""
    values: dict[str, Any]
    """where the status is "ok\""""
    reason: str = ""
    """where it is not"""

    @property
    def ok(self) -> bool:
        """There are values."""
        return self.status == "ok"


@dataclasses.dataclass(frozen=True)
class Settings:
    """How slow measurements are run.

    Attributes:
        timeout: seconds for one molecule, after which it counts as failed.
        workers: processes.
        cache: file of results, a JSON line each, that is read and added to; None: nothing is kept.
    """

    timeout: float = 60.0
    workers: int = dataclasses.field(default_factory=lambda: usable_cores())
    cache: Path | None = None


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Sample:
    """A random sample of what is added, the same whatever the order.

    Args:
        size: how many are taken at most; None: all.
        seed: of the choice.
    """

    def __init__(self, size: int | None, *, seed: int = 0) -> None:
        self._size, self._seed = size, seed
        self._copies: Counter[str] = Counter()
        self._taken: list[tuple[int, int, Molecule | None]] = []
        self.given = 0

    def add(self, molecule: Molecule | None) -> None:
        """Consider one more molecule; None is one that could not be read."""
        content = "unreadable" if molecule is None else content_hash(molecule)
        text = f"{self._seed} {content} {self._copies[content]}"
        self._copies[content] += 1
        number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
        # the heap's smallest is the largest number taken; the running number keeps entries distinct
        entry = (-number, self.given, molecule)
        self.given += 1
        if self._size is None or len(self._taken) < self._size:
            heapq.heappush(self._taken, entry)
        else:
            heapq.heappushpop(self._taken, entry)

    @property
    def molecules(self) -> list[Molecule | None]:
        """What was taken, in an order that does not depend on that of adding."""
        return [molecule for _, _, molecule in self._ordered()]

    def by_place(self, outcomes: Sequence[Outcome]) -> Mapping[int, Outcome]:
        """Return outcomes of `molecules` by the molecules' places in the order of adding."""
        places = [place for _, place, _ in self._ordered()]
        return dict(zip(places, outcomes, strict=True))

    def _ordered(self) -> list[tuple[int, int, Molecule | None]]:
        return sorted(self._taken, key=lambda entry: -entry[0])

    def __len__(self) -> int:
        """Return how many were taken."""
        return len(self._taken)


class SampledProtocol:
    """Takes a sample of molecules, for a subclass to measure.

    Args:
        sample: how many molecules; None: all.
        seed: of the sample.
    """

    def __init__(self, sample: int | None, *, seed: int = 0) -> None:
        self._sample = Sample(sample, seed=seed)

    def add(self, molecules: Sequence[Molecule | None]) -> None:
        """Take more molecules; None is one that could not be read."""
        for molecule in molecules:
            self._sample.add(molecule)


def selection_note(selected: int, given: int) -> str:
    """Return what to know of molecules that passed a test when they were made."""
    return (
        f"{selected} of {given} molecules were selected from others when they were made (generate "
        f"--require): their figures say nothing about the model"
    )


def sample_note(taken: int, given: int) -> str:
    """Return in words how many molecules were looked at."""
    if taken == given:
        return f"all {given:,} molecules"
    return f"a random sample of {taken:,} of {given:,} molecules"


def content_hash(molecule: Molecule) -> str:
    """Return a hash of atoms, coordinates, charges and bonds, and of nothing else.

    A total charge that is stated without formal charges is one of them.
    """
    digest = hashlib.blake2b(digest_size=16)
    for array in (
        molecule.atomic_numbers.astype("<i8"),
        molecule.positions.astype("<f4"),
        molecule.formal_charges,
        molecule.bonds,
    ):
        data = b"" if array is None else array.tobytes()
        digest.update(f"{array is None} {len(data)} ".encode() + data)
    if molecule.stated_charge:  # of all others the hash is what caches have
        digest.update(f"charge {molecule.stated_charge}".encode())
    return digest.hexdigest()


def measure_molecules(
    molecules: Sequence[Molecule | None],
    task: str,
    *,
    name: str,
    version: str,
    settings: Settings,
    done: Done | None = None,
) -> list[Outcome]:
    """Return what a task says of each molecule, in order.

    Args:
        task: "module:function", run in worker processes; see `_worker.command`.
        name: of the measurement, for messages and the cache.
        version: of all that the results depend on; a cached result counts only for the same.

    Raises:
        UserError: the cache cannot be read or written, or no worker starts.
    """
    with _Cache(settings.cache, f"{name} {version}") as cache:
        known = [cache.find(m) if m is not None else _UNREADABLE for m in molecules]
        missing = [k for k, found in enumerate(known) if found is None]
        for count, (k, answer) in enumerate(
            _answers(molecules, missing, task, name=name, settings=settings), start=1
        ):
            if answer.status == "unavailable":
                raise UserError(f"{name}: {answer.reason}; see whether its packages can be loaded")
            known[k] = answer
            cache.add(molecules[k], answer)
            if done:
                done(len(molecules) - len(missing) + count, len(molecules))
    return [
        Outcome(m, "unreadable" if m is None else a.status, a.record, a.reason)
        for m, a in zip(molecules, known, strict=True)
        if a is not None
    ]


_UNREADABLE = Answer("failed", reason="cannot be read")


def _answers(
    molecules: Sequence[Molecule | None],
    missing: list[int],
    task: str,
    *,
    name: str,
    settings: Settings,
) -> Iterator[tuple[int, Answer]]:
    if not missing:
        return
    with WorkerPool(
        _worker.command(task, alarm=2 * settings.timeout + 1),
        workers=min(settings.workers, len(missing)),
        timeout=settings.timeout,
        name=name,
        environment=_worker.ENVIRONMENT,
    ) as pool:
        requests = (_worker.encode(m) for k in missing if (m := molecules[k]) is not None)
        yield from zip(missing, pool.map(pool.ask, requests), strict=True)


class _Cache:
    """Results by molecule, in a file that grows line by line; a broken last line is skipped."""

    def __init__(self, path: Path | None, version: str) -> None:
        self._path, self._version = path, version
        self._known: dict[str, Answer] = {}

    def __enter__(self) -> _Cache:
        self._stream = None
        if self._path is None:
            return self
        try:
            if self._path.exists():
                self._read(self._path.read_bytes())
            self._stream = self._path.open("a", encoding="utf-8")
            if self._stream.tell() and self._path.read_bytes()[-1:] != b"\n":
                self._stream.write("\n")  # an interrupted line stays one line
        except OSError as error:
            raise UserError(f"{self._path}: {error.strerror or error}") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def _read(self, data: bytes) -> None:
        begin, found = b'{"version"', data.lstrip()
        if found[: len(begin)] != begin[: len(found)]:
            raise UserError(
                f"{self._path}: holds no results of slow protocols, which would be added to it; "
                f"give another file"
            )
        for line in data.decode(errors="replace").splitlines():
            try:
                record = json.loads(line)
                if record["version"] == self._version:
                    answer = Answer(record["status"], record["values"], record["reason"])
                    self._known[record["molecule"]] = answer
            except (ValueError, KeyError, TypeError):
                continue

    def find(self, molecule: Molecule) -> Answer | None:
        """Return what is known of a molecule."""
        return self._known.get(content_hash(molecule)) if self._known else None

    def add(self, molecule: Molecule | None, answer: Answer) -> None:
        """Keep an answer that would be the same another time."""
        if self._stream is None or molecule is None or answer.status not in _DETERMINISTIC:
            return
        record = {
            "version": self._version,
            "molecule": content_hash(molecule),
            "status": answer.status,
            "values": answer.record,
            "reason": answer.reason,
        }
        try:
            self._stream.write(json.dumps(record) + "\n")
            self._stream.flush()
        except OSError as error:
            raise UserError(f"{self._path}: {error.strerror or error}") from None
