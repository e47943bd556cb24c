"""What a benchmark is trained and tested on: parts that hand out samples by number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from molbfn.weight_files import checksum

SPLITS = ("train", "valid", "test")


class Samples(Protocol):
    """One part of a data set."""

    def __len__(self) -> int: ...

    def take(self, index: np.ndarray, generator: torch.Generator) -> Tensor:
        """Return the samples of these numbers [B, ...] as the flow wants them.

        Args:
            index: int64 [B].
            generator: on the CPU; for what is drawn anew each time.
        """


class Part(Samples, Protocol):
    """All of one part."""

    def digest(self) -> str:
        """Return what tells it from any other, see :func:`digest_of`."""


def digest_of(values: Tensor) -> str:
    """Return the first 16 hex digits of the checksum of samples, in their order."""
    return checksum({"samples": values})[:16]


@dataclass(frozen=True)
class BenchData:
    """A data set in three parts.

    Attributes:
        label: what it is, for a table.
        unit: what a sample is, in the plural.
        note: why figures on its test part do not compare with published ones; "" if they do.
        train, valid, test: the parts.
    """

    label: str
    unit: str
    note: str
    train: Part
    valid: Part
    test: Part

    def part(self, split: str) -> Part:
        """Return a part by its name, one of :data:`SPLITS`."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[split]


def hold_out(count: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of what is trained on and of what is held out, always the same."""
    order = np.random.default_rng(0).permutation(count)
    held = round(share * count)
    return np.sort(order[held:]), np.sort(order[:held])


class ShuffledBatches:
    """An endless sequence of batches, epoch after epoch in a new order.

    Args:
        samples: where they come from.
        batch_size: of this process.
        seed: of the order and of what is drawn.
        rank, world: this process of how many; each has its own share of an epoch.

    Raises:
        ValueError: fewer samples than in one batch of all processes.
    """

    def __init__(
        self, samples: Samples, *, batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self._samples, self._batch_size, self._seed = samples, batch_size, seed
        self._rank, self._world = rank, world
        self.batches_per_epoch = len(samples) // (batch_size * world)
        if not self.batches_per_epoch:
            raise ValueError(f"{len(samples)} samples do not fill a batch of {batch_size * world}")
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def batch(self, step: int) -> Tensor:
        """Return batch ``step``, which depends on nothing else."""
        epoch, place = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            rng = np.random.default_rng([self._seed, epoch])
            self._epoch, self._order = epoch, rng.permutation(len(self._samples))
        start = (place * self._world + self._rank) * self._batch_size
        # Numbered over all processes: two of them validate on what one would.
        number = step * self._world + self._rank
        noise = np.random.SeedSequence([self._seed, number, 0, 1])
        generator = torch.Generator().manual_seed(int(noise.generate_state(1, np.uint64)[0]) >> 1)
        return self._samples.take(self._order[start : start + self._batch_size], generator)


def in_order(samples: Samples, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield each sample once, in batches; the last one may be smaller."""
    for start in range(0, len(samples), batch_size):
        index = np.arange(start, min(start + batch_size, len(samples)))
        yield samples.take(index, generator)
