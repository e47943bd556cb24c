"""Checkpoints of a run: written whole or not at all, read without trusting them."""

from __future__ import annotations

import io
import json
import math
import pickle
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO
from pydantic import BaseModel

from molbfn.atomic import replacing
from molbfn.config_file import parse_config
from molbfn.errors import UserError
from molbfn.hardware import describe_device
from molbfn.signals import StopSignals
from molbfn.training.base import BFNModule
from molbfn.training.callbacks import WeightEMA

CHECKPOINT = "last.ckpt"
# What defines the data stream and the optimiser's state; the rest of `training` may change.
_FIXED_TRAINING = {
    "batch_size", "accumulate", "seed", "optimiser", "betas", "weight_decay", "decayed",
    "amsgrad",
}  # fmt: skip


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the old checkpoint, then takes its place.

    Lightning's own goes through the system's temporary folder, so between two file systems it is a
    plain copy, which a kill cuts short.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write ``checkpoint`` to ``path``.

        Raises:
            UserError: the disk is full or the folder not writable; the old file is untouched.
        """
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with replacing(Path(path)) as stream:
            stream.write(buffer.getbuffer())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's content, tensors on the CPU; never runs code from the file.

    Raises:
        UserError: missing, corrupted, or not written by `molbfn train`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not look at the checksums
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        model = path.parent / "model"
        rest = (
            f"{model} cannot be trained on without it; give another --output"
            if model.exists()
            else "leave out --resume to start"
        )
        raise UserError(f"{path}: no checkpoint to resume; {rest}") from None
    except (OSError, EOFError, RuntimeError, ValueError, LookupError,
            pickle.UnpicklingError, zipfile.BadZipFile):  # fmt: skip
        damaged, checkpoint = None, None
    known = isinstance(checkpoint, dict) and checkpoint.keys() >= {"config", "batches_seen"}
    if damaged or not known:
        raise UserError(
            f"{path}: corrupted or not a checkpoint of molbfn; start again in another --output"
        )
    return checkpoint


def check_same(config: BaseModel, checkpoint: dict[str, Any], path: Path) -> None:
    """Refuse to resume a run that was configured differently.

    Free to change: the sampling and evaluation sections, and of the training section all that
    neither the order of the data nor the optimiser's state hangs on (steps, learning rate,
    precision, ...); ``steps`` must not be fewer than there are.  So are ``data.leave_out_others``
    and, where the checkpoint knows the molecules, ``data.source``: the molecules are compared.

    Raises:
        UserError: names the first field that differs and both values.
    """
    stored = parse_config(type(config), checkpoint["config"], where=str(path))
    now, then = _flat(config.model_dump(mode="json")), _flat(stored.model_dump(mode="json"))
    for key in [*now, *(key for key in then if key not in now)]:
        section, _, name = key.partition(".")
        free = (
            section in ("sampling", "evaluation")
            or (section == "training" and name not in _FIXED_TRAINING)
            or key == "data.leave_out_others"
            or (key == "data.source" and "data" in checkpoint)
        )
        if not free and now.get(key) != then.get(key):
            raise UserError(
                f"{path}: the run was started with {key} = {then.get(key)!r}, this config has "
                f"{now.get(key)!r}; use the same config or another --output"
            )
    taken, wanted = int(checkpoint.get("global_step", 0)), now["training.steps"]
    if wanted < taken:
        raise UserError(
            f"{path}: {taken} steps are taken already, training.steps is {wanted}; give at least "
            f"{taken}, or another --output"
        )


def check_processes(processes: int, checkpoint: dict[str, Any], path: Path) -> None:
    """Refuse to resume on another number of processes: the batches would be others.

    Checkpoints of older versions do not know theirs and go on.

    Raises:
        UserError: names both numbers.
    """
    then = checkpoint.get("processes", processes)
    if then != processes:
        raise UserError(
            f"{path}: the run was started on {then} processes, this is {processes}; resume with "
            f"--devices times --nodes = {then}, or give another --output"
        )


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Return section.key -> value."""
    flat: dict[str, Any] = {}
    for section, value in values.items():
        below = value if isinstance(value, dict) else None
        flat |= (
            {section: value} if below is None else {f"{section}.{k}": v for k, v in below.items()}
        )
    return flat


class Interrupted(Exception):
    """Raised between two steps after a signal to stop; the checkpoint has been written."""


class OutOfTime(Interrupted):
    """It was no signal, but ``training.minutes``."""


class RunCheckpoint(Callback):
    """Writes ``last.ckpt`` and the model folder: now and then, at the end, and when asked to stop.

    Only between optimiser steps, and after the validation that is due at a step, so that nothing
    is lost or repeated on resuming.  Must stand after :class:`WeightEMA` and the run's log.

    A signal to the whole process group stops the step too where a compiler is at work in it.  What
    fails after a request to stop therefore counts as part of it.

    Args:
        folder: run folder.
        ema: whose averages become the model.
        minutes: wall time between checkpoints.
        steps: optimiser steps between checkpoints, in place of ``minutes``.
        until: reading of :func:`time.monotonic` at which to stop by itself.
        provenance: of the run, kept with the model.

    Attributes:
        folder, ema: as given.
        broken_off: training ended in an error after it had been asked to stop.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ema: WeightEMA,
        minutes: float,
        steps: int | None = None,
        until: float = math.inf,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.ema = folder, ema
        self._provenance = dict(provenance or {})
        self._minutes, self._steps, self._until = minutes, steps, until
        self._step, self._clock = 0, 0.0
        self._whole = False  # nothing of a step or a validation has been done yet
        self._batches, self._loops = 0, {}  # where they stood when it was whole last
        self._due = False
        self._stopping = False
        self.broken_off = False
        self._signals = StopSignals()

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        assert isinstance(pl_module, BFNModule)
        self._step, self._clock = trainer.global_step, time.monotonic()
        self._note(trainer, pl_module)
        self._signals.install()

    def on_before_optimizer_step(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self._whole = False

    def on_validation_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        self._whole = False

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, BFNModule)
        step = trainer.global_step
        if step == self._step:
            self._whole = False
            return  # gradients are being accumulated
        self._step = step
        self._note(trainer, pl_module)
        asked = self._signals.received or time.monotonic() >= self._until
        self._stopping = trainer.strategy.reduce_boolean_decision(asked, all=False)
        self._due = self._stopping or step >= trainer.max_steps or self._is_time(trainer, step)
        if self._due and step % pl_module.config.training.validate_steps:
            self._save(trainer, pl_module)

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        assert isinstance(pl_module, BFNModule)
        self._note(trainer, pl_module)
        if self._due:
            self._save(trainer, pl_module)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        # A finished run that is resumed takes no step; its model may be of before, or removed, or
        # hold other settings (of sampling, say) than the run has now.
        assert isinstance(pl_module, BFNModule)
        config = json.dumps(pl_module.model.info.config.model_dump(mode="json"))
        now = trainer.global_step, json.loads(config)
        if trainer.is_global_zero and self._saved_model() != now:
            self._save_model(trainer, pl_module)

    def _saved_model(self) -> tuple[int, Any] | None:
        """Return the step and the config of the model folder, None where it is not whole."""
        folder = self.folder / "model"
        try:
            header = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            found = header["provenance"]["steps"], header["config"]
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return found if (folder / "model.safetensors").is_file() else None

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if self._stopping:
            signalled = trainer.strategy.reduce_boolean_decision(self._signals.received, all=False)
            raise Interrupted if signalled else OutOfTime

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        exception: BaseException,
    ) -> None:
        self._signals.restore()
        foreseen = not isinstance(exception, Exception) or isinstance(
            exception, (Interrupted, UserError)
        )
        self.broken_off = self._signals.received and not foreseen
        # Of several processes only this one may have failed: the others would not join in.
        if self.broken_off and self._whole and trainer.world_size == 1:
            assert isinstance(pl_module, BFNModule)
            pl_module.batches_seen = self._batches  # the batch that failed is taken again
            self._save(trainer, pl_module)

    def teardown(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str
    ) -> None:
        self._signals.restore()

    def on_save_checkpoint(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        checkpoint: dict[str, Any],
    ) -> None:
        if self.broken_off:  # Lightning has counted the batch that failed
            checkpoint["loops"]["fit_loop"] = self._loops

    def _note(self, trainer: lightning.Trainer, module: BFNModule) -> None:
        """Remember a place that training can go on from."""
        self._whole, self._batches = True, module.batches_seen
        self._loops = trainer.fit_loop.state_dict()

    def _is_time(self, trainer: lightning.Trainer, step: int) -> bool:
        if self._steps is not None:
            return step % self._steps == 0
        late = time.monotonic() - self._clock >= 60 * self._minutes
        # Clocks of several processes differ.
        return trainer.strategy.reduce_boolean_decision(late, all=False)

    def _save(self, trainer: lightning.Trainer, module: BFNModule) -> None:
        self._due = False
        # The model first: where it cannot be written, resuming from the older checkpoint makes it
        # again, while one that stands at the last step would have nothing more to do.
        if trainer.is_global_zero:
            self._save_model(trainer, module)
        trainer.save_checkpoint(self.folder / CHECKPOINT)
        self._clock = time.monotonic()

    def _save_model(self, trainer: lightning.Trainer, module: BFNModule) -> None:
        module.model.save(
            self.folder / "model",
            weights=self.ema.weights_of("model.network."),
            progress={
                **self._provenance,
                "hardware": describe_device(trainer.strategy.root_device),
                "steps": trainer.global_step,
                "processes": trainer.world_size,
            },
        )
