"""Hands batches to the trainer, from the step a run has reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

import lightning
import torch
from torch.utils.data import DataLoader, IterableDataset

from molbfn.config import Config
from molbfn.data.batching import DenseBatches, MoleculeBatch, SampledBatches, gathered_bytes
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


def place_data(
    wanted: Literal["auto", "cpu"], device: torch.device, size: int
) -> tuple[torch.device, str]:
    """Return where data of ``size`` bytes are to live, and a line that says so, "" on a CPU.

    By itself that is the GPU that trains, where they take at most a quarter of its free memory.
    An Apple GPU, which lacks the float64 that molecules are centred in, is fed by the CPU.
    """
    host = torch.device("cpu")
    if device.type != "cuda":
        return host, ""
    name, amount = str(device), f"{size / 2**20:,.0f} MiB"
    if wanted == "cpu":
        return host, f"the data ({amount}) stay on the CPU (training.data_device: cpu)"
    free, _ = torch.cuda.mem_get_info(device)
    if size > free / 4:
        return host, (
            f"the data ({amount}) stay on the CPU: they are more than a quarter of the "
            f"{free / 2**20:,.0f} MiB free on {name}"
        )
    return device, f"the data ({amount}) live on {name}, where batches are gathered"


class TrainingData(lightning.LightningDataModule):
    """Training and validation batches for :class:`~molbfn.training.module.TrainingModule`.

    The molecules live on the device that trains, where they fit (see :func:`place_data`).

    Args:
        config: the experiment.
        model: what is trained.
        train, valid: molecules to train on and to validate with.
        tell: told where they live, where that is a question.
    """

    def __init__(
        self,
        config: Config,
        *,
        model: MoleculeModel,
        train: MoleculeStore,
        valid: MoleculeStore,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        super().__init__()
        self._tell = tell
        self._place: torch.device | None = None
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
            device=self._device(),
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
            device=self._device(),
        )

    def _device(self) -> torch.device:
        """Return where the molecules live; decided once, for both parts."""
        if self._place is None:
            self._place, line = place_data(
                self._config.training.data_device,
                self.trainer.strategy.root_device,
                gathered_bytes(self._train) + gathered_bytes(self._valid),
            )
            if line:
                self._tell(line)
        return self._place

    def transfer_batch_to_device(
        self, batch: MoleculeBatch, device: torch.device, dataloader_idx: int
    ) -> MoleculeBatch:
        return batch.to(device)
