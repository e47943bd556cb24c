"""One generation on several devices of this machine, a process each.

Each process makes every so many-th stretch of consecutive molecules: what a single process would
group into batches as well, or less where that would leave a process without work. Molecules do not
depend on how they are grouped, so they are the same however many processes there are.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import Any

import torch

from molbfn.allocator import keep_memory
from molbfn.chem.molecule import Molecule
from molbfn.chem.trajectory import Frame
from molbfn.errors import UserError
from molbfn.generation.plan import SamplingPlan
from molbfn.generation.sampling import OnCall, Watch, generate_raw, stretch_length
from molbfn.model import MoleculeModel
from molbfn.parent import end_with_parent

_PATIENCE = 1.0  # seconds between two calls of ``on_call`` while nothing comes
_AHEAD = 2  # stretches under way for each process, so that none waits for the writer


class DevicePool:
    """Makes molecules on several devices, in processes that start with the first request.

    With one device everything happens in this process, on the model's own device.

    Args:
        model: what makes them.
        plan: how.
        devices: names, one a process.
    """

    def __init__(self, model: MoleculeModel, plan: SamplingPlan, devices: Sequence[str]) -> None:
        self._model, self._plan, self._devices = model, plan, devices
        self._pool: ProcessPoolExecutor | None = None
        self._stop: Event | None = None
        self._up: Event | None = None  # one of the processes has begun

    def generate(
        self,
        indices: range,
        *,
        seed: int = 0,
        on_call: OnCall | None = None,
        watch: Watch | None = None,
    ) -> Iterator[Molecule]:
        """Yield the molecules of ``indices`` in order.

        With several devices, ``on_call`` is called for all network calls of a stretch at once (and
        with 0 while waiting for them), ``watch`` for its frames.
        What is not asked for any more is not begun.

        Raises:
            UserError: a process died (most likely for lack of memory), or what the sampling raises.
        """
        model, plan, count = self._model, self._plan, len(self._devices)
        if count == 1:
            yield from generate_raw(model, plan, indices, seed=seed, on_call=on_call, watch=watch)
            return
        if self._pool is None:
            self._pool = self._started()
        length = min(stretch_length(model, plan), -(-len(indices) // count))
        watched = range(0) if watch is None else watch.indices
        waiting: deque[Future[_Made]] = deque()
        try:
            for first in range(0, len(indices), length):
                stretch = indices[first : first + length]
                waiting.append(self._pool.submit(_make, plan, stretch, seed, watched))
                if len(waiting) > _AHEAD * count:
                    yield from _finished(waiting.popleft(), plan, on_call, watch)
            while waiting:
                yield from _finished(waiting.popleft(), plan, on_call, watch)
        except BrokenProcessPool:
            raise self._died() from None
        finally:
            for future in waiting:
                future.cancel()

    def _died(self) -> UserError:
        if self._up is not None and not self._up.is_set():
            return UserError(
                "--devices: no process came up; a script of your own that gives generate_file "
                'several devices must do so below `if __name__ == "__main__":`, for each process '
                "imports it"
            )
        return UserError(
            "--devices: a process died, most likely for lack of memory; use fewer devices or a "
            "smaller --batch-size"
        )

    def close(self) -> None:
        """End the processes after their next network call; what they are at is lost."""
        if self._pool is not None and self._stop is not None:
            self._stop.set()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _started(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        self._stop, self._up = context.Event(), context.Event()
        names = context.Queue()
        for name in self._devices:
            names.put(name)
        threads = max(1, torch.get_num_threads() // len(self._devices))
        state = self._model.network.state_dict()
        weights = {name: value.cpu() for name, value in state.items()}
        pool = ProcessPoolExecutor(
            len(self._devices),
            mp_context=context,
            initializer=_begin,
            initargs=(names, self._stop, self._up, threads, self._model.info, weights),
        )
        with _ctrl_c_ignored():
            for _ in self._devices:
                pool.submit(int)  # starts one more
        return pool


def _finished(
    future: Future[_Made], plan: SamplingPlan, on_call: OnCall | None, watch: Watch | None
) -> list[Molecule]:
    while on_call is not None and not wait([future], _PATIENCE).done:
        on_call(0)
    made = future.result()
    if on_call is not None:
        on_call(plan.calls * len(made.molecules))
    if watch is not None:
        for frame in made.frames:
            watch.on_frame(frame)
    return made.molecules


@dataclass(frozen=True)
class _Made:
    """What a process hands back for a stretch."""

    molecules: list[Molecule]
    frames: list[Frame]


_worker: dict[str, Any] = {}


@contextlib.contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Processes started inside never see Ctrl-C, which is for the one that writes.

    For the moment that it takes to start them that one does not see it either.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals cannot be set there, nor does Ctrl-C come
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _Stopped(Exception):
    """Nobody waits for the molecules any more."""


def _check_stopped(_: int) -> None:
    if _worker["stop"].is_set():
        raise _Stopped


def _begin(
    names: Any, stop: Any, up: Any, threads: int, info: Any, weights: dict[str, torch.Tensor]
) -> None:
    """Set up a process: its device and its copy of the model."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    up.set()
    _worker["stop"] = stop
    torch.set_num_threads(threads)
    keep_memory()
    model = MoleculeModel(info)
    model.network.load_state_dict(weights)
    _worker["model"] = model.to(names.get()).eval()


def _make(plan: SamplingPlan, indices: range, seed: int, watched: range) -> _Made:
    frames: list[Frame] = []
    watch = Watch(watched, frames.append)
    made = generate_raw(
        _worker["model"], plan, indices, seed=seed, on_call=_check_stopped, watch=watch
    )
    return _Made(list(made), frames)
