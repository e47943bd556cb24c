"""Averaged weights are what is saved; progress is shown without noise."""

from __future__ import annotations

import io
import math
import sys

import pytest
import torch

from molbfn.model import load_model
from molbfn.training.callbacks import describe
from molbfn.training.module import TrainingModule


@pytest.fixture
def seen_weights(monkeypatch) -> list[dict[str, torch.Tensor]]:
    """Record the network's own weights after each step."""
    found: list[dict[str, torch.Tensor]] = []

    def record(module: TrainingModule, *_) -> None:
        state = module.model.network.state_dict()
        found.append({name: value.clone() for name, value in state.items()})

    monkeypatch.setattr(TrainingModule, "on_train_batch_end", record)
    return found


def average(history: list[dict[str, torch.Tensor]], decay: float) -> dict[str, torch.Tensor]:
    """The recursion in float64: the first weights, then a memory that grows up to ``decay``."""
    mean = {name: value.double() for name, value in history[0].items()}
    for k, weights in enumerate(history[1:], start=1):
        keep = min(decay, (1 + k) / (10 + k))
        mean = {name: keep * mean[name] + (1 - keep) * weights[name].double() for name in mean}
    return mean


@pytest.mark.parametrize("decay", [0.9, 0.3])
def test_saved_weights_are_the_average(
    run, make_config, tmp_path, seen_weights, weights, decay: float
):
    # A high learning rate, so that the average is far from the last weights.
    config = make_config(training={"ema": decay, "learning_rate": 0.05, "decay_fraction": 0})
    run(config, tmp_path / "run")
    expected = average(seen_weights, decay)
    saved = load_model(tmp_path / "run" / "model").network.state_dict()
    checkpoint = weights(tmp_path / "run" / "last.ckpt")
    distance = 0.0
    for name, value in expected.items():
        torch.testing.assert_close(saved[name].double(), value.double(), rtol=1e-5, atol=1e-6)
        assert torch.equal(checkpoint[f"average.model.network.{name}"], saved[name])
        assert torch.equal(checkpoint[f"raw.model.network.{name}"], seen_weights[-1][name])
        distance = max(distance, float((value - seen_weights[-1][name]).abs().max()))
    assert distance > 1e-3


def test_validation_uses_the_average_and_gives_the_weights_back(
    run, make_config, tmp_path, monkeypatch
):
    during: list[torch.Tensor] = []
    around: list[torch.Tensor] = []
    step = TrainingModule.validation_step

    def spy(module, *args):
        during.append(module.model.network.elements_out.weight.detach().clone())
        return step(module, *args)

    def record(module, *_):
        around.append(module.model.network.elements_out.weight.detach().clone())

    monkeypatch.setattr(TrainingModule, "validation_step", spy)
    monkeypatch.setattr(TrainingModule, "on_train_batch_end", record)
    monkeypatch.setattr(TrainingModule, "on_train_batch_start", record)
    run(make_config(training={"learning_rate": 0.05, "steps": 8}), tmp_path / "run")
    # around: before step 1, after step 1, ...: validation ran after step 5 (and none later).
    assert not torch.equal(during[0], around[9])
    assert torch.equal(around[9], around[10])


def test_output_is_ours_alone(run, make_config, tmp_path, capfd):
    run(make_config(), tmp_path / "run")
    captured = capfd.readouterr()
    lines = [line for line in (captured.out + captured.err).splitlines() if line.strip()]
    assert lines
    assert all(line.startswith("step ") for line in lines)
    assert lines[-1].startswith("step 10/10  loss ")
    assert "valid" in lines[-1]
    assert "molecules/s" in lines[-1]


def test_describe():
    row = {"train/loss": 1.0, "train/positions": 0.5, "train/elements": 0.25}
    assert describe(row) == "loss 1.000  positions 0.500  elements 0.250"
    row |= {"valid/loss": 2.0, "train/bad_steps": 3.0, "train/molecules_per_second": 99.6}
    assert describe(row).endswith("valid 2.000  skipped 3  100 molecules/s")
    assert describe({}) == ""
    assert "nan" in describe({"train/loss": math.nan})


def test_progress_that_nobody_reads_does_not_end_the_run(run, make_config, tmp_path, monkeypatch):
    class Gone(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    assert run(make_config(), tmp_path / "run").steps == 10
