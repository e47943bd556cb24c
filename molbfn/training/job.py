"""The whole training job: config in, run folder out."""

from __future__ import annotations

import logging
import platform
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
import yaml
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from rich.console import Console

from molbfn.config import Config
from molbfn.data.batching import choose_buckets
from molbfn.data.npz import replacing
from molbfn.data.store import MoleculeStore
from molbfn.data.topology import with_topology
from molbfn.devices import choose_accelerator
from molbfn.errors import UserError
from molbfn.model import ModelInfo, MoleculeModel
from molbfn.training.callbacks import TrainingProgress, WeightEMA
from molbfn.training.checkpoints import (
    CHECKPOINT,
    AtomicCheckpointIO,
    Interrupted,
    RunCheckpoint,
    check_same,
    read_checkpoint,
)
from molbfn.training.data import TrainingData
from molbfn.training.module import TrainingModule
from molbfn.training.runlog import RunLog
from molbfn.training.start import start_from

METRICS = "metrics.csv"


@dataclass(frozen=True)
class TrainingResult:
    """What a finished (or interrupted) run leaves.

    Attributes:
        model: folder of the averaged weights, ready for `molbfn generate --model`.
        checkpoint: file to resume from.
        steps: optimiser steps taken in all.
        metrics: last logged values, as in the columns of ``metrics.csv``.
        interrupted: stopped by Ctrl-C or SIGTERM; all of the above is written nevertheless.
    """

    model: Path
    checkpoint: Path
    steps: int
    metrics: dict[str, float]
    interrupted: bool = False


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
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: devices (on a CPU: processes) per node, or "auto" for all.
        nodes: machines.

    Raises:
        UserError: unusable data, folder or device; checkpoint of another config; disk full; too
            many bad steps.
        KeyboardInterrupt: Ctrl-C before the first step, or twice.
    """
    folder = Path(folder)
    if devices != "auto" and (not isinstance(devices, int) or devices < 1):
        raise UserError(f"--devices {devices}: expected a number of at least 1, or auto")
    accelerator = choose_accelerator(accelerator, count=1 if devices == "auto" else devices)
    checkpoint = _check_folder(folder, config, resume=resume)
    step = int(checkpoint["global_step"]) if checkpoint else 0
    store = open_data(config, note=_note)
    train_part, valid_part = (
        _split(store, split) for split in (config.data.split, config.data.validation_split)
    )
    model = build_model(config, store, resumed=checkpoint)
    module = TrainingModule(model, config)
    data = TrainingData(config, model=model, train=train_part, valid=valid_part)
    if rank_zero_only.rank == 0:
        _write_config(folder, config)
    log = RunLog(folder / METRICS, every=config.training.log_steps)
    with _quiet():
        trainer = _trainer(
            config, folder, log, step, accelerator=accelerator, devices=devices, nodes=nodes
        )
        if config.training.compile:
            # Block by block: one graph serves them all, so the first step of each batch shape
            # waits for seconds where the whole network would take most of a minute.
            for block in model.network.blocks:
                block.compile(dynamic=False)
        interrupted = _fit(
            trainer, module, data, checkpoint=folder / CHECKPOINT if resume else None
        )
    return TrainingResult(
        model=folder / "model",
        checkpoint=folder / CHECKPOINT,
        steps=trainer.global_step,
        metrics=dict(log.latest),
        interrupted=interrupted,
    )


def open_data(config: Config, *, note: Callable[[str], None] | None = None) -> MoleculeStore:
    """Open the config's data set, with bonds and charges where these are to be learned.

    Args:
        config: the experiment.
        note: told what had to be left out.

    Raises:
        UserError: no such data; no bonds in it; formal charges that the config does not list.
    """
    store = MoleculeStore.open(config.data.source)
    if not config.has_topology:
        return store
    whole, report = with_topology(store)
    if report.dropped and note is not None:
        note(
            f"{store.source or store.name}: {report.dropped} of {len(store)} molecules are left "
            f"out, their bonds do not fit their coordinates or are unknown"
        )
    assert whole.formal_charges is not None
    if config.charges is not None:
        unknown = set(np.unique(whole.formal_charges).tolist()) - set(config.charges.values)
        if unknown:
            raise UserError(
                f"data set '{store.name}' has formal charges that the model does not know: "
                f"{', '.join(f'{charge:+d}' for charge in sorted(unknown))}; add them to "
                f"charges.values"
            )
    return whole


def build_model(
    config: Config, store: MoleculeStore, *, resumed: Mapping[str, Any] | None = None
) -> MoleculeModel:
    """Return a model to be trained, its buckets and size histogram taken from the data.

    Args:
        config: the experiment.
        store: its data.
        resumed: checkpoint that will bring the weights; the model of ``training.start_from`` need
            not be there any more.

    Raises:
        UserError: no data in a split, or ``training.start_from`` does not fit.
    """
    train = _split(store, config.data.split)
    buckets = config.data.buckets
    if isinstance(buckets, int):
        largest = int(_split(store, config.data.validation_split).sizes.max())
        buckets = choose_buckets(train.sizes, buckets)
        buckets += (largest,) if largest > buckets[-1] else ()
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
        model = MoleculeModel(info)
    if resumed is not None:
        if resumed.get("started_from") is not None:
            provenance["started_from"] = resumed["started_from"]
    elif config.training.start_from is not None:
        provenance["started_from"] = start_from(model, config.training.start_from)
    return model


@rank_zero_only
def _note(text: str) -> None:
    Console(stderr=True).print(f"molbfn: {text}", soft_wrap=True, highlight=False, markup=False)


def _split(store: MoleculeStore, split: str) -> MoleculeStore:
    part = store.subset(split)
    if len(part) == 0:
        raise UserError(f"data set '{store.name}' has no molecules in split '{split}'")
    return part


def _trainer(
    config: Config,
    folder: Path,
    log: RunLog,
    step: int,
    *,
    accelerator: str,
    devices: int | str,
    nodes: int,
) -> lightning.Trainer:
    """Return the trainer of a run that has taken ``step`` steps so far."""
    training = config.training
    ema = WeightEMA(training.ema)
    saving = RunCheckpoint(
        folder, ema=ema, minutes=training.checkpoint_minutes, steps=training.checkpoint_steps
    )
    # Steps after the checkpoint are taken again: TensorBoard shall forget them.
    purge = {"purge_step": step + 1} if step else {}
    board = TensorBoardLogger(
        folder, name="tensorboard", version="", default_hp_metric=False, **purge
    )
    try:
        return lightning.Trainer(
            default_root_dir=folder,
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if devices != 1 or nodes != 1 else "auto",
            precision="bf16-mixed" if training.precision == "bf16" else "32-true",
            max_steps=training.steps,
            accumulate_grad_batches=training.accumulate,
            callbacks=[ema, log, TrainingProgress(log), saving],  # each needs those before it
            plugins=[AtomicCheckpointIO()],
            logger=board,
            val_check_interval=training.validate_steps * training.accumulate,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
    except MisconfigurationException as error:
        raise UserError(f"--device {accelerator} --devices {devices}: {error}") from None


def _fit(
    trainer: lightning.Trainer,
    module: TrainingModule,
    data: TrainingData,
    *,
    checkpoint: Path | None,
) -> bool:
    """Train; return whether it was interrupted."""
    before = signal.getsignal(signal.SIGINT)
    # A block is compiled once for each bucket, with and without gradients.
    graphs = 2 * len(module.model.info.buckets) + 8
    try:
        with torch._dynamo.config.patch(recompile_limit=graphs):
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except Interrupted:
        return True
    except SystemExit as error:
        # Lightning turns Ctrl-C into an exit and leaves the signal switched off.
        if isinstance(error.__context__, KeyboardInterrupt):
            with suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGINT, before)
            raise KeyboardInterrupt from None
        raise
    return False


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep lightning's tips and notices from between our own lines."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # The loader slices arrays in memory: worker processes would only slow it down.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*|.*_pytree.*")
            # Lightning steps the schedule of an optimiser whose step was skipped.
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _check_folder(folder: Path, config: Config, *, resume: bool) -> dict[str, Any] | None:
    """Refuse to overwrite another run, or to resume one that was configured differently.

    Returns:
        The checkpoint to resume from, or None.
    """
    path = folder / CHECKPOINT
    if resume:
        checkpoint = read_checkpoint(path)
        check_same(config, checkpoint, path)
        return checkpoint
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder as --output")
    if path.exists() or (folder / "model").exists():
        raise UserError(f"{folder}: holds a run already; add --resume, or give another --output")
    return None


def _write_config(folder: Path, config: Config) -> None:
    """Make the folder, tidy what a killed run left half-written, and record the config."""
    values: dict[str, Any] = config.model_dump(mode="json")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for partial in folder.glob(".*.partial"):
            partial.unlink()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None
    with replacing(folder / "config.yaml") as stream:
        stream.write(yaml.safe_dump(values, sort_keys=False).encode())
