"""Hands batches to the trainer, from the step a run has reached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import lightning
import torch
from torch.utils.data import DataLoader, IterableDataset

from molbfn.config import Config
from molbfn.data.batching import DenseBatches, MoleculeBatch, SampledBatches
from molbfn.data.store import MoleculeStore
from molbfn.model import MoleculeModel


class Batches(Protocol):
    """An endless sequence of batches, each made from its number alone."""

    def batch(self, step: int) -> Any: ...


class BatchStream(IterableDataset):
    """Batches ``start``, ``start + 1``, ... of a sequence, without end or up to ``count``."""

    def __init__(self, batches: Batches, *, start: int = 0, count: int | None = None) -> None:
        self._batches, self._start, self._count = batches, start, count

    def __iter__(self) -> Iterator[Any]:
        step = self._start
        while self._count is None or step < self._start + self._count:
            yield self._batches.batch(step)
            step += 1


class TrainingData(lightning.LightningDataModule):
    """Training and validation batches for :class:`~molbfn.training.module.TrainingModule`."""

    def __init__(
        self,
        config: Config,
        *,
        model: MoleculeModel,
        train: MoleculeStore,
        valid: MoleculeStore,
    ) -> None:
        super().__init__()
        self._config, self._model = config, model
        self._train, self._valid = train, valid
        self.validation_batches = 0  # different ones of all processes; known with the loader

    def train_dataloader(self) -> DataLoader:
        # A resumed run has restored batches_seen by the time this is called.
        start = self.trainer.lightning_module.batches_seen
        stream = BatchStream(self._batches(self._train), start=start)
        return DataLoader(stream, batch_size=None)

    def val_dataloader(self) -> DataLoader:
        training = self._config.training
        batches = SampledBatches(
            self._valid,
            vocabulary=self._model.vocabulary,
            buckets=self._model.info.buckets,
            batch_size=training.batch_size,
            count=training.validate_molecules,
            seed=training.seed,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
            topology=self._config.has_topology,
        )
        self.validation_batches = batches.total
        return DataLoader(BatchStream(batches, count=batches.per_process), batch_size=None)

    def _batches(self, store: MoleculeStore) -> DenseBatches:
        training = self._config.training
        return DenseBatches(
            store,
            vocabulary=self._model.vocabulary,
            buckets=self._model.info.buckets,
            batch_size=training.batch_size,
            seed=training.seed,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
            topology=self._config.has_topology,
        )

    def transfer_batch_to_device(
        self, batch: MoleculeBatch, device: torch.device, dataloader_idx: int
    ) -> MoleculeBatch:
        return batch.to(device)
