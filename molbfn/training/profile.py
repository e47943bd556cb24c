"""Where the time of training steps goes: torch's profiler over a few of them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, schedule

from molbfn.errors import UserError

WARM_UP = 20
"""Steps before those that are looked at: memory is got and networks are compiled in them."""

_PRODUCTS = re.compile(
    r"aten::(mm|addmm|bmm|baddbmm|_addmm_activation)$|mkldnn.*linear|packed_linear"
    r"|gemm|cutlass|xmma|nvjet|wgmma",
    re.IGNORECASE,
)
# name what is below them and compute nothing
_MARKS = re.compile(r"(ProfilerStep|Optimizer\.|enumerate\(DataLoader\))")
_ROWS = 60


@dataclass(frozen=True)
class StepTimes:
    """What the profile of some steps says, all of their wall clock together.

    Attributes:
        steps: how many.
        seconds: wall clock.
        busy: of that, seconds in which something was computed: on a GPU by its kernels, on a CPU
            by operators (what is left is Python, and waiting).
        products: of that, seconds of matrix products.
    """

    steps: int
    seconds: float
    busy: float
    products: float

    def in_words(self, device: str) -> str:
        """Return two lines that say whether a step is limited by arithmetic or by Python."""
        if device == "cpu":
            what, whole, total = "operators run", "the time", self.seconds
        else:
            what, whole, total = "kernels run", "the kernels' time", self.busy
        share = self.products / total if total else 0.0
        return (
            f"profile: {self.steps} steps of {self.seconds / self.steps:.4f} s; {what} "
            f"{self.busy / self.seconds:.0%} of the time, the rest is Python and waiting\n"
            f"profile: {share:.0%} of {whole} is matrix products"
        )


class StepProfile(Callback):
    """Profiles some optimiser steps after a warm-up and leaves a trace and a table.

    Weights are those of a run without it.

    Args:
        folder: of the run; ``profile/trace.json.gz`` (for chrome://tracing or Perfetto) and
            ``profile/operators.txt`` are written below it.
        steps: how many to profile.
        tell: prints a line for the user.
    """

    def __init__(self, folder: Path, steps: int, *, tell: Callable[[str], None]) -> None:
        self._folder, self._steps, self._tell = folder / "profile", steps, tell
        self._profiler: profile | None = None
        self._last = self._first = 0
        self._began = 0.0

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        if pl_module.device.type not in ("cpu", "cuda"):
            raise UserError(
                f"--profile {self._steps}: kernels of {pl_module.device.type} are not seen by "
                f"torch's profiler; use --device cpu or cuda, or leave --profile out"
            )
        left = trainer.max_steps - trainer.global_step
        if left < WARM_UP + self._steps:
            raise UserError(
                f"--profile {self._steps}: needs {WARM_UP} steps before and has {left} in all; "
                f"raise training.steps"
            )
        self._first = self._last = trainer.global_step
        if not trainer.is_global_zero:
            return
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it prints when it starts and stops
        activities = [ProfilerActivity.CPU]
        if pl_module.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        # torch's own first step, which sets the profiler up, is not looked at either
        plan = schedule(wait=WARM_UP - 1, warmup=1, active=self._steps, repeat=1)
        self._profiler = profile(activities=activities, schedule=plan)
        self._profiler.start()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if self._profiler is None or trainer.global_step == self._last:
            return  # over, or gradients are being accumulated
        self._last = trainer.global_step
        taken = self._last - self._first
        if taken in (WARM_UP, WARM_UP + self._steps) and pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        if taken == WARM_UP + self._steps:
            self._finish(time.perf_counter() - self._began, pl_module.device.type)
            return
        self._profiler.step()
        if taken == WARM_UP:
            self._began = time.perf_counter()

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        if self._stop() is not None:
            self._tell(f"--profile {self._steps}: the run ended before so many steps were taken")

    def _stop(self) -> profile | None:
        """Stop looking; return what was seen, if anything was."""
        stopped, self._profiler = self._profiler, None
        if stopped is not None:
            stopped.stop()
        return stopped

    def _finish(self, seconds: float, device: str) -> None:
        seen = self._stop()
        assert seen is not None
        times = step_times(seen, steps=self._steps, seconds=seconds, device=device)
        table, trace = self._folder / "operators.txt", self._folder / "trace.json.gz"
        order = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
        try:
            self._folder.mkdir(exist_ok=True)
            rows = seen.key_averages().table(
                sort_by=order, row_limit=_ROWS, max_name_column_width=80
            )
            table.write_text(f"{times.in_words(device)}\n\n{rows}", encoding="utf-8")
            seen.export_chrome_trace(str(trace))
        except OSError as error:
            raise UserError(f"cannot write {self._folder}: {error.strerror or error}") from None
        for line in times.in_words(device).splitlines():
            self._tell(line)
        self._tell(f"profile: in {table} and {trace.name} beside it (for Perfetto)")


def step_times(seen: profile, *, steps: int, seconds: float, device: str) -> StepTimes:
    """Return what a finished profile says of steps that took so many seconds."""
    if device == "cpu":
        own = {row.key: row.self_cpu_time_total for row in seen.key_averages()}
        computed = {name: value for name, value in own.items() if not _MARKS.match(name)}
        busy = sum(computed.values())
        products = sum(value for name, value in computed.items() if is_product(name))
    else:
        busy, products = kernel_times(seen.events())
    return StepTimes(steps, seconds, min(busy / 1e6, seconds), products / 1e6)


def kernel_times(events: Iterable[Any]) -> tuple[float, float]:
    """Return the microseconds in which a GPU runs kernels, and those that multiply matrices.

    Args:
        events: of a profile.  Marks such as "ProfilerStep" are on the GPU's line, too, from the
            first of their kernels to the last: they would hide all that is idle between.
    """
    spans = [
        (event.name, (event.time_range.start, event.time_range.end))
        for event in events
        if event.device_type == DeviceType.CUDA and not event.is_user_annotation
    ]
    busy = covered(span for _, span in spans)
    return busy, covered(span for name, span in spans if is_product(name))


def is_product(name: str) -> bool:
    """Return whether an operator or a kernel of this name multiplies matrices."""
    return _PRODUCTS.search(name) is not None


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals (start, end): kernels run side by side."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
