"""One training run of any model: folder, trainer, checkpoints, logs, interruption."""

from __future__ import annotations

import logging
import math
import os
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import lightning
import torch
import yaml
from lightning.fabric.plugins.environments import (
    LSFEnvironment,
    MPIEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from molbfn.atomic import replacing
from molbfn.config import CompileMode, RunConfig
from molbfn.console import stderr_console
from molbfn.devices import (
    choose_accelerator,
    choose_precision,
    compile_problem,
    lacks_memory,
    multiplies_bf16,
)
from molbfn.errors import UserError
from molbfn.locks import hold
from molbfn.parent import end_with_parent
from molbfn.training.base import BFNModule
from molbfn.training.callbacks import TrainingProgress, WeightEMA
from molbfn.training.checkpoints import (
    CHECKPOINT,
    AtomicCheckpointIO,
    Interrupted,
    OutOfTime,
    RunCheckpoint,
    check_processes,
    check_same,
    read_checkpoint,
)
from molbfn.training.launchers import find_launch
from molbfn.training.processes import ended, is_of_another, parent_of_run, starting
from molbfn.training.profile import StepProfile
from molbfn.training.runlog import Board, RunLog

METRICS = "metrics.csv"


class Experiment(Protocol):
    """A whole configuration (a pydantic model), of which this much is known here."""

    @property
    def training(self) -> RunConfig: ...

    def model_dump(self, *, mode: str) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Job:
    """What there is to train.

    Attributes:
        module: model and loss.
        data: batches for it.
        compile: compiles the network in a mode, where the config wants that.
        graphs: most graphs that one compiled function may need.
    """

    module: BFNModule
    data: lightning.LightningDataModule
    compile: Callable[[CompileMode], None]
    graphs: int


@dataclass(frozen=True)
class TrainingResult:
    """What a finished (or interrupted) run leaves.

    Attributes:
        model: folder of the averaged weights, ready for `molbfn generate --model`.
        checkpoint: file to resume from.
        steps: optimiser steps taken in all.
        metrics: last logged values, as in the columns of ``metrics.csv``.
        interrupted: stopped by Ctrl-C, SIGTERM, SIGHUP or ``training.minutes``; all of the above is
            written nevertheless.
        out_of_time: it was ``training.minutes``.
        first: this is the first of the run's processes, the one to speak.
        validated: step that the last validation was of, None without one.
    """

    model: Path
    checkpoint: Path
    steps: int
    metrics: dict[str, float]
    interrupted: bool = False
    out_of_time: bool = False
    first: bool = True
    validated: int | None = None


def run_job(
    config: Experiment,
    folder: Path,
    prepare: Callable[[Mapping[str, Any] | None], Job],
    *,
    losses: Sequence[str],
    unit: str,
    resume: bool,
    accelerator: str,
    devices: int | str,
    nodes: int,
    profile: int | None = None,
) -> TrainingResult:
    """Train what ``prepare`` returns and leave checkpoints, logs and the model in ``folder``.

    Args:
        config: the experiment.
        folder: run folder; must not hold another run unless ``resume``.
        prepare: builds the job, given the checkpoint that will be resumed or None.
        losses, unit: names for the log, see :class:`~molbfn.training.runlog.RunLog`.
        resume: go on from the folder's last checkpoint, or start where there is no run yet.
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: devices (on a CPU: processes) per node, or "auto" for all.
        nodes: machines.
        profile: optimiser steps to profile, see :class:`~molbfn.training.profile.StepProfile`.

    Raises:
        UserError: unusable folder or device; processes that a launcher started of another number;
            another run that trains there; checkpoint of another config; disk full; too many bad
            steps; another of the run's processes died.
        KeyboardInterrupt: Ctrl-C before the first step, or twice.
    """
    began = time.monotonic()
    if devices != "auto" and (not isinstance(devices, int) or devices < 1):
        raise UserError(f"--devices {devices}: expected a number of at least 1, or auto")
    _check_nodes(nodes, os.environ)
    if (parent := parent_of_run()) is not None:
        end_with_parent(parent)
    accelerator = choose_accelerator(accelerator, count=1 if devices == "auto" else devices)
    count = _devices_of(accelerator) if devices == "auto" else int(devices)
    launch = find_launch(os.environ)
    launch.check(devices=count, nodes=nodes)
    # A process that makes up a run of its own is its first, whatever number it was given.
    first = launch.first or count * nodes == 1
    checkpoint = _check_folder(folder, config, resume=resume)
    if first:
        _check_writable(folder)  # before the data are read, which can take minutes
    step = int(checkpoint["global_step"]) if checkpoint else 0
    job = prepare(checkpoint)
    log = RunLog(folder / METRICS, every=config.training.log_steps, losses=losses, unit=unit)
    _warn_of_emulation(config.training, accelerator)
    with _sole_run(folder, first=first), _quiet():
        if resume and checkpoint is None:
            say(f"{folder}: nothing to resume yet, so training starts")
        if rank_zero_only.rank == 0:
            _write_config(folder, config)
        saving = _saving(config.training, folder, accelerator, began=began)
        trainer = _trainer(
            config, saving, log, step, accelerator=accelerator, devices=devices, nodes=nodes
        )
        if profile is not None:
            trainer.callbacks.append(StepProfile(folder, profile, tell=say))
        if checkpoint is not None:
            check_processes(trainer.world_size, checkpoint, folder / CHECKPOINT)
        if config.training.compile:
            _compile(job, _own_device(accelerator, os.environ), config.training.compile_mode)
        stop = _fit(
            trainer,
            job.module,
            job.data,
            folder=folder,
            resume=checkpoint is not None,
            graphs=job.graphs,
        )
    return TrainingResult(
        model=folder / "model",
        checkpoint=folder / CHECKPOINT,
        steps=trainer.global_step,
        metrics=dict(log.latest),
        interrupted=stop is not None,
        out_of_time=isinstance(stop, OutOfTime),
        first=trainer.is_global_zero,
        validated=log.validated,
    )


def _check_nodes(nodes: int, environment: Mapping[str, str]) -> None:
    """Refuse several machines when nothing says which of them this one is.

    What Lightning does not detect it takes for a machine on its own, the first of all.
    """
    launchers = (TorchElasticEnvironment, SLURMEnvironment, LSFEnvironment, MPIEnvironment)
    told = {"MASTER_ADDR", "NODE_RANK"} <= environment.keys()
    if nodes > 1 and not told and not any(kind.detect() for kind in launchers):
        raise UserError(
            f"--nodes {nodes}: nothing says which machine this is; start it with srun or torchrun, "
            f"or set MASTER_ADDR, MASTER_PORT and NODE_RANK on each machine"
        )


def _devices_of(accelerator: str) -> int:
    """Return what ``--devices auto`` stands for."""
    return torch.cuda.device_count() if accelerator == "cuda" else 1


@rank_zero_only
def say(text: str) -> None:
    """Print a line for the user, once for all processes."""
    stderr_console().print(f"molbfn: {text}", soft_wrap=True, highlight=False, markup=False)


def _own_device(accelerator: str, environment: Mapping[str, str]) -> torch.device:
    """Return the device that this process of a run will compute on."""
    index = int(environment.get("LOCAL_RANK", "0")) if accelerator == "cuda" else None
    return torch.device(accelerator) if index is None else torch.device(accelerator, index)


def _compile(job: Job, device: torch.device, mode: CompileMode) -> None:
    """Compile the network, if this machine can: without a C++ compiler, say, it goes on without."""
    problem = compile_problem(device)
    if problem is None:
        say("compiling for this machine: the first steps of each batch shape take a while")
        if mode == "reduce-overhead" and device.type != "cuda":
            say(f"training.compile_mode: {mode} changes nothing on a {device.type}, without CUDA")
        job.compile(mode)
    else:
        say(
            f"training.compile: torch.compile does not work here ({problem}), so training goes on "
            f"without and is slower"
        )


def _warn_of_emulation(training: RunConfig, accelerator: str) -> None:
    device = torch.device(accelerator)
    if training.precision == "bf16" and not multiplies_bf16(device):
        say(
            f"training.precision: bf16 is emulated on this {accelerator}, many times slower than "
            f"fp32; --set training.precision=auto takes what is fast here"
        )


def _saving(training: RunConfig, folder: Path, accelerator: str, *, began: float) -> RunCheckpoint:
    """Return what saves a run that began at a reading of :func:`time.monotonic`."""
    return RunCheckpoint(
        folder,
        ema=WeightEMA(training.ema),
        minutes=training.checkpoint_minutes,
        steps=training.checkpoint_steps,
        until=math.inf if training.minutes is None else began + 60 * training.minutes,
        provenance={"precision": choose_precision(training.precision, torch.device(accelerator))},
    )


def _trainer(
    config: Experiment,
    saving: RunCheckpoint,
    log: RunLog,
    step: int,
    *,
    accelerator: str,
    devices: int | str,
    nodes: int,
) -> lightning.Trainer:
    """Return the trainer of a run that has taken ``step`` steps so far."""
    training = config.training
    precision = choose_precision(training.precision, torch.device(accelerator))
    folder = saving.folder
    # Steps after the checkpoint are taken again: TensorBoard shall forget them.
    board = Board(folder, tell=say, default_hp_metric=False, purge_step=step + 1)
    try:
        trainer = lightning.Trainer(
            default_root_dir=folder,
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if devices != 1 or nodes != 1 else "auto",
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            max_steps=training.steps,
            accumulate_grad_batches=training.accumulate,
            # Each needs those before it.
            callbacks=[saving.ema, log, TrainingProgress(log), saving],
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
        launcher = getattr(trainer.strategy, "cluster_environment", None)
        if launcher is not None:
            launcher.validate_settings(num_devices=trainer.num_devices, num_nodes=nodes)
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        wanted = f"--device {accelerator} --devices {devices} --nodes {nodes}"
        raise UserError(f"{wanted}: {error}") from None
    return trainer


def _fit(
    trainer: lightning.Trainer,
    module: BFNModule,
    data: lightning.LightningDataModule,
    *,
    folder: Path,
    resume: bool,
    graphs: int,
) -> Interrupted | None:
    """Train; return what interrupted it."""
    checkpoint = folder / CHECKPOINT if resume else None
    before = signal.getsignal(signal.SIGINT)
    try:
        with (
            torch._dynamo.config.patch(recompile_limit=graphs),
            starting(trainer.world_size, tell=say),
        ):
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    except Interrupted as stop:
        return stop
    except Exception as error:
        if _broken_off(trainer):
            if not (folder / CHECKPOINT).exists():
                raise KeyboardInterrupt from None
            say(f"stopped in the middle of a step ({type(error).__name__}), which is taken again")
            return Interrupted()
        if trainer.world_size > 1 and is_of_another(error):
            if parent_of_run() is not None:
                raise SystemExit(1) from None  # the one that started this one says it
            raise UserError(ended(trainer.world_size)) from None
        if not isinstance(error, RuntimeError) or not lacks_memory(error):
            raise
        raise UserError(
            f"training.batch_size: a step of {module.config.training.batch_size} does not fit into "
            f"the memory of {trainer.strategy.root_device}; resume when more is free, or start in "
            f"another --output with a smaller one (and training.accumulate)"
        ) from None
    except SystemExit as error:
        # Lightning turns Ctrl-C into an exit and leaves the signal switched off.
        if isinstance(error.__context__, KeyboardInterrupt):
            with suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGINT, before)
            raise KeyboardInterrupt from None
        raise
    return None


def _broken_off(trainer: lightning.Trainer) -> bool:
    """Whether a run that failed had been asked to stop."""
    return any(c.broken_off for c in trainer.callbacks if isinstance(c, RunCheckpoint))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tips, notices and traces of others from between our own lines."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    hook = threading.excepthook

    def said_by_board(failure: threading.ExceptHookArgs) -> None:
        writer = type(failure.thread).__module__.startswith("tensorboard.")
        if not (writer and isinstance(failure.exc_value, OSError)):
            hook(failure)

    threading.excepthook = said_by_board
    try:
        with warnings.catch_warnings():
            # The loader slices arrays in memory: worker processes would only slow it down.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*|.*_pytree.*")
            # Lightning steps the schedule of an optimiser whose step was skipped.
            warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
            yield
    finally:
        threading.excepthook = hook
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _check_folder(folder: Path, config: Experiment, *, resume: bool) -> dict[str, Any] | None:
    """Refuse to overwrite another run, or to resume one that was configured differently.

    Returns:
        The checkpoint to resume from, or None to start.
    """
    path = folder / CHECKPOINT
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; give a folder as --output")
    # A job that is queued again may have been killed before its first checkpoint.
    if resume and (path.exists() or (folder / "model").exists()):
        checkpoint = read_checkpoint(path)
        check_same(config, checkpoint, path)
        return checkpoint
    if path.exists():
        raise UserError(f"{folder}: holds a run already; add --resume, or give another --output")
    if (folder / "model").exists():
        raise UserError(f"{folder}: holds a model already; give another --output")
    return None


def _check_writable(folder: Path) -> None:
    """See that the folder, or what there is of the path to it, can be written.

    Raises:
        UserError: it cannot.
    """
    with _writable(folder):
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=there):
            pass


@contextmanager
def _sole_run(folder: Path, *, first: bool) -> Iterator[None]:
    """Make the folder and hold it, once for all processes of a run.

    Args:
        folder: run folder.
        first: this is the first process of the run.

    Raises:
        UserError: another run has it, or it cannot be written.
    """
    if not first:
        yield
        return
    busy = f"{folder}: another run is training here; wait for it, or give another --output"
    with ExitStack() as stack:
        with _writable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(hold(folder / ".lock", busy=busy))
        yield


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None


def _write_config(folder: Path, config: Experiment) -> None:
    """Tidy what a killed run left half-written, and record the config."""
    values: dict[str, Any] = config.model_dump(mode="json")
    with _writable(folder):
        for partial in folder.glob(".*.partial"):
            partial.unlink()
    with replacing(folder / "config.yaml") as stream:
        stream.write(yaml.safe_dump(values, sort_keys=False).encode())
