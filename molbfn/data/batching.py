"""Dense padded batches, grouped by size, without Python work per molecule.

Molecules are padded to one of a few sizes (buckets), so that a compiled network meets few shapes
and little is wasted: the cost of a molecule grows with the square of its padded size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from molbfn.chem.elements import symbol
from molbfn.data.store import MoleculeStore
from molbfn.errors import UserError


@dataclass(frozen=True)
class MoleculeBatch:
    """A dense batch of molecules.

    Attributes:
        positions: float32 [B, N, 3], angstrom, zero centre of mass, zero on padding.
        elements: int64 [B, N], index into the vocabulary; 0 on padding.
        mask: bool [B, N], True where there is an atom.
        charges: int64 [B, N], formal charges in elementary charges, 0 on padding; or None.
        bonds: int64 [B, N, N], Kekule orders 0 to 3, symmetric, 0 on padding; or None.
    """

    positions: Tensor
    elements: Tensor
    mask: Tensor
    charges: Tensor | None = None
    bonds: Tensor | None = None

    def to(self, device: torch.device | str) -> MoleculeBatch:
        """Return the batch on another device."""
        moved = {
            name: None if value is None else value.to(device, non_blocking=True)
            for name, value in vars(self).items()
        }
        return MoleculeBatch(**moved)


def pair_mask(mask: Tensor) -> Tensor:
    """Return bool [B, N, N]: True for i < j, both atoms of the mask [B, N].

    Each pair of atoms once: bonds are a variable with one element a pair.
    """
    both = mask[:, :, None] & mask[:, None, :]
    return both.triu(1)


def choose_buckets(sizes: np.ndarray, count: int) -> tuple[int, ...]:
    """Return at most ``count`` padded sizes that minimise the sum of squared padded sizes.

    Exact, by dynamic programming over the distinct sizes (int [M]).
    """
    values, weights = np.unique(np.asarray(sizes), return_counts=True)
    cumulative = np.concatenate([[0], np.cumsum(weights)])
    best = cumulative[1:] * values.astype(np.float64) ** 2
    choice = [np.zeros(len(values), dtype=int)]
    for _ in range(min(count, len(values)) - 1):
        # total[j, i]: the first i sizes as before, sizes i..j padded to size j.
        before = np.concatenate([[0.0], best])
        total = before[None, :-1] + (cumulative[1:, None] - cumulative[None, :-1]) * (
            values[:, None].astype(np.float64) ** 2
        )
        total[np.triu_indices(len(values), 1)] = np.inf
        choice.append(total.argmin(1))
        best = total.min(1)
    buckets, end = [], len(values) - 1
    for starts in reversed(choice):
        if end < 0:
            break
        buckets.append(int(values[end]))
        end = int(starts[end]) - 1
    return tuple(sorted(buckets))


def bucket_of(size: int, buckets: Sequence[int]) -> int:
    """Return the smallest bucket that holds ``size`` atoms, or ``size`` itself beyond the last."""
    return next((bucket for bucket in sorted(buckets) if bucket >= size), size)


def _check_largest(store: MoleculeStore, buckets: Sequence[int]) -> None:
    largest = int(store.sizes.max())
    if largest > max(buckets):
        raise UserError(
            f"data.buckets: the largest bucket is {max(buckets)} atoms but '{store.name}' has "
            f"a molecule of {largest}; add that size to data.buckets"
        )


class _BucketedBatches:
    """What both kinds of sequences share: a store whose molecules are padded to buckets."""

    def __init__(
        self,
        store: MoleculeStore,
        *,
        vocabulary: Sequence[int],
        buckets: Sequence[int],
        rank: int,
        world: int,
        topology: bool,
    ) -> None:
        if len(store) == 0:
            raise UserError(f"data set '{store.name}' has no molecules to train on")
        _check_largest(store, buckets)
        self._gather = Gather(store, vocabulary, topology=topology)
        self._buckets = tuple(sorted(buckets))
        self._rank, self._world = rank, world

    def _by_bucket(self, rows: np.ndarray) -> list[np.ndarray]:
        """Divide rows of the store by the bucket of their size; none is empty."""
        index = np.searchsorted(self._buckets, self._gather.sizes[rows])
        return [rows[index == b] for b in np.unique(index)]

    def _padded(self, rows: np.ndarray) -> MoleculeBatch:
        """Return rows of one bucket as a batch of its size."""
        return self._gather(rows, bucket_of(int(self._gather.sizes[rows].max()), self._buckets))


class DenseBatches(_BucketedBatches):
    """An endless, seeded sequence of batches that any process can enter at any step.

    Batch number ``step`` depends on (store, buckets, batch_size, seed, step, rank, world) only, so
    a resumed run sees the same batches.  An epoch visits every molecule at least once; within a
    bucket the last batch is filled up with molecules from that bucket's start, so that every batch
    is full and of a known shape.

    Args:
        store: the molecules.
        vocabulary: atomic numbers, in the order of the model's element classes.
        buckets: padded sizes, ascending; the largest must hold every molecule.
        batch_size: molecules a batch (of one process).
        seed: of the order.
        rank, world: this process and how many there are; they see disjoint molecules.
        topology: batches carry bonds and formal charges too.
    """

    def __init__(
        self,
        store: MoleculeStore,
        *,
        vocabulary: Sequence[int],
        buckets: Sequence[int],
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        topology: bool = False,
    ) -> None:
        super().__init__(
            store,
            vocabulary=vocabulary,
            buckets=buckets,
            rank=rank,
            world=world,
            topology=topology,
        )
        self._batch_size, self._seed = batch_size, seed
        self._members = self._by_bucket(np.arange(len(store)))
        self._order = lru_cache(maxsize=2)(self._epoch)

    @property
    def batches_per_epoch(self) -> int:
        """Batches each process sees in one epoch."""
        per_step = self._batch_size * self._world
        return sum(-(-len(members) // per_step) for members in self._members)

    def batch(self, step: int) -> MoleculeBatch:
        """Return batch number ``step``, counted from 0 over all epochs."""
        epoch, position = divmod(step, self.batches_per_epoch)
        return self._padded(self._order(epoch)[position])

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self._seed, epoch])
        per_step = self._batch_size * self._world
        batches: list[np.ndarray] = []
        for members in self._members:
            count = -(-len(members) // per_step)
            rows = np.resize(rng.permutation(members), (count, self._world, self._batch_size))
            batches.extend(rows[:, self._rank])
        return [batches[i] for i in rng.permutation(len(batches))]


class SampledBatches(_BucketedBatches):
    """A fixed sample of molecules, cut into batches that do not depend on the number of processes.

    Batches are of one bucket each, the last of a bucket may be smaller.  Every process gets equally
    many, so some may come twice: those with a number (``step * world + rank``) of ``total`` or more
    are to be counted as nothing.

    Args:
        store: the molecules.
        vocabulary: atomic numbers, in the order of the model's element classes.
        buckets: padded sizes; the largest must hold every molecule.
        batch_size: most molecules a batch.
        count: most molecules in all, drawn from the whole store without repeats.
        seed: of the draw.
        rank, world: this process and how many there are.
        topology: batches carry bonds and formal charges too.
    """

    def __init__(
        self,
        store: MoleculeStore,
        *,
        vocabulary: Sequence[int],
        buckets: Sequence[int],
        batch_size: int,
        count: int,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        topology: bool = False,
    ) -> None:
        super().__init__(
            store,
            vocabulary=vocabulary,
            buckets=buckets,
            rank=rank,
            world=world,
            topology=topology,
        )
        drawn = np.random.default_rng(seed).permutation(len(store))[:count]
        self._rows = [
            group[start : start + batch_size]
            for group in self._by_bucket(drawn)
            for start in range(0, len(group), batch_size)
        ]

    @property
    def total(self) -> int:
        """Different batches of all processes together."""
        return len(self._rows)

    @property
    def per_process(self) -> int:
        """Batches each process sees."""
        return -(-self.total // self._world)

    def batch(self, step: int) -> MoleculeBatch:
        """Return batch ``step`` of this process."""
        return self._padded(self._rows[(step * self._world + self._rank) % self.total])


class Gather:
    """Picks molecules out of a store into dense arrays, all at once.

    Args:
        store: the molecules; may be memory-mapped.
        vocabulary: atomic numbers; a molecule with another element is a UserError.
        topology: take bonds and formal charges along; the store must have them, the bonds kekulised
            (see `molbfn.data.topology.with_topology`).
    """

    def __init__(
        self, store: MoleculeStore, vocabulary: Sequence[int], *, topology: bool = False
    ) -> None:
        if topology and (store.bonds is None or store.formal_charges is None):
            raise UserError(f"data set '{store.name}' has no bonds and formal charges")
        self.sizes = store.sizes
        self._store = store
        self._topology = topology
        self._classes = np.full(128, -1, dtype=np.int64)
        self._classes[list(vocabulary)] = np.arange(len(vocabulary))
        unknown = [z for z in store.element_counts() if self._classes[z] < 0]
        if unknown:
            names = ", ".join(symbol(z) for z in unknown)
            raise UserError(
                f"data set '{store.name}' has elements the model does not know: {names}; "
                f"add them to data.elements, or leave those molecules out with "
                f"data.leave_out_others=true"
            )

    def __call__(self, rows: np.ndarray, padded: int) -> MoleculeBatch:
        """Return molecules ``rows`` [B] padded to ``padded`` atoms."""
        sizes = self.sizes[rows]
        slots = np.arange(padded)
        mask = slots[None] < sizes[:, None]
        atoms = np.where(mask, self._store.offsets[rows][:, None] + slots[None], 0)
        positions = self._store.positions[atoms] * mask[..., None]
        positions -= positions.sum(1, keepdims=True) / sizes[:, None, None]
        elements = self._classes[self._store.atomic_numbers[atoms]]
        batch = MoleculeBatch(
            positions=torch.from_numpy((positions * mask[..., None]).astype(np.float32)),
            elements=torch.from_numpy(np.where(mask, elements, 0)),
            mask=torch.from_numpy(mask),
        )
        if not self._topology:
            return batch
        assert self._store.formal_charges is not None
        charges = np.where(mask, self._store.formal_charges[atoms], 0).astype(np.int64)
        return dataclasses.replace(
            batch,
            charges=torch.from_numpy(charges),
            bonds=torch.from_numpy(self._bond_orders(rows, padded)),
        )

    def _bond_orders(self, rows: np.ndarray, padded: int) -> np.ndarray:
        """Return symmetric orders, int64 [B, padded, padded]."""
        assert self._store.bonds is not None
        assert self._store.bond_offsets is not None
        starts = self._store.bond_offsets[rows]
        counts = self._store.bond_offsets[rows + 1] - starts
        places = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        first, second, order = self._store.bonds[places].T
        owner = np.repeat(np.arange(len(rows)), counts)
        orders = np.zeros((len(rows), padded, padded), dtype=np.int64)
        orders[owner, first, second] = orders[owner, second, first] = order
        return orders
