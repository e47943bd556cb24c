import hashlib

import numpy as np
import pytest
import torch

from molbfn.benchmarks.data import mnist, text8
from molbfn.benchmarks.data.cifar10 import ColourImages
from molbfn.benchmarks.data.samples import ShuffledBatches, hold_out, in_order


class Numbers:
    """Sample k is k, plus noise below a half."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def take(self, index, generator):
        return torch.from_numpy(index) + 0.5 * torch.rand(len(index), generator=generator)


def test_an_epoch_has_each_sample_once_over_all_processes():
    parts = [ShuffledBatches(Numbers(24), batch_size=4, seed=1, rank=r, world=2) for r in (0, 1)]
    assert parts[0].batches_per_epoch == 3
    for epoch in (0, 1):
        seen = torch.cat([p.batch(3 * epoch + k) for p in parts for k in range(3)])
        assert sorted(seen.floor().int().tolist()) == list(range(24))


def test_processes_share_what_one_would_see():
    one = ShuffledBatches(Numbers(24), batch_size=4, seed=1)
    parts = [ShuffledBatches(Numbers(24), batch_size=4, seed=1, rank=r, world=2) for r in (0, 1)]
    for number in range(6):
        assert torch.equal(parts[number % 2].batch(number // 2), one.batch(number))


def test_a_batch_depends_on_its_number_alone():
    one, other = (ShuffledBatches(Numbers(20), batch_size=5, seed=3) for _ in range(2))
    history = [one.batch(k) for k in range(9)]
    assert torch.equal(other.batch(6), history[6])
    assert torch.equal(other.batch(2), history[2])
    assert not torch.equal(history[0].floor(), history[4].floor())  # another epoch, another order
    assert len({float(batch.frac().sum()) for batch in history}) == 9  # fresh noise each time
    assert not torch.equal(ShuffledBatches(Numbers(20), batch_size=5, seed=4).batch(2), history[2])


def test_too_few_samples_for_a_batch():
    with pytest.raises(ValueError, match="3 samples do not fill a batch of 4"):
        ShuffledBatches(Numbers(3), batch_size=2, seed=0, world=2)


def test_in_order_leaves_nothing_out():
    batches = list(in_order(Numbers(7), 3, torch.Generator().manual_seed(0)))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert torch.cat(batches).floor().tolist() == list(range(7))


def test_hold_out_is_a_partition_that_never_changes():
    kept, held = hold_out(1000, 0.01)
    assert len(held) == 10
    assert np.array_equal(np.sort(np.concatenate([kept, held])), np.arange(1000))
    assert np.array_equal(hold_out(1000, 0.01)[1], held)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (mnist.GreyImages, (3, 28, 28)),
        (mnist.BinaryImages, (3, 28, 28)),
        (lambda pixels: ColourImages(pixels, bins=16, centres=True), (3, 32, 32, 3)),
        (lambda codes: text8.RandomCrops(codes, 5), (30,)),
        (lambda codes: text8.Blocks(codes, 5), (30,)),
    ],
)
def test_a_digest_is_of_what_the_samples_are(make, shape):
    values = np.random.default_rng(0).integers(0, 2, shape).astype(np.uint8)
    digest = make(values).digest()
    expected = hashlib.sha256(b"samples" + values.tobytes()).hexdigest()[:16]
    assert digest == make(values.copy(order="F")).digest() == expected
    values[-1] ^= 1
    assert make(values).digest() != digest
