"""What happens beside the training steps: averaged weights, exported models, progress."""

from __future__ import annotations

import time
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from molbfn.training.module import TrainingModule


class WeightEMA(WeightAveraging):
    """Exponential moving average of the weights, with a warm-up of its memory.

    The decay at update k is ``min(decay, (1 + k) / (10 + k))``, so the start is forgotten quickly.
    """

    def __init__(self, decay: float) -> None:
        def average(
            averaged: list[torch.Tensor], current: list[torch.Tensor], count: torch.Tensor
        ) -> None:
            now = min(decay, (1 + float(count)) / (10 + float(count)))
            torch._foreach_lerp_(averaged, current, 1 - now)

        super().__init__(use_buffers=False, multi_avg_fn=average)


class ExportModel(Callback):
    """Writes the averaged weights as a model folder whenever a checkpoint is written.

    Must stand after :class:`WeightEMA`, which puts the averages into the checkpoint.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def on_save_checkpoint(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        assert isinstance(pl_module, TrainingModule)
        if not trainer.is_global_zero:
            return
        prefix = "model.network."
        weights = {
            name.removeprefix(prefix): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith(prefix)
        }
        pl_module.model.save(self._folder, weights=weights, progress={"steps": trainer.global_step})


class TrainingProgress(Callback):
    """A progress bar over the whole run: losses, molecules per second, time left."""

    def __init__(self, *, every: int) -> None:
        self._every = every
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._clock = (0, 0.0)
        self._loss: dict[str, float] = {}

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        self._clock = (trainer.global_step, time.perf_counter())
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
        step = trainer.global_step
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step)
        before, then = self._clock
        if step % self._every or step == before:
            return
        now = time.perf_counter()
        assert isinstance(pl_module, TrainingModule)
        training = pl_module.config.training
        per_step = training.batch_size * training.accumulate * trainer.world_size
        rate = (step - before) * per_step / (now - then)
        self._clock = (step, now)
        pl_module.log("train/molecules_per_second", rate)
        metrics = trainer.callback_metrics
        text = "  ".join(
            f"{name} {float(metrics[f'train/{name}']):.3f}"
            for name in ("loss", "positions", "elements")
            if f"train/{name}" in metrics
        )
        text += f"  {rate:.0f} molecules/s"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=text)
        elif trainer.is_global_zero:
            self._console.print(f"step {step}/{trainer.max_steps}  {text}", soft_wrap=True)

    def teardown(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
