"""Synthetic data in the benchmarks' file formats, and models that run in milliseconds."""

from __future__ import annotations

import gzip
import lzma
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from molbfn.benchmarks.config import BenchConfig
from molbfn.benchmarks.data import mnist
from molbfn.benchmarks.data.text8 import SYMBOLS
from molbfn.benchmarks.model import BenchInfo, BenchModel
from molbfn.config_file import bundled_configs, read_config

TINY = {
    "patch_unet": {"width": 8, "inner_width": 8, "blocks": 1, "inner_blocks": 1,
                   "condition_width": 8},
    "binary_unet": {"width": 32},
    "deep_unet": {"width": 32, "blocks": 2},
    "text_transformer": {"width": 16, "layers": 2, "heads": 2},
    "text_unet": {"width": 8, "inner_width": 8, "blocks": 1, "inner_blocks": 1, "heads": 2,
                  "condition_width": 8},
}  # fmt: skip


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def bench_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a little of each benchmark, random, in the official formats."""
    root, rng = tmp_path_factory.mktemp("bench"), np.random.default_rng(0)
    for name in ("mnist", "cifar10", "text8"):
        (root / name).mkdir()
    for images, labels, count in (
        (mnist.TRAIN_IMAGES, mnist.TRAIN_LABELS, 800),
        (mnist.TEST_IMAGES, mnist.TEST_LABELS, 20),
    ):
        grey = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        (root / "mnist" / f"{images}.gz").write_bytes(gzip.compress(idx(grey)))
        classes = rng.integers(0, 10, count).astype(np.uint8)
        (root / "mnist" / labels).write_bytes(idx(classes))
    for name in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5",
                 "test_batch"):  # fmt: skip
        rows = rng.integers(0, 256, (80, 3072)).astype(np.uint8)
        content = {b"data": rows, b"labels": rng.integers(0, 10, 80).tolist()}
        (root / "cifar10" / name).write_bytes(pickle.dumps(content, protocol=2))
    letters = np.frombuffer(SYMBOLS.encode(), np.uint8)
    text = letters[rng.integers(0, 27, 4000)].tobytes()
    with lzma.open(root / "text8" / "text8_prefix4000.xz", "wb") as stream:
        stream.write(text)
    return root


@pytest.fixture
def here(bench_data: Path, monkeypatch, tmp_path) -> Path:
    """Make the synthetic data the only ones on this machine."""
    from molbfn.benchmarks.data import files

    monkeypatch.setattr(files, "data_dirs", lambda: iter([bench_data]))
    monkeypatch.chdir(tmp_path)
    return bench_data


@pytest.fixture
def tiny_config() -> Callable[..., BenchConfig]:
    """Return a bundled config with a tiny network and few, quick steps."""

    def make(name: str = "mnist_small", *overrides: str) -> BenchConfig:
        bundled = bundled_configs("bench")
        network = read_config(BenchConfig, name, bundled=bundled).network
        changes = [f"network.{key}={value}" for key, value in TINY[network.kind].items()]
        if getattr(network, "prior", None) is not None:
            changes += ["network.prior.states=200", "network.prior.order=3"]
        training = {
            "steps": 3, "batch_size": 4, "warmup_steps": 0, "precision": "fp32",
            "compile": "false", "validate_steps": 2, "validate_samples": 4, "log_steps": 1,
        }  # fmt: skip
        changes += [f"training.{key}={value}" for key, value in training.items()]
        return read_config(BenchConfig, name, [*changes, *overrides], bundled=bundled)

    return make


@pytest.fixture
def tiny_model(tiny_config) -> Callable[..., BenchModel]:
    """Return a model of such a config, weights random (also the zero-initialised ones)."""

    def make(name: str = "mnist_small", *overrides: str) -> BenchModel:
        info = BenchInfo(config=tiny_config(name, *overrides).model(), provenance={"steps": 0})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = BenchModel(info)
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter, std=0.1)
        return model.eval()

    return make
