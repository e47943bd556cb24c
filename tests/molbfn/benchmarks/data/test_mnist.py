import gzip
import lzma
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from molbfn.benchmarks.data import mnist
from molbfn.errors import UserError


def test_idx_of_any_shape(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(
        b"\x00\x00\x08\x02" + b"\x00\x00\x00\x02" + b"\x00\x00\x00\x03" + bytes(range(6))
    )
    assert mnist.read_idx(tmp_path, "x").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01abcd", "not an idx file of bytes"),
        (b"PK", "not an idx file of bytes"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x05abc", "cut short, 3 bytes"),
        (b"\x00\x00\x08\x03\x00\x00", "cut short within its header"),
        (b"\x00\x00\x08\x04" + b"\xff" * 16, "cut short, 0 bytes"),
    ],
)
def test_what_is_no_idx_file(tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match=message):
        mnist.read_idx(tmp_path, "x")


def test_a_damaged_or_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"missing \(with or without .gz\)"):
        mnist.read_idx(tmp_path, "x")
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(100))[:-12])
    with pytest.raises(UserError, match="cannot be read"):
        mnist.read_idx(tmp_path, "x")


def test_parts_do_not_overlap_and_have_the_shape(bench_data):
    data = mnist.load_mnist(bench_data / "mnist")
    assert (len(data.train), len(data.valid), len(data.test)) == (792, 8, 20)
    batch = data.test.take(np.arange(5), torch.Generator().manual_seed(0))
    assert batch.shape == (5, 28, 28)
    assert batch.dtype == torch.int64
    assert set(batch.unique().tolist()) == {0, 1}


def test_binarisation_is_a_bernoulli_draw_of_the_grey_level():
    grey = np.array([0, 51, 128, 255], np.uint8).reshape(1, 1, 4).repeat(1, 1)
    images = mnist.GreyImages(grey)
    generator = torch.Generator().manual_seed(0)
    draws = torch.cat([images.take(np.zeros(1000, np.int64), generator) for _ in range(10)])
    mean = draws.double().mean(0)[0]
    assert mean[0] == 0
    assert mean[3] == 1
    # Four standard errors of 10,000 draws.
    assert abs(mean[1] - 0.2) < 4 * 0.4 / 100
    assert abs(mean[2] - 128 / 255) < 4 * 0.5 / 100


def test_fixed_binarisation_is_fixed(tmp_path):
    bits = np.zeros((70_000, 784), np.uint8)
    bits[50_003] = np.random.default_rng(0).integers(0, 2, 784)
    with lzma.open(tmp_path / mnist.STATIC, "wb", preset=0) as stream:
        stream.write(np.packbits(bits, axis=1).tobytes())
    data = mnist.load_mnist(tmp_path, binarisation="static")
    assert (len(data.train), len(data.valid), len(data.test)) == (50_000, 10_000, 10_000)
    batch = data.valid.take(np.array([3, 3]), torch.Generator())
    assert np.array_equal(batch[0].numpy().reshape(-1), bits[50_003])
    assert torch.equal(batch[0], batch[1])


@pytest.mark.parametrize("size", [99, 98 * 60_000])
def test_a_fixed_set_of_another_size(tmp_path, size):
    with lzma.open(tmp_path / mnist.STATIC, "wb", preset=0) as stream:
        stream.write(bytes(size))
    with pytest.raises(UserError, match=f"{size} bytes, expected 70,000 images of 98 bytes"):
        mnist.read_static(tmp_path / mnist.STATIC)


def test_an_idx_file_of_something_else(tmp_path):
    (tmp_path / mnist.TRAIN_IMAGES).write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x02ab")
    with pytest.raises(UserError, match=r"shape \(2,\), expected \[N, 28, 28\]"):
        mnist.load_mnist(tmp_path)


def test_the_real_files():
    root = os.environ.get("MOLBFN_DATA")
    folder = Path(root or "../shared/data") / "mnist"
    if not (folder / f"{mnist.TEST_LABELS}.gz").is_file():
        pytest.skip("MNIST is not on this machine")
    images = mnist.read_idx(folder, mnist.TEST_IMAGES)
    assert images.shape == (10_000, 28, 28)
    # Facts of the published test set.
    assert abs(images.mean() / 255 - 0.1325) < 1e-3
    assert np.bincount(mnist.read_idx(folder, mnist.TEST_LABELS)).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
