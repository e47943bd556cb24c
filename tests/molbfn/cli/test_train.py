import os

import pytest
import safetensors.torch
import yaml

from molbfn.training import job


@pytest.fixture
def config(tmp_path, water, molbfn):
    """A config file for a model of water; the data set is beside it."""
    many = tmp_path / "many.sdf"
    many.write_text(20 * water.read_text())
    assert molbfn("data", "prepare", many, "-o", tmp_path / "water.npz").code == 0
    network = {
        "width": 8, "vectors": 2, "pair_width": 2, "message_width": 4, "dots": 2, "heads": 2,
        "blocks": 1, "distances": 4, "time_features": 2, "condition_width": 4,
    }  # fmt: skip
    values = {
        "name": "wet",
        "data": {"source": str(tmp_path / "water.npz"), "elements": ["H", "O"], "buckets": 1},
        "network": network,
        "training": {"steps": 3, "batch_size": 4, "warmup_steps": 0, "checkpoint_steps": 3},
        "sampling": {"steps": 2},
    }
    path = tmp_path / "wet.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_from_a_config_to_molecules(molbfn, config, tmp_path):
    folder = tmp_path / "run"
    result = molbfn("train", config, "-o", folder, "--device", "cpu", "--set", "training.steps=2")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0] == f"{folder}: 2 of 2 steps"
    assert f"  model: {folder / 'model'}" in lines
    assert lines[-1].startswith(f"next: molbfn generate --model {folder / 'model'}")
    made = molbfn("generate", "-m", folder / "model", "-n", 2, "-o", tmp_path / "out.xyz")
    assert made.code == 0, made.err


def test_geobfns_network_learns_and_generates_bonds(molbfn, config, tmp_path):
    values = yaml.safe_load(config.read_text())
    values |= {"network": {"kind": "egnn", "hidden": 8, "layers": 2}, "bonds": {}, "charges": {}}
    config.write_text(yaml.safe_dump(values))
    result = molbfn("train", config, "-o", tmp_path / "run", "--device", "cpu")
    assert result.code == 0, result.err
    weights = safetensors.torch.load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert weights["blocks.0.edge_in.bonds.weight"].any()  # zero before the first step
    made = molbfn("generate", "-m", tmp_path / "run" / "model", "-n", 2, "-o", tmp_path / "out.sdf")
    assert made.code == 0, made.err
    assert "bonds   generated" in made.err + made.out
    assert (tmp_path / "out.sdf").read_text().count("$$$$") == 2


def test_an_interrupted_run_says_how_to_go_on(molbfn, config, tmp_path, monkeypatch):
    def interrupted(settings, folder, **_):
        return job.TrainingResult(
            folder / "model", folder / "last.ckpt", steps=1, metrics={}, interrupted=True
        )

    monkeypatch.setattr(job, "train", interrupted)
    result = molbfn("train", config, "-o", tmp_path / "run")
    assert result.code == 130
    assert result.out.startswith(f"{tmp_path / 'run'}: 1 of 3 steps")
    assert "--resume goes on" in result.err
    assert "Traceback" not in result.err


def test_a_leg_that_ends_for_lack_of_time_has_its_own_exit_code(molbfn, config, tmp_path):
    """So that a shell can repeat the command while it ends so, and not after Ctrl-C."""
    words = ("train", config, "-o", tmp_path / "run", "--device", "cpu", "--resume")
    legs = [molbfn(*words, "--set", "training.minutes=1e-9") for _ in range(3)]
    assert [leg.code for leg in legs] == [75, 75, 0]
    assert [leg.out.splitlines()[0] for leg in legs] == [
        f"{tmp_path / 'run'}: {step} of 3 steps" for step in (1, 2, 3)
    ]
    assert "--resume goes on" in legs[0].err
    assert "next: molbfn generate" in legs[2].out


@pytest.mark.parametrize("first", [True, False])
def test_bench_ends_for_lack_of_time_alike(molbfn, tmp_path, monkeypatch, first: bool):
    from molbfn.benchmarks import training

    def stopped(settings, folder, **_):
        files = folder / "model", folder / "last.ckpt"
        return job.TrainingResult(
            *files, steps=3, metrics={}, interrupted=True, out_of_time=True, first=first
        )

    monkeypatch.setattr(training, "train", stopped)
    assert molbfn("bench", "train", "mnist_small", "-o", tmp_path / "run").code == 75


@pytest.mark.parametrize("command", ["molbfn", "bench"])
def test_only_the_first_process_speaks(molbfn, config, tmp_path, monkeypatch, command: str):
    from molbfn.benchmarks import training

    def other(settings, folder, **_):
        return job.TrainingResult(
            folder / "model", folder / "last.ckpt", steps=3, metrics={}, first=False
        )

    monkeypatch.setattr(job, "train", other)
    monkeypatch.setattr(training, "train", other)
    words = ("train", config) if command == "molbfn" else ("bench", "train", "mnist_small")
    result = molbfn(*words, "-o", tmp_path / "run")
    assert (result.code, result.out) == (0, "")


def test_options_reach_the_job(molbfn, config, tmp_path, monkeypatch):
    seen = {}

    def train(settings, folder, **options):
        seen.update(options, folder=folder, steps=settings.training.steps)
        return job.TrainingResult(folder / "model", folder / "last.ckpt", steps=5, metrics={})

    monkeypatch.setattr(job, "train", train)
    monkeypatch.chdir(tmp_path)
    molbfn("train", config, "--resume", "--device", "cpu", "--devices", 2, "--nodes", 3)
    assert (seen["resume"], seen["accelerator"], seen["devices"], seen["nodes"]) == (
        *(True, "cpu", 2, 3),
    )
    assert str(seen["folder"]) == "runs/wet"


@pytest.mark.parametrize("words", [("train", "demo"), ("bench", "train", "mnist_small")])
def test_print_config_shows_all_keys_and_trains_nothing(molbfn, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    result = molbfn(*words, "--print-config", "--set", "training.steps=7")
    assert (result.code, result.err) == (0, "")
    values = yaml.safe_load(result.out)
    assert values["training"]["steps"] == 7
    assert "optimiser steps; at least 1; default 1000" in result.out
    assert list(tmp_path.iterdir()) == []


def test_a_validation_of_an_earlier_step_is_said_to_be_one(molbfn, config, tmp_path):
    run = ("train", config, "--device", "cpu", "--set", "training.validate_steps=2")
    lines = molbfn(*run, "-o", tmp_path / "a").out.splitlines()
    (valid,) = [line for line in lines if "valid/loss" in line]
    assert valid.endswith("nats per atom at step 2")
    lines = molbfn(*run, "-o", tmp_path / "b", "--set", "training.steps=2").out.splitlines()
    (valid,) = [line for line in lines if "valid/loss" in line]
    assert valid.endswith("nats per atom")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize("command", [("train",), ("bench", "train")])
def test_several_processes_cannot_read_a_pipe(refused, tmp_path, command):
    os.mkfifo(tmp_path / "pipe")
    message = refused(*command, tmp_path / "pipe", "-o", tmp_path / "run", "--devices", 2)
    assert "pipe: a pipe, which the other processes of --devices 2 cannot read" in message
    assert not (tmp_path / "run").exists()
