"""A tiny data set and a tiny model, so that a run of some steps takes a second."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from molbfn.config import Config
from molbfn.data.store import MoleculeStore
from molbfn.training.job import METRICS, TrainingResult, train

SETTINGS = {
    "name": "tiny",
    "data": {"elements": ["H", "C", "O"], "buckets": 2},
    "network": {
        "width": 16,
        "vectors": 4,
        "pair_width": 4,
        "message_width": 8,
        "dots": 2,
        "heads": 2,
        "blocks": 1,
        "distances": 6,
        "time_features": 4,
        "condition_width": 8,
    },
    "training": {
        "steps": 10,
        "batch_size": 4,
        "learning_rate": 0.003,
        "warmup_steps": 2,
        "ema": 0.9,
        "checkpoint_steps": 4,
        "validate_steps": 5,
        "validate_molecules": 8,
        "log_steps": 2,
    },
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> MoleculeStore:
    """30 molecules of 3 to 6 atoms: 20 to train on, 10 to validate with."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(3, 7, 30)
    atoms = int(sizes.sum())
    made = MoleculeStore(
        atomic_numbers=rng.choice([1, 6, 8], atoms).astype(np.int8),
        positions=(1.5 * rng.normal(size=(atoms, 3))).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        split=np.array([0] * 20 + [1] * 10, dtype=np.int8),
    )
    path = tmp_path_factory.mktemp("data") / "tiny.npz"
    made.save(path)
    return MoleculeStore.open(path)


@pytest.fixture
def make_config(store: MoleculeStore) -> Callable[..., Config]:
    """Return the tiny config with other values: ``make_config(training={"steps": 3})``."""

    def make(**sections) -> Config:
        values = {**SETTINGS, "data": {**SETTINGS["data"], "source": str(store.source)}}
        for name, section in sections.items():
            old = values.get(name, {})
            values[name] = {**old, **section} if isinstance(section, dict) else section
        return Config.model_validate(values)

    return make


@pytest.fixture
def run() -> Callable[..., TrainingResult]:
    """Train on one CPU process."""

    def run(config: Config, folder: Path, **options) -> TrainingResult:
        return train(config, folder, accelerator="cpu", **options)

    return run


@pytest.fixture
def curve() -> Callable[[Path], list[dict[str, str]]]:
    """Read a run's log without the one column that depends on the clock."""

    def curve(folder: Path) -> list[dict[str, str]]:
        with (folder / METRICS).open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        for row in rows:
            del row["train/molecules_per_second"]
        return rows

    return curve


@pytest.fixture
def weights() -> Callable[[Path], dict[str, torch.Tensor]]:
    """Load all weights of a checkpoint: averages, raw weights and optimiser moments."""

    def weights(path: Path) -> dict[str, torch.Tensor]:
        checkpoint = torch.load(path, weights_only=True)
        found = {f"average.{k}": v for k, v in checkpoint["state_dict"].items()}
        found |= {f"raw.{k}": v for k, v in checkpoint["current_model_state"].items()}
        for i, state in checkpoint["optimizer_states"][0]["state"].items():
            found |= {f"moment.{i}.{k}": v for k, v in state.items()}
        return found

    return weights
