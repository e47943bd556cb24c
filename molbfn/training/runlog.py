"""The loss curve: one CSV that survives kills and resumed runs, and TensorBoard."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from molbfn.atomic import replacing
from molbfn.errors import UserError
from molbfn.training.base import BFNModule, learning_rate_factor

LOSSES = ("loss", "positions", "elements", "charges", "bonds")


def columns(losses: Sequence[str], unit: str) -> tuple[str, ...]:
    """Return the columns of a log of these losses."""
    return (
        "step",
        *(f"train/{name}" for name in losses),
        "train/gradient_norm",
        "train/learning_rate",
        "train/bad_steps",
        f"train/{unit}_per_second",
        *(f"valid/{name}" for name in losses),
    )


COLUMNS = columns(LOSSES, "molecules")


class RunLog(Callback):
    """Writes a row every so many steps and one after each validation.

    Training losses are means over the steps since the last row, without those that were skipped.
    A resumed run removes the rows after its checkpoint and goes on, so the file reads like that of
    one uninterrupted run.  Units are those of the module's losses.  Must stand before the
    checkpoint callback.

    Args:
        path: the CSV file.
        every: optimiser steps between rows.
        losses: names of the module's losses.
        unit: what a batch holds, in the plural.

    Attributes:
        latest: last value of each column.
        validated: step of the last validation, None where this process has seen none.
    """

    def __init__(
        self,
        path: Path,
        *,
        every: int,
        losses: Sequence[str] = LOSSES,
        unit: str = "molecules",
    ) -> None:
        self.latest: dict[str, float] = {}
        self.validated: int | None = None
        self._path, self._every = path, every
        self._losses, self._unit = tuple(losses), unit
        self._columns = columns(losses, unit)
        self._sums: dict[str, Tensor] = {}
        self._step = 0
        self._clock = (0, 0.0)

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        self._step = trainer.global_step
        self._clock = (self._step, time.perf_counter())
        if trainer.is_global_zero:
            rows = [row for row in read_rows(self._path) if int(row["step"]) <= self._step]
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, self._columns, restval="", extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
            with replacing(self._path) as stream:
                stream.write(text.getvalue().encode())

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, BFNModule)
        finite = pl_module.latest["loss"].isfinite()
        for name, value in {**pl_module.latest, "count": torch.ones_like(finite)}.items():
            added = torch.where(finite, value, 0).float()
            self._sums[name] = self._sums[name] + added if name in self._sums else added
        step = trainer.global_step
        if step == self._step:
            return  # gradients are being accumulated
        self._step = step
        if step % self._every == 0 or step >= trainer.max_steps:
            self._write(trainer, step, self._training_row(trainer, pl_module))

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        metrics = trainer.callback_metrics
        names = [f"valid/{name}" for name in self._losses]
        row = {name: float(metrics[name]) for name in names if name in metrics}
        self.validated = trainer.global_step
        self._write(trainer, trainer.global_step, row)

    def on_save_checkpoint(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        checkpoint["log_sums"] = self._total(trainer, pl_module)

    def on_load_checkpoint(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        # They are those of all processes together, and are added up again for the next row.
        sums = checkpoint.get("log_sums", {}) if trainer.is_global_zero else {}
        self._sums = {name: torch.tensor(value) for name, value in sums.items()}

    def _total(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> dict[str, float]:
        """Return the sums since the last row, over all processes."""
        names = sorted(self._sums)
        if not names:
            return {}
        sums = torch.stack([self._sums[name].to(module.device) for name in names])
        return dict(
            zip(names, trainer.strategy.reduce(sums, reduce_op="sum").tolist(), strict=True)
        )

    def _training_row(self, trainer: lightning.Trainer, module: BFNModule) -> dict[str, float]:
        values = self._total(trainer, module)
        self._sums = {}
        count = values.pop("count") or math.nan
        before, then = self._clock
        self._clock = (self._step, time.perf_counter())
        training = module.config.training
        samples = training.batch_size * training.accumulate * trainer.world_size
        return {
            **{f"train/{name}": value / count for name, value in values.items()},
            "train/gradient_norm": float(module.gradient_norm),
            "train/learning_rate": (
                training.learning_rate * learning_rate_factor(self._step - 1, training)
            ),
            "train/bad_steps": float(module.guard.bad_steps),
            f"train/{self._unit}_per_second": (
                (self._step - before) * samples / (self._clock[1] - then)
            ),
        }

    def _write(self, trainer: lightning.Trainer, step: int, row: dict[str, float]) -> None:
        self.latest |= row
        if not trainer.is_global_zero:
            return
        try:
            with self._path.open("a", newline="", encoding="utf-8") as stream:
                csv.DictWriter(stream, self._columns, restval="").writerow({"step": step, **row})
        except OSError as error:
            raise UserError(f"cannot write {self._path}: {error.strerror or error}") from None
        for logger in trainer.loggers:
            logger.log_metrics(row, step)


class Board(TensorBoardLogger):
    """TensorBoard's copy of the log: where it cannot be written, training goes on without.

    Its thread writes behind the scenes, so that a full disk shows at some later call, or only when
    it is closed.

    Args:
        folder: run folder.
        tell: told once that the copy ends.
        options: those of :class:`~lightning.pytorch.loggers.TensorBoardLogger`.
    """

    def __init__(self, folder: Path, *, tell: Callable[[str], None], **options: Any) -> None:
        super().__init__(folder, name="tensorboard", version="", **options)
        self._tell = tell
        self._ended = False

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write a row."""
        self._attempt(lambda: super(Board, self).log_metrics(metrics, step))

    def save(self) -> None:
        """Write what waits to be written."""
        self._attempt(super().save)

    def finalize(self, status: str) -> None:
        """Write what waits to be written, and close."""
        self._attempt(lambda: super(Board, self).finalize(status))

    def _attempt(self, write: Callable[[], None]) -> None:
        if self._ended:
            return
        try:
            write()
        except (OSError, ValueError) as error:
            # Lightning takes every error for a value that cannot be logged.
            cause = error.__cause__ if isinstance(error, ValueError) else error
            if not isinstance(cause, OSError):
                raise
            self._ended = True
            self._tell(
                f"{self.log_dir}: cannot be written ({cause.strerror or cause}); the rest of the "
                f"run is in metrics.csv only"
            )


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the whole rows of a log (a killed run may leave half a line), or [] without a file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    lines = text.splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    rows = list(csv.DictReader(whole))
    return [row for row in rows if (row.get("step") or "").isdigit()]
