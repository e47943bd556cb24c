"""Dense padded batches, grouped by size, without Python work per molecule.

Molecules are padded to one of a few sizes (buckets), so that a compiled network meets few shapes
and little is wasted: the cost of a molecule grows with the square of its padded size.
"""

from __future__ import annotations

import dataclasses
import warnings
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
        device: torch.device | str,
    ) -> None:
        if len(store) == 0:
            raise UserError(f"data set '{store.name}' has no molecules to train on")
        _check_largest(store, buckets)
        self._gather = Gather(store, vocabulary, topology=topology, device=device)
        self._buckets = tuple(sorted(buckets))
        self._rank, self._world = rank, world

    def _by_bucket(self, rows: np.ndarray) -> list[np.ndarray]:
        """Divide rows of the store by the bucket of their size; none is empty."""
        index = np.searchsorted(self._buckets, self._gather.sizes[rows])
        return [rows[index == b] for b in np.unique(index)]

    def _width(self, rows: np.ndarray) -> int:
        """Return the padded size of rows of one bucket."""
        return bucket_of(int(self._gather.sizes[rows].max()), self._buckets)

    def _on_device(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(rows).to(self._gather.device)


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
        device: where the molecules live and batches are made.
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
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(
            store,
            vocabulary=vocabulary,
            buckets=buckets,
            rank=rank,
            world=world,
            topology=topology,
            device=device,
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
        rows, widths = self._order(epoch)
        return self._gather(rows[position], widths[position])

    def _epoch(self, epoch: int) -> tuple[Tensor, list[int]]:
        """Return the rows of all batches of an epoch, on the device, and their padded sizes."""
        rng = np.random.default_rng([self._seed, epoch])
        per_step = self._batch_size * self._world
        batches: list[np.ndarray] = []
        for members in self._members:
            count = -(-len(members) // per_step)
            rows = np.resize(rng.permutation(members), (count, self._world, self._batch_size))
            batches.extend(rows[:, self._rank])
        ordered = [batches[i] for i in rng.permutation(len(batches))]
        return self._on_device(np.stack(ordered)), [self._width(rows) for rows in ordered]


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
        device: where the molecules live and batches are made.
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
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(
            store,
            vocabulary=vocabulary,
            buckets=buckets,
            rank=rank,
            world=world,
            topology=topology,
            device=device,
        )
        drawn = np.random.default_rng(seed).permutation(len(store))[:count]
        rows = [
            group[start : start + batch_size]
            for group in self._by_bucket(drawn)
            for start in range(0, len(group), batch_size)
        ]
        self._rows = [(self._on_device(each), self._width(each)) for each in rows]

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
        return self._gather(*self._rows[(step * self._world + self._rank) % self.total])


class Gather:
    """Picks molecules out of a store into dense tensors, all at once, on one device.

    The arrays are copied there once (on the CPU they are the store's own).  After that nothing is
    waited for: shapes depend on the call's arguments only.

    Args:
        store: the molecules; may be memory-mapped.
        vocabulary: atomic numbers; a molecule with another element is a UserError.
        topology: take bonds and formal charges along; the store must have them, the bonds kekulised
            (see `molbfn.data.topology.with_topology`).
        device: where the arrays live and batches are made; it must have float64.
    """

    def __init__(
        self,
        store: MoleculeStore,
        vocabulary: Sequence[int],
        *,
        topology: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        if topology and (store.bonds is None or store.formal_charges is None):
            raise UserError(f"data set '{store.name}' has no bonds and formal charges")
        self.sizes = store.sizes
        self.device = torch.device(device)
        classes = np.full(128, -1, dtype=np.int64)
        classes[list(vocabulary)] = np.arange(len(vocabulary))
        unknown = [z for z in store.element_counts() if classes[z] < 0]
        if unknown:
            names = ", ".join(symbol(z) for z in unknown)
            raise UserError(
                f"data set '{store.name}' has elements the model does not know: {names}; "
                f"add them to data.elements, or leave those molecules out with "
                f"data.leave_out_others=true"
            )
        self._classes = self._placed(classes)
        self._starts = self._placed(store.offsets[:-1])
        self._counts = self._placed(store.sizes)
        self._numbers = self._placed(store.atomic_numbers)
        self._positions = self._placed(store.positions)
        self._centres = self._placed(_centres(store))
        self._topology = topology
        if topology:
            assert store.formal_charges is not None
            assert store.bonds is not None
            assert store.bond_offsets is not None
            counts = np.diff(store.bond_offsets)
            self._charges = self._placed(store.formal_charges)
            self._bonds = self._placed(store.bonds)
            self._bond_starts = self._placed(store.bond_offsets[:-1])
            self._bond_counts = self._placed(counts)
            self._most_bonds = int(counts.max(initial=0))

    def __call__(self, rows: np.ndarray | Tensor, padded: int) -> MoleculeBatch:
        """Return molecules ``rows`` [B] padded to ``padded`` atoms."""
        rows = torch.as_tensor(rows, device=self.device)
        slots = torch.arange(padded, device=self.device)
        mask = slots < self._counts[rows][:, None]
        atoms = torch.where(mask, self._starts[rows][:, None] + slots, 0)
        positions = (self._positions[atoms].double() - self._centres[rows][:, None]).float()
        elements = self._classes[self._numbers[atoms].long()]
        batch = MoleculeBatch(
            positions=torch.where(mask[..., None], positions, 0),
            elements=torch.where(mask, elements, 0),
            mask=mask,
        )
        if not self._topology:
            return batch
        charges = torch.where(mask, self._charges[atoms].long(), 0)
        return dataclasses.replace(batch, charges=charges, bonds=self._bond_orders(rows, padded))

    def _bond_orders(self, rows: Tensor, padded: int) -> Tensor:
        """Return symmetric orders, int64 [B, padded, padded].

        Every molecule has as many slots as the one with most bonds.  Those it has no bond for write
        a 0 on the diagonal, where one is already.
        """
        orders = torch.zeros(len(rows), padded * padded, dtype=torch.int64, device=self.device)
        if self._most_bonds:
            slots = torch.arange(self._most_bonds, device=self.device)
            there = slots < self._bond_counts[rows][:, None]
            places = torch.where(there, self._bond_starts[rows][:, None] + slots, 0)
            bonds = torch.where(there[..., None], self._bonds[places].long(), 0)
            first, second, order = bonds.unbind(-1)
            orders.scatter_(1, first * padded + second, order)
            orders.scatter_(1, second * padded + first, order)
        return orders.view(-1, padded, padded)

    def _placed(self, array: np.ndarray) -> Tensor:
        with warnings.catch_warnings():
            # A mapped file cannot be written; nothing here writes.
            warnings.filterwarnings("ignore", message=".*not writable.*")
            return torch.from_numpy(array).to(self.device)


def _centres(store: MoleculeStore) -> np.ndarray:
    """Return the centre of each molecule, float64 [M, 3], of sums in the positions' precision."""
    centres = np.zeros((len(store), 3))
    for size in np.unique(store.sizes):
        rows = np.flatnonzero(store.sizes == size)
        atoms = store.offsets[rows][:, None] + np.arange(size)
        centres[rows] = store.positions[atoms].sum(1) / size
    return centres


def gathered_bytes(store: MoleculeStore) -> int:
    """Return the memory that a :class:`Gather` of these molecules takes on its device, at most."""
    arrays = (
        *(store.positions, store.atomic_numbers, store.formal_charges, store.bonds),
        *(store.offsets, store.sizes, store.bond_offsets, store.bond_offsets),
    )
    centres = 3 * 8 * len(store)
    return centres + sum(array.nbytes for array in arrays if array is not None)
