"""What happens beside the training steps: averaged weights and the progress bar."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from molbfn.console import stderr_console
from molbfn.training.runlog import RunLog


class WeightEMA(WeightAveraging):
    """Exponential moving average of the weights, with a warm-up of its memory.

    The first update copies the weights; the decay at update k (from 0) is then
    ``min(decay, (1 + k) / (10 + k))``, so the start is forgotten quickly.  k is counted by the
    host: torch's own update reads its count from the device three times a step.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=False)
        self._decay, self._updates = decay, 0

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        assert self._average_model is not None
        self._updates = int(self._average_model.n_averaged)  # of the checkpoint, if there was one

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        assert self._average_model is not None
        if trainer.global_step <= self._latest_update_step:
            return  # gradients are being accumulated
        self._latest_update_step = trainer.global_step
        average = self._average_model.module
        averaged, current = list(average.parameters()), list(pl_module.parameters())
        k = self._updates
        if k == 0:
            torch._foreach_copy_(averaged, current)
        else:
            torch._foreach_lerp_(averaged, current, 1 - min(self._decay, (1 + k) / (10 + k)))
        for kept, buffer in zip(average.buffers(), pl_module.buffers(), strict=True):
            kept.copy_(buffer)
        self._updates += 1
        self._average_model.n_averaged += 1

    def weights_of(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return the averages (and buffers) below ``prefix`` in the module, without the prefix."""
        assert self._average_model is not None
        state = self._average_model.module.state_dict()
        return {
            name.removeprefix(prefix): value
            for name, value in state.items()
            if name.startswith(prefix)
        }


class TrainingProgress(Callback):
    """A bar over the whole run (or lines, outside a terminal): losses, molecules/s, time left.

    Must stand after the :class:`RunLog` that it shows.
    """

    def __init__(self, log: RunLog) -> None:
        self._log = log
        self._console = stderr_console()
        self._bar: Progress | None = None
        self._shown: dict[str, float] = {}

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        if not trainer.is_global_zero or not self._console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=self._console,
        )
        self._bar.add_task("", total=trainer.max_steps, completed=trainer.global_step)
        self._bar.start()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._show(trainer)

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        self._show(trainer)

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        self._stop()

    def teardown(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        self._stop()

    def _show(self, trainer: lightning.Trainer) -> None:
        step, row = trainer.global_step, self._log.latest
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, description=describe(row))
        elif trainer.is_global_zero and row != self._shown:
            self._shown = dict(row)
            self._console.print(f"step {step}/{trainer.max_steps}  {describe(row)}", soft_wrap=True)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def describe(row: dict[str, float]) -> str:
    """Return the log's last values in words."""
    names = ("loss", "positions", "elements", "charges", "bonds")
    parts = [f"{name} {row[f'train/{name}']:.3f}" for name in names if f"train/{name}" in row]
    if "valid/loss" in row:
        parts.append(f"valid {row['valid/loss']:.3f}")
    if row.get("train/bad_steps"):
        parts.append(f"skipped {row['train/bad_steps']:.0f}")
    for key, value in row.items():
        if key.endswith("_per_second"):
            unit = key.removeprefix("train/").removesuffix("_per_second")
            parts.append(f"{value:.0f} {unit}/s")
    return "  ".join(parts)
