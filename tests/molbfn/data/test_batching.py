"""Batches: exact padding, every molecule each epoch, the same order wherever one enters."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from molbfn.data.batching import (
    DenseBatches,
    Gather,
    MoleculeBatch,
    SampledBatches,
    bucket_of,
    choose_buckets,
    pair_mask,
)
from molbfn.data.store import MoleculeStore
from molbfn.errors import UserError

VOCABULARY = (6, 1, 8)  # not in order, so that a class is not the atomic number


def make_store(sizes: list[int], *, seed: int = 0) -> MoleculeStore:
    """Molecule i is at x = i (times 100) before centring, so that it can be told again."""
    rng = np.random.default_rng(seed)
    atoms = sum(sizes)
    return MoleculeStore(
        atomic_numbers=rng.choice(VOCABULARY, atoms).astype(np.int8),
        positions=rng.normal(size=(atoms, 3)).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        name="made",
    )


def make_batches(store: MoleculeStore, **options) -> DenseBatches:
    settings = {"vocabulary": VOCABULARY, "buckets": (4, 7), "batch_size": 4} | options
    return DenseBatches(store, **settings)


def who(store: MoleculeStore, batch: MoleculeBatch) -> list[int]:
    """Find each molecule of a batch in the store, by its distances from its centre."""
    keys = {}
    for i in range(len(store)):
        x = np.asarray(store.positions[store.offsets[i] : store.offsets[i + 1]], dtype=np.float64)
        keys[i] = np.linalg.norm(x - x.mean(0), axis=1).sum()
    found = []
    for x, mask in zip(batch.positions.double().numpy(), batch.mask.numpy(), strict=True):
        key = np.linalg.norm(x[mask], axis=1).sum()
        found.append(min(keys, key=lambda i: abs(keys[i] - key)))
        assert abs(keys[found[-1]] - key) < 1e-4
    return found


def epoch(store: MoleculeStore, batches: DenseBatches, number: int = 0) -> list[list[int]]:
    count = batches.batches_per_epoch
    return [who(store, batches.batch(number * count + i)) for i in range(count)]


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=30),
    count=st.integers(1, 6),
)
def test_buckets_cost_least(sizes: list[int], count: int):
    def cost(buckets: tuple[int, ...]) -> int:
        return sum(min(b for b in buckets if b >= size) ** 2 for size in sizes)

    values = sorted(set(sizes))
    chosen = choose_buckets(np.array(sizes), count)
    best = min(
        cost((*some, values[-1]))
        for k in range(min(count, len(values)))
        for some in itertools.combinations(values[:-1], k)
    )
    assert cost(chosen) == best
    assert len(chosen) <= count
    assert list(chosen) == sorted(set(chosen))


def test_bucket_of():
    assert [bucket_of(n, (9, 4)) for n in (1, 4, 5, 9)] == [4, 4, 9, 9]
    assert bucket_of(10, (4, 9)) == 10


def test_gather_is_exact():
    store = make_store([3, 5, 2])
    batch = Gather(store, VOCABULARY)(np.array([2, 0, 2]), 6)
    assert batch.mask.tolist() == [[i < n for i in range(6)] for n in (2, 3, 2)]
    assert (batch.positions.dtype, batch.elements.dtype) == (torch.float32, torch.int64)
    for row, i in enumerate((2, 0, 2)):
        atoms = slice(store.offsets[i], store.offsets[i + 1])
        x = store.positions[atoms].astype(np.float64)
        n = len(x)
        np.testing.assert_allclose(batch.positions[row, :n], x - x.mean(0), atol=1e-6)
        numbers = [VOCABULARY[k] for k in batch.elements[row, :n]]
        assert numbers == store.atomic_numbers[atoms].tolist()
        assert (batch.positions[row, n:] == 0).all()
        assert (batch.elements[row, n:] == 0).all()


def test_gather_does_not_change_the_store():
    store = make_store([3, 5])
    before = store.positions.copy()
    Gather(store, VOCABULARY)(np.array([0, 1]), 5)
    np.testing.assert_array_equal(store.positions, before)


def test_gather_reads_a_mapped_file(tmp_path):
    store = make_store([3, 5, 2])
    store.save(tmp_path / "made.npz")
    mapped = MoleculeStore.open(tmp_path / "made.npz")
    rows = np.array([1, 2, 0])
    left, right = (Gather(each, VOCABULARY)(rows, 5) for each in (store, mapped))
    assert torch.equal(left.positions, right.positions)
    assert torch.equal(left.elements, right.elements)


def test_gather_places_bonds_and_charges():
    store = dataclasses.replace(
        make_store([3, 5, 2]),
        formal_charges=np.array([1, 0, -1, 0, 0, 2, 0, 0, 0, -2], dtype=np.int8),
        bonds=np.array([(0, 1, 2), (1, 2, 1), (0, 4, 3), (1, 0, 1)], dtype=np.int32),
        bond_offsets=np.array([0, 2, 3, 4]),
    )
    batch = Gather(store, VOCABULARY, topology=True)(np.array([2, 0, 1]), 6)
    assert batch.charges.tolist() == [
        [0, -2, 0, 0, 0, 0], [1, 0, -1, 0, 0, 0], [0, 0, 2, 0, 0, 0],
    ]  # fmt: skip
    expected = torch.zeros(3, 6, 6, dtype=torch.int64)
    for row, i, j, order in [(0, 0, 1, 1), (1, 0, 1, 2), (1, 1, 2, 1), (2, 0, 4, 3)]:
        expected[row, i, j] = expected[row, j, i] = order
    assert torch.equal(batch.bonds, expected)
    moved = batch.to("meta")
    assert moved.bonds.device.type == moved.charges.device.type == "meta"


def test_gather_of_a_molecule_without_bonds():
    store = dataclasses.replace(
        make_store([1, 1]),
        formal_charges=np.zeros(2, dtype=np.int8),
        bonds=np.empty((0, 3), dtype=np.int32),
        bond_offsets=np.zeros(3, dtype=np.int64),
    )
    assert not Gather(store, VOCABULARY, topology=True)(np.array([1, 0]), 2).bonds.any()


def test_bonds_that_are_not_there_are_missed():
    with pytest.raises(UserError, match=r"'made' has no bonds and formal charges"):
        Gather(make_store([3]), VOCABULARY, topology=True)


def test_each_pair_once():
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    pairs = pair_mask(mask)
    assert pairs.nonzero().tolist() == [[0, 0, 1], [0, 0, 2], [0, 1, 2]]


def test_unknown_elements_are_named():
    with pytest.raises(UserError, match=r"'made' has elements the model does not know: C, O;"):
        Gather(make_store([30]), (1, 7))


@pytest.mark.parametrize("sizes", [[3] * 4 + [6] * 8, [3] * 5 + [6] * 9, [2], [7, 7, 7, 1]])
@pytest.mark.parametrize("world", [1, 2])
def test_each_molecule_in_each_epoch(sizes: list[int], world: int):
    store = make_store(sizes)
    ranks = [make_batches(store, rank=rank, world=world) for rank in range(world)]
    for number in (0, 1):
        seen = Counter(i for batches in ranks for b in epoch(store, batches, number) for i in b)
        assert set(seen) == set(range(len(sizes)))


def test_full_buckets_repeat_nothing():
    store = make_store([3] * 8 + [6] * 16)
    seen = Counter(
        i
        for rank in range(2)
        for batch in epoch(store, make_batches(store, rank=rank, world=2))
        for i in batch
    )
    assert set(seen.values()) == {1}


def test_a_part_batch_is_filled_from_the_start_of_its_bucket():
    store = make_store([3] * 6)
    first, second = sorted(epoch(store, make_batches(store)), key=lambda b: len(set(b)))
    repeated = set(first) & set(second)
    assert len(set(first) | set(second)) == 6
    assert len(repeated) == 2
    assert len(first) == len(second) == 4


def test_batches_are_of_one_bucket_and_full():
    sizes = [2, 3, 4, 5, 6, 7] * 3
    store = make_store(sizes)
    batches = make_batches(store)
    widths = set()
    for step in range(batches.batches_per_epoch):
        batch = batches.batch(step)
        width = batch.mask.shape[1]
        widths.add(width)
        assert len(batch.mask) == 4
        assert all(bucket_of(int(n), (4, 7)) == width for n in batch.mask.sum(1))
    assert widths == {4, 7}


def test_ranks_see_different_molecules_at_the_same_width():
    store = make_store([3] * 16 + [6] * 16)
    left, right = (make_batches(store, rank=rank, world=2) for rank in range(2))
    for step in range(left.batches_per_epoch):
        one, two = left.batch(step), right.batch(step)
        assert one.mask.shape == two.mask.shape
        assert not set(who(store, one)) & set(who(store, two))


def test_any_step_can_be_entered():
    store = make_store([3] * 9 + [6] * 9)
    forward, jumped = make_batches(store), make_batches(store)
    steps = range(3 * forward.batches_per_epoch)
    ahead = [forward.batch(step).positions for step in steps]
    for step in reversed(steps):
        assert torch.equal(jumped.batch(step).positions, ahead[step])


def test_order_depends_on_seed_and_epoch():
    store = make_store([3] * 40)
    batches = make_batches(store)
    orders = [epoch(store, batches, 0), epoch(store, batches, 1)]
    orders.append(epoch(store, make_batches(store, seed=1)))
    assert orders[0] == epoch(store, make_batches(store))
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_a_molecule_beyond_the_buckets_is_refused():
    with pytest.raises(UserError, match=r"data.buckets: the largest bucket is 7 .* of 9; add"):
        make_batches(make_store([3, 9]))


def test_an_empty_store_is_refused():
    with pytest.raises(UserError, match="no molecules"):
        make_batches(make_store([]))


def test_to_moves_everything():
    batch = Gather(make_store([3]), VOCABULARY)(np.array([0]), 4).to("meta")
    assert {t.device.type for t in (batch.positions, batch.elements, batch.mask)} == {"meta"}


def test_a_sample_has_the_sizes_of_the_whole():
    store = make_store([3] * 100 + [4] * 300 + [6] * 200)
    made = SampledBatches(store, vocabulary=VOCABULARY, buckets=(4, 7), batch_size=16, count=300)
    batches = [made.batch(step) for step in range(made.total)]
    counts = Counter(size for batch in batches for size in batch.mask.sum(1).tolist())
    assert sum(counts.values()) == 300
    for size, share in ((3, 50), (4, 150), (6, 100)):
        assert counts[size] == pytest.approx(share, abs=30)
    assert {batch.mask.shape[1] for batch in batches} == {4, 7}


def test_a_sample_of_molecules_beyond_the_buckets_is_refused():
    with pytest.raises(UserError, match="largest bucket is 4 atoms"):
        SampledBatches(
            make_store([3, 5]), vocabulary=VOCABULARY, buckets=(4,), batch_size=2, count=2
        )


def test_batches_are_made_where_the_molecules_live():
    """On a device without numbers, a step that had to wait for one would fail."""
    store = dataclasses.replace(
        make_store([3, 5, 2]),
        formal_charges=np.zeros(10, dtype=np.int8),
        bonds=np.array([(0, 1, 2), (0, 4, 3)], dtype=np.int32),
        bond_offsets=np.array([0, 1, 2, 2]),
    )
    options = {"vocabulary": VOCABULARY, "buckets": (7,), "batch_size": 2, "topology": True}
    for batches in (
        DenseBatches(store, **options, device="meta"),
        SampledBatches(store, **options, count=3, device="meta"),
    ):
        batch = batches.batch(0)
        assert {value.device.type for value in vars(batch).values()} == {"meta"}
        assert batch.positions.shape == (2, 7, 3)
        assert batch.bonds.shape == (2, 7, 7)
