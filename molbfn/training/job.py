"""The whole training job: config in, run folder out."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molbfn.chem.elements import atomic_number
from molbfn.config import Config, DataConfig
from molbfn.data.batching import choose_buckets
from molbfn.data.store import MoleculeStore
from molbfn.data.topology import with_topology
from molbfn.errors import UserError
from molbfn.model import ModelInfo, MoleculeModel
from molbfn.training.data import TrainingData
from molbfn.training.module import TrainingModule
from molbfn.training.run import METRICS, Job, TrainingResult, run_job, say
from molbfn.training.runlog import LOSSES
from molbfn.training.start import start_from
from molbfn.weight_files import checksum

__all__ = ["METRICS", "TrainingResult", "build_model", "open_data", "train"]


def train(
    config: Config,
    folder: str | Path,
    *,
    resume: bool = False,
    accelerator: str = "auto",
    devices: int | str = 1,
    nodes: int = 1,
    profile: int | None = None,
) -> TrainingResult:
    """Train a model and leave checkpoints, logs and the model in ``folder``.

    Args:
        config: the experiment.
        folder: run folder; must not hold another run unless ``resume``.
        resume: go on from the folder's last checkpoint, or start where there is no run yet.
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: devices (on a CPU: processes) per node, or "auto" for all.
        nodes: machines.
        profile: optimiser steps to profile, see :class:`~molbfn.training.profile.StepProfile`.

    Raises:
        UserError: unusable data, folder or device; checkpoint of another config; disk full; too
            many bad steps.
        KeyboardInterrupt: Ctrl-C before the first step, or twice.
    """

    def prepare(checkpoint: Mapping[str, Any] | None) -> Job:
        store = open_data(config, note=say)
        train_part, valid_part = (
            _part(store, config.data, key) for key in ("split", "validation_split")
        )
        model = build_model(config, store, resumed=checkpoint)
        return Job(
            module=TrainingModule(model, config),
            data=TrainingData(config, model=model, train=train_part, valid=valid_part, tell=say),
            compile=lambda mode: model.compile_blocks(dynamic=False, mode=mode),
            # A block is compiled once for each bucket, with and without gradients, and once more
            # for the smaller last batch of a bucket in validation.
            graphs=3 * len(model.info.buckets) + 8,
        )

    return run_job(
        config,
        Path(folder),
        prepare,
        losses=LOSSES,
        unit="molecules",
        resume=resume,
        accelerator=accelerator,
        devices=devices,
        nodes=nodes,
        profile=profile,
    )


def open_data(config: Config, *, note: Callable[[str], None] | None = None) -> MoleculeStore:
    """Open the config's data set, with bonds and charges where these are to be learned.

    Args:
        config: the experiment.
        note: told what had to be left out.

    Raises:
        UserError: no such data; no bonds in it; formal charges that the config does not list; no
            molecule of its elements where the others are to be left out.
    """
    store = MoleculeStore.open(config.data.source)
    if not config.has_topology:
        return _of_known_elements(store, config.data, note)
    whole, report = with_topology(store)
    if report.dropped and note is not None:
        note(
            f"{store.source or store.name}: {report.dropped} of {len(store)} molecules are left "
            f"out, their bonds do not fit their coordinates or are unknown"
        )
    whole = _of_known_elements(whole, config.data, note)
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


def _of_known_elements(
    store: MoleculeStore, data: DataConfig, note: Callable[[str], None] | None
) -> MoleculeStore:
    """Return the store without molecules of other elements, where the config leaves these out."""
    if not data.leave_out_others:
        return store
    known = [atomic_number(name) for name in data.elements]
    keep = store.made_of(known)
    if keep.all():
        return store
    where, names = store.source or store.name, ", ".join(data.elements)
    keys = {data.split: "split"}
    keys.setdefault(data.validation_split, "validation_split")
    for split, key in keys.items():
        of_split = _part(store, data, key).made_of(known)
        if not of_split.any():
            raise UserError(f"{where}: no molecule of the split '{split}' is of {names} only")
        if note is not None and not of_split.all():
            note(
                f"{where}: left out {(~of_split).sum():,} of {len(of_split):,} molecules with "
                f"elements outside {names} (split {split})"
            )
    return store.subset(keep)


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
        UserError: no data in a split, other data than those of ``resumed``, or
            ``training.start_from`` does not fit.
    """
    train = _part(store, config.data, "split")
    buckets = config.data.buckets
    if isinstance(buckets, int):
        largest = int(_part(store, config.data, "validation_split").sizes.max())
        buckets = choose_buckets(train.sizes, buckets)
        buckets += (largest,) if largest > buckets[-1] else ()
    digest = _digest(train)
    if resumed is not None and resumed.get("data", digest) != digest:
        raise UserError(
            f"{store.source or store.name}: not the molecules that the run was started with; "
            f"resume with those, or give another --output"
        )
    provenance = {
        "data": f"{store.name}, split {config.data.split}, {len(train)} molecules",
        "data_digest": digest,
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


def _digest(store: MoleculeStore) -> str:
    """Return the first 16 hex digits of the checksum of the molecules, in their order."""
    names = ("offsets", "atomic_numbers", "positions", "formal_charges", "bond_offsets", "bonds")
    arrays = {name: getattr(store, name) for name in names}
    return checksum({k: torch.from_numpy(v) for k, v in arrays.items() if v is not None})[:16]


def _part(store: MoleculeStore, data: DataConfig, key: str) -> MoleculeStore:
    """Return the part that ``data.split`` or ``data.validation_split`` names."""
    try:
        part = store.subset(getattr(data, key))
    except UserError as error:
        hint = ""
        if key == "validation_split" and data.validation_split != data.split:
            hint = f"; --set data.validation_split={data.split} validates with what is trained on"
        raise UserError(f"data.{key}: {error}{hint}") from None
    if len(part) == 0:
        raise UserError(f"data set '{store.name}' has no molecules")
    return part
