"""The job of `molbfn bench train`: the machinery of `molbfn train` on images and text."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from bfn_core import low_discrepancy_times
from molbfn.benchmarks.config import BenchConfig, TextUNetConfig
from molbfn.benchmarks.data.samples import BenchData, ShuffledBatches
from molbfn.benchmarks.data.text8 import RandomCrops
from molbfn.benchmarks.model import BenchInfo, BenchModel, load_data
from molbfn.benchmarks.networks.ngram_prior import PriorNetwork
from molbfn.errors import UserError
from molbfn.training.base import BFNModule
from molbfn.training.data import BatchStream
from molbfn.training.run import Job, TrainingResult, run_job

LOSSES = ("loss",)
_GRAPHS = 16  # training and validation, with and without gradients, and room for more


def train(
    config: BenchConfig,
    folder: str | Path,
    *,
    resume: bool = False,
    accelerator: str = "auto",
    devices: int | str = 1,
    nodes: int = 1,
    profile: int | None = None,
) -> TrainingResult:
    """Train a benchmark's model and leave checkpoints, logs and the model in ``folder``.

    Arguments and errors are those of :func:`molbfn.training.job.train`.
    """

    def prepare(checkpoint: Mapping[str, Any] | None) -> Job:
        data = load_data(config)
        model = build_model(config, data, resumed=checkpoint)
        data = count_first(model, data)
        return Job(
            module=BenchModule(model, config),
            data=BenchBatches(config, data),
            compile=lambda mode: model.network.compile(dynamic=False, mode=mode),
            graphs=_GRAPHS,
        )

    return run_job(
        config,
        Path(folder),
        prepare,
        losses=LOSSES,
        unit="samples",
        resume=resume,
        accelerator=accelerator,
        devices=devices,
        nodes=nodes,
        profile=profile,
    )


def build_model(
    config: BenchConfig, data: BenchData, *, resumed: Mapping[str, Any] | None = None
) -> BenchModel:
    """Return a model with the fresh weights of the config's seed.

    Args:
        config: the experiment.
        data: what it is trained on, for the provenance.
        resumed: checkpoint that will bring the weights.

    Raises:
        UserError: other data than those of ``resumed``.
    """
    digest = data.train.digest()
    if resumed is not None and resumed.get("data", digest) != digest:
        raise UserError(
            f"{data.label}: not the {data.unit} that the run was started with; resume with those, "
            f"or give another --output"
        )
    provenance = {
        "data": f"{data.label}: {len(data.train)} {data.unit} to train on",
        "data_digest": digest,
        "training": config.training.model_dump(mode="json"),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        return BenchModel(BenchInfo(config=config.model(), provenance=provenance))


def count_first(model: BenchModel, data: BenchData) -> BenchData:
    """Count the n-grams of a model that has a prior, and return what is left to train on.

    On text that they were counted in n-grams look surer than they are, and a network would learn to
    trust them; so one part of the text is counted, and the network is trained on the other.

    Raises:
        UserError: the text has too few of them, or is too short to be cut.
    """
    network = model.info.config.network
    if not isinstance(network, TextUNetConfig) or network.prior is None:
        return data
    assert isinstance(model.network, PriorNetwork)
    assert isinstance(data.train, RandomCrops)
    try:
        counted, rest = data.train.cut(network.prior.share)
        model.network.prior.fit(counted.codes)
    except ValueError as error:
        raise UserError(f"network.prior: {error}") from None
    return replace(data, train=rest)


class BenchModule(BFNModule):
    """Minimises the continuous-time loss, nats per element of a sample.

    Times may be drawn more densely where the loss needs them (``training.time_knots``): each
    sample's loss is weighted with the inverse of the density, so the mean stays that of uniform
    times.
    """

    model: BenchModel
    config: BenchConfig

    def count(self, batch: Tensor) -> int:
        return len(batch)

    def loss(self, batch: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the loss as "loss"."""
        flows = self.model.flows
        t, weight = self._times(len(batch), generator)
        data, times = {"x": batch}, flows.times(t)
        states = flows.sample(data, times, generator=generator)
        outputs = self.model.predictor()(states, times)
        losses = flows.continuous_time_loss(data, outputs, times)["x"]
        return {"loss": (weight * losses).mean() / batch[0].numel()}

    def _times(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return times [B] and the inverse of the density they are drawn with."""
        u = low_discrepancy_times(count, generator=generator, device=self.device)
        knots = [(0.0, 0.0), *self.config.training.time_knots, (1.0, 1.0)]
        shares, times = torch.tensor(knots, device=u.device).T.contiguous()
        slopes = times.diff() / shares.diff()
        piece = torch.searchsorted(shares, u, right=True).clamp(1, len(knots) - 1) - 1
        return times[piece] + (u - shares[piece]) * slopes[piece], slopes[piece]


class BenchBatches(lightning.LightningDataModule):
    """Training and validation batches for :class:`BenchModule`."""

    def __init__(self, config: BenchConfig, data: BenchData) -> None:
        super().__init__()
        self._config, self._data = config, data

    def train_dataloader(self) -> DataLoader:
        # A resumed run has restored batches_seen by the time this is called.
        start = self.trainer.lightning_module.batches_seen
        stream = BatchStream(self._batches("train", self._config.training.batch_size), start=start)
        return DataLoader(stream, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        training, world = self._config.training, self.trainer.world_size
        # A small part may not fill a batch of the training's size on every process.
        size = max(1, min(training.batch_size, len(self._data.valid) // world))
        batches = self._batches("valid", size)
        count = max(1, min(training.validate_samples // (size * world), batches.batches_per_epoch))
        return DataLoader(BatchStream(batches, count=count), batch_size=None)

    def _batches(self, split: str, batch_size: int) -> ShuffledBatches:
        training = self._config.training
        try:
            return ShuffledBatches(
                self._data.part(split),
                batch_size=batch_size,
                seed=training.seed,
                rank=self.trainer.global_rank,
                world=self.trainer.world_size,
            )
        except ValueError as error:
            raise UserError(f"training.batch_size: {error} of the {split} part") from None
