"""A model small enough to sample in milliseconds; its weights are random."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    """Hear Ctrl-C also where the tests run in the background of a shell that switched it off."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def make_tiny_model():
    """Return a function that builds a model from keyword changes of its config."""
    import torch

    from molbfn.config import ModelConfig
    from molbfn.model import ModelInfo, MoleculeModel

    def make(**changes):
        values = {
            "name": "tiny",
            "network": {
                "kind": "transformer",
                "width": 16,
                "vectors": 8,
                "pair_width": 8,
                "message_width": 8,
                "dots": 4,
                "heads": 2,
                "blocks": 2,
                "distances": 8,
                "time_features": 4,
                "condition_width": 8,
            },
            "sampling": {"steps": 4},
        }
        info = ModelInfo(
            config=ModelConfig.model_validate({**values, **changes}),
            buckets=(6, 12),
            sizes={4: 30, 6: 50, 9: 15, 12: 5},
            provenance={"data": "none: the weights are random"},
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return MoleculeModel(info).eval()

    return make


@pytest.fixture(scope="session")
def tiny_model(make_tiny_model):
    return make_tiny_model()


@pytest.fixture(scope="session")
def tiny_model_folder(tiny_model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model.save(folder)
    return folder
