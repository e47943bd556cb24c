"""Hands batches to the trainer, from the step a run has reached."""

from __future__ import annotations

from collections.abc import Iterator

import lightning
from torch.utils.data import DataLoader, IterableDataset

from molbfn.config import Config
from molbfn.data.batching import DenseBatches, MoleculeBatch
from molbfn.data.store import MoleculeStore
from molbfn.model import MoleculeModel


class BatchStream(IterableDataset):
    """Batches ``start``, ``start + 1``, ... of a sequence, without end or up to ``count``."""

    def __init__(self, batches: DenseBatches, *, start: int = 0, count: int | None = None) -> None:
        self._batches, self._start, self._count = batches, start, count

    def __iter__(self) -> Iterator[MoleculeBatch]:
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

    def train_dataloader(self) -> DataLoader:
        # A resumed run has restored batches_seen by the time this is called.
        start = self.trainer.lightning_module.batches_seen
        return self._loader(self._train, start=start, count=None)

    def val_dataloader(self) -> DataLoader:
        training = self._config.training
        per_step = training.batch_size * self.trainer.world_size
        return self._loader(
            self._valid, start=0, count=max(1, training.validate_molecules // per_step)
        )

    def _loader(self, store: MoleculeStore, *, start: int, count: int | None) -> DataLoader:
        training = self._config.training
        batches = DenseBatches(
            store,
            vocabulary=self._model.vocabulary,
            buckets=self._model.info.buckets,
            batch_size=training.batch_size,
            seed=training.seed,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
        )
        return DataLoader(BatchStream(batches, start=start, count=count), batch_size=None)

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return batch.to(device)
