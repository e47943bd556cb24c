"""The whole training job: config in, run folder out."""

from __future__ import annotations

import platform
import warnings
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from molbfn.config import Config
from molbfn.data.batching import choose_buckets
from molbfn.data.store import MoleculeStore
from molbfn.errors import UserError
from molbfn.model import ModelInfo, MoleculeModel
from molbfn.training.callbacks import ExportModel, TrainingProgress, WeightEMA
from molbfn.training.data import TrainingData
from molbfn.training.module import TrainingModule

CHECKPOINT = "last.ckpt"
_FREE_TO_CHANGE = {"steps", "bad_steps", "checkpoint_minutes", "checkpoint_steps", "log_steps",
                   "validate_steps", "validate_molecules", "compile"}  # fmt: skip


@dataclass(frozen=True)
class TrainingResult:
    """What a finished (or interrupted) run leaves.

    Attributes:
        model: folder of the averaged weights, ready for `molbfn generate --model`.
        checkpoint: file to resume from.
        steps: optimiser steps taken in all.
        metrics: last logged values.
    """

    model: Path
    checkpoint: Path
    steps: int
    metrics: dict[str, float]


def train(
    config: Config,
    folder: str | Path,
    *,
    resume: bool = False,
    accelerator: str = "auto",
    devices: int | str = 1,
    nodes: int = 1,
) -> TrainingResult:
    """Train a model and leave checkpoints, logs and the model in ``folder``.

    Args:
        config: the experiment.
        folder: run folder; must not hold another run unless ``resume``.
        resume: go on from the folder's last checkpoint.
        accelerator, devices, nodes: as in lightning.Trainer ("cpu", "cuda", "auto").

    Raises:
        UserError: unusable data or folder, checkpoint of another config, too many bad steps.
    """
    folder = Path(folder)
    checkpoint = folder / CHECKPOINT
    _check_folder(folder, config, resume=resume)
    store = MoleculeStore.open(config.data.source)
    model = build_model(config, store)
    module = TrainingModule(model, config)
    data = TrainingData(
        config,
        model=model,
        train=_split(store, config.data.split),
        valid=_split(store, config.data.validation_split),
    )
    trainer = _trainer(config, folder, accelerator=accelerator, devices=devices, nodes=nodes)
    if config.training.compile:
        model.network.compile(dynamic=False)
    with warnings.catch_warnings():
        # The loader slices arrays in memory: worker processes would only slow it down.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        trainer.fit(
            module, datamodule=data, ckpt_path=checkpoint if resume else None, weights_only=True
        )
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return TrainingResult(folder / "model", checkpoint, trainer.global_step, metrics)


def build_model(config: Config, store: MoleculeStore) -> MoleculeModel:
    """Return a model with fresh weights, its buckets and size histogram taken from the data."""
    train = _split(store, config.data.split)
    buckets = config.data.buckets
    if isinstance(buckets, int):
        buckets = choose_buckets(train.sizes, buckets)
    provenance = {
        "data": f"{store.name}, split {config.data.split}, {len(train)} molecules",
        "training": config.training.model_dump(mode="json"),
        "loss": config.loss.model_dump(mode="json"),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        info = ModelInfo(
            config=config.model(),
            buckets=tuple(sorted(buckets)),
            sizes=train.size_histogram(),
            provenance=provenance,
        )
        return MoleculeModel(info)


def _split(store: MoleculeStore, split: str) -> MoleculeStore:
    part = store.subset(split)
    if len(part) == 0:
        raise UserError(f"data set '{store.name}' has no molecules in split '{split}'")
    return part


def _trainer(
    config: Config, folder: Path, *, accelerator: str, devices: int | str, nodes: int
) -> lightning.Trainer:
    training = config.training
    every = {"every_n_train_steps": training.checkpoint_steps}
    if training.checkpoint_steps is None:
        every = {"train_time_interval": timedelta(minutes=training.checkpoint_minutes)}
    callbacks = [
        WeightEMA(training.ema),
        ExportModel(str(folder / "model")),
        TrainingProgress(every=training.log_steps),
        ModelCheckpoint(
            dirpath=folder,
            filename=CHECKPOINT.removesuffix(".ckpt"),
            enable_version_counter=False,
            save_on_train_epoch_end=False,
            **every,
        ),
    ]
    return lightning.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices != 1 or nodes != 1 else "auto",
        precision="bf16-mixed" if training.precision == "bf16" else "32-true",
        max_steps=training.steps,
        accumulate_grad_batches=training.accumulate,
        callbacks=callbacks,
        logger=[CSVLogger(folder / "logs", name=""), TensorBoardLogger(folder / "tensorboard")],
        log_every_n_steps=training.log_steps,
        val_check_interval=training.validate_steps * training.accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _check_folder(folder: Path, config: Config, *, resume: bool) -> None:
    """Refuse to overwrite another run, or to resume one that was configured differently."""
    stored = folder / "config.yaml"
    if resume:
        if not (folder / CHECKPOINT).is_file():
            raise UserError(f"{folder}: no checkpoint to resume; leave out --resume to start")
        _check_same(config, yaml.safe_load(stored.read_text(encoding="utf-8")), stored)
    elif (folder / CHECKPOINT).exists():
        raise UserError(f"{folder}: holds a run already; add --resume, or give another --output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        stored.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None


def _check_same(config: Config, stored: dict[str, Any], path: Path) -> None:
    own = config.model_dump(mode="json")
    for section in own:
        if section == "sampling":
            continue
        now, then = own[section], stored.get(section)
        if not isinstance(now, dict) or not isinstance(then, dict):
            now, then = {section: now}, {section: then}
        for key in now:
            if now[key] != then.get(key) and not (section == "training" and key in _FREE_TO_CHANGE):
                raise UserError(
                    f"{path}: the run was started with {section}.{key} = {then.get(key)!r}, "
                    f"this config has {now[key]!r}; use the same config or another --output"
                )
