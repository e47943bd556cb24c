import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from molbfn.benchmarks.data import cifar10
from molbfn.errors import UserError


@pytest.fixture
def image():
    """One image whose every channel and pixel differs from its neighbours."""
    return np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)


def planes(image: np.ndarray) -> np.ndarray:
    return np.stack([image[..., c].reshape(len(image), -1) for c in range(3)], 1).reshape(
        len(image), -1
    )


def test_three_forms_give_the_same_image(tmp_path, image):
    (tmp_path / "p").mkdir()
    content = {b"data": planes(image), b"labels": [7]}
    (tmp_path / "p" / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    (tmp_path / "b" / "cifar-10-batches-bin").mkdir(parents=True)
    (tmp_path / "b" / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(
        bytes([7]) + planes(image).tobytes()
    )
    for form in ("p", "b"):
        assert np.array_equal(cifar10.read_batch(tmp_path / form, "test_batch"), image)
        assert cifar10.read_labels(tmp_path / form, "test_batch").tolist() == [7]


def test_strips(tmp_path, image):
    pillow = pytest.importorskip("PIL.Image")
    both = np.concatenate([image, image[:, ::-1]])
    with zipfile.ZipFile(tmp_path / "cifar10_test_batch.zip", "w") as archive:
        for k, one in enumerate(both):
            stream = io.BytesIO()
            pillow.fromarray(one).save(stream, format="WEBP", lossless=True)
            archive.writestr(f"{k:02}.webp", stream.getvalue())
    assert np.array_equal(cifar10.read_batch(tmp_path, "test_batch"), both)
    np.save(tmp_path / "cifar10_labels.npy", np.arange(60_000) % 10)
    assert len(cifar10.read_labels(tmp_path, "test_batch")) == 10_000


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize(
    "content", [Harmful(), {b"data": Harmful()}, {b"data": np.dtype("O")}, [1]]
)
def test_a_pickle_never_runs_code(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UserError, match="not a batch of CIFAR-10"):
        cifar10.read_batch(tmp_path, "test_batch")
    assert not (tmp_path / "harm").exists()


def test_bins_and_centres():
    levels = np.array([0, 15, 16, 255], np.uint8).reshape(4, 1, 1, 1)
    take = np.arange(4)
    images = cifar10.ColourImages(levels, bins=16, centres=False)
    assert images.take(take, torch.Generator()).flatten().tolist() == [0, 0, 1, 15]
    centres = cifar10.ColourImages(levels, bins=16, centres=True).take(take, torch.Generator())
    # Bins of width 1/8 on [-1, 1].
    assert centres.flatten().tolist() == [-0.9375, -0.9375, -0.8125, 0.9375]
    whole = cifar10.ColourImages(levels, bins=256, centres=False)
    assert whole.take(take, torch.Generator()).flatten().tolist() == [0, 15, 16, 255]


def test_parts(bench_data):
    data = cifar10.load_cifar10(bench_data / "cifar10", bins=16)
    assert (len(data.train), len(data.valid), len(data.test)) == (396, 4, 80)
    assert data.label == "CIFAR-10, 16 bins"
    assert data.test.take(np.arange(3), torch.Generator()).shape == (3, 32, 32, 3)


def test_a_pickle_cut_or_damaged_anywhere_is_a_message(tmp_path):
    """Not a traceback: a damaged pickle raises almost anything."""
    content = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 2]}
    whole = pickle.dumps(content, protocol=2)
    path, rng = tmp_path / "test_batch", np.random.default_rng(0)
    for number in range(200):
        data = bytearray(whole[: rng.integers(1, len(whole))] if number % 2 else whole)
        if not number % 2:
            data[rng.integers(120)] = rng.integers(256)
        path.write_bytes(data)
        for read in (cifar10.read_batch, cifar10.read_labels):
            with contextlib.suppress(UserError):
                read(tmp_path, "test_batch")


def test_a_missing_or_cut_batch(tmp_path):
    with pytest.raises(UserError, match="has no CIFAR-10 batch test_batch"):
        cifar10.read_batch(tmp_path, "test_batch")
    (tmp_path / "test_batch.bin").write_bytes(bytes(3000))
    with pytest.raises(UserError, match="not a batch of CIFAR-10"):
        cifar10.read_batch(tmp_path, "test_batch")
    with pytest.raises(UserError, match="no labels of test_batch"):
        cifar10.read_labels(tmp_path / "nowhere", "test_batch")


def test_the_real_strips():
    folder = Path(os.environ.get("MOLBFN_DATA") or "../shared/data") / "cifar10"
    if not (folder / "cifar10_test_batch.zip").is_file():
        pytest.skip("CIFAR-10 is not on this machine")
    pytest.importorskip("PIL")
    images = cifar10.read_batch(folder, "test_batch")
    assert images.shape == (10_000, 32, 32, 3)
    labels = cifar10.read_labels(folder, "test_batch")
    assert np.bincount(labels).tolist() == [1000] * 10
    # The first test image is the published cat.
    assert labels[0] == 3
