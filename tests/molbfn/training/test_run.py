"""The machinery trains any model: here a line through points."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import lightning
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from molbfn import devices
from molbfn.config import RunConfig
from molbfn.config_base import Section
from molbfn.errors import UserError
from molbfn.hardware import describe_device
from molbfn.training.base import BFNModule
from molbfn.training.data import BatchStream
from molbfn.training.job import train
from molbfn.training.run import (
    METRICS,
    Job,
    _check_nodes,
    _own_device,
    _sole_run,
    run_job,
)
from molbfn.training.runlog import read_rows


class LineConfig(Section):
    training: RunConfig = RunConfig(
        steps=200, learning_rate=0.1, warmup_steps=0, log_steps=50, validate_steps=100, ema=0.5
    )


class Line(nn.Module):
    """y = a x + b, saved as text."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(1, 1)
        self.network.hidden_matrices = lambda: [self.network.weight]
        self.info = SimpleNamespace(provenance={}, config=Section())

    def save(self, folder, *, weights, progress) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "line.txt").write_text(
            f"{float(weights['weight']):.1f} {float(weights['bias']):.1f} {progress['steps']}"
        )
        (folder / "progress.json").write_text(json.dumps(progress))


class LineModule(BFNModule):
    def count(self, batch: Tensor) -> int:
        return len(batch)

    def loss(self, batch: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        error = self.model.network(batch) - (3 * batch - 1)
        return {"loss": error.square().mean(), "bias": error.mean().abs()}


class Points(lightning.LightningDataModule):
    def train_dataloader(self) -> DataLoader:
        return DataLoader(BatchStream(self, start=0), batch_size=None)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(BatchStream(self, count=1), batch_size=None)

    def batch(self, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step)
        return torch.rand(16, 1, generator=generator)


def short_run(**training: object) -> LineConfig:
    values = LineConfig().model_dump(mode="json")
    return LineConfig.model_validate({"training": {**values["training"], "steps": 2, **training}})


@pytest.fixture
def run(tmp_path):
    seen = []

    def run(config: LineConfig, **options):
        def prepare(checkpoint):
            seen.append(checkpoint)
            return Job(LineModule(Line(), config), Points(), lambda mode: None, graphs=8)

        settings = {"resume": False, "accelerator": "cpu", "devices": 1, "nodes": 1, **options}
        result = run_job(
            config, tmp_path / "run", prepare, losses=("loss", "bias"), unit="points", **settings
        )
        return result, seen

    return run


def test_any_model_trains_logs_and_is_saved(run):
    result, seen = run(LineConfig())
    assert seen == [None]
    assert (result.model / "line.txt").read_text() == "3.0 -1.0 200"
    rows = read_rows(result.model.parent / METRICS)
    assert list(rows[0])[:3] == ["step", "train/loss", "train/bias"]
    assert float(rows[0]["train/points_per_second"]) > 0
    assert result.metrics["valid/bias"] < 0.01


def test_what_is_resumed_is_shown_to_the_builder(run):
    run(LineConfig())
    longer = LineConfig(training=LineConfig().training.model_copy(update={"steps": 202}))
    result, seen = run(longer, resume=True)
    assert result.steps == 202
    assert seen[1]["global_step"] == 200


def test_a_config_of_another_run_is_refused(run):
    run(LineConfig())
    other = LineConfig(training=LineConfig().training.model_copy(update={"seed": 5}))
    with pytest.raises(UserError, match=r"training\.seed = 0, this config has 5"):
        run(other, resume=True)


@pytest.mark.parametrize("capable", [True, False])
def test_automatic_precision_follows_the_hardware_and_is_kept(run, monkeypatch, capfd, capable):
    monkeypatch.setattr(devices, "multiplies_bf16", lambda device: capable)
    result, _ = run(short_run(precision="auto"))
    kept = json.loads((result.model / "progress.json").read_text())
    assert kept == {
        "hardware": describe_device("cpu"),
        "precision": "bf16" if capable else "fp32",
        "steps": 2,
        "processes": 1,
    }
    assert "precision" not in capfd.readouterr().err


@pytest.mark.parametrize("capable", [True, False])
def test_emulated_bf16_is_warned_of(run, monkeypatch, capfd, capable):
    monkeypatch.setattr("molbfn.training.run.multiplies_bf16", lambda device: capable)
    run(short_run(precision="bf16"))
    warned = "training.precision: bf16 is emulated on this cpu, many times slower than fp32"
    assert (warned in capfd.readouterr().err) is not capable


def test_without_a_compiler_training_goes_on(run, capfd, monkeypatch):
    monkeypatch.setattr(
        "molbfn.training.run.compile_problem", lambda device: "No working C++ compiler found"
    )
    result, _ = run(short_run(compile=True))
    assert result.steps == 2
    assert (
        "training.compile: torch.compile does not work here (No working C++ compiler found)"
        in capfd.readouterr().err
    )


@pytest.mark.parametrize(
    ("accelerator", "environment", "device"),
    [
        ("cpu", {"LOCAL_RANK": "1"}, "cpu"),
        ("cuda", {}, "cuda:0"),
        ("cuda", {"LOCAL_RANK": "1"}, "cuda:1"),
    ],
)
def test_each_process_tries_the_compiler_on_its_own_device(accelerator, environment, device):
    assert _own_device(accelerator, environment) == torch.device(device)


def test_compiling_is_announced(run, capfd, monkeypatch):
    monkeypatch.setattr("molbfn.training.run.compile_problem", lambda device: None)
    run(short_run())
    assert "compiling" not in capfd.readouterr().err
    run(short_run(steps=3, compile=True), resume=True)
    assert "molbfn: compiling for this machine" in capfd.readouterr().err


def test_the_compile_mode_reaches_torch_and_each_step_is_marked(
    make_config, store, tmp_path, monkeypatch, capfd
):
    modes, marks = [], []
    monkeypatch.setattr(nn.Module, "compile", lambda _, **options: modes.append(options))
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marks.append(1))
    plain = {"steps": 2, "compile": True}
    train(make_config(training=plain), tmp_path / "plain", accelerator="cpu")
    assert (modes, marks) == ([{"dynamic": False, "mode": "default"}], [])
    assert "compile_mode" not in capfd.readouterr().err
    modes.clear()
    graphs = {**plain, "compile_mode": "reduce-overhead", "validate_steps": 2}
    train(make_config(training=graphs), tmp_path / "graphs", accelerator="cpu")
    assert modes == [{"dynamic": False, "mode": "reduce-overhead"}]
    assert len(marks) > 2  # two steps, and the batches of a validation
    assert "training.compile_mode: reduce-overhead changes nothing on a cpu" in (
        capfd.readouterr().err
    )


def test_a_cpu_trains_in_the_mode_for_gpus(make_config, store, tmp_path):
    """One compilation, really."""
    training = {"steps": 2, "compile": True, "compile_mode": "reduce-overhead"}
    config = make_config(training=training, data={"buckets": 1})
    result = train(config, tmp_path / "run", accelerator="cpu")
    assert result.steps == 2
    assert math.isfinite(result.metrics["train/loss"])


def test_several_machines_need_to_know_which_they_are(monkeypatch):
    for found in ({}, {"MASTER_ADDR": "first"}):
        with pytest.raises(UserError, match=r"--nodes 2: .*srun or torchrun"):
            _check_nodes(2, found)
    _check_nodes(1, {})
    _check_nodes(2, {"MASTER_ADDR": "first", "NODE_RANK": "1"})
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "as torchrun sets it")
    _check_nodes(2, {})


def test_one_run_at_a_time_in_a_folder(tmp_path):
    folder = tmp_path / "deep" / "run"
    with _sole_run(folder, first=True):
        message = r"deep/run: another run is training here; wait for it, or give another --output"
        with pytest.raises(UserError, match=message), _sole_run(folder, first=True):
            pass
        with _sole_run(folder, first=False):  # another process of the same run
            pass
        with _sole_run(tmp_path / "other", first=True):
            pass
    assert list(folder.iterdir()) == []
    with _sole_run(folder, first=True):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"file/run: cannot be written"),
        _sole_run(tmp_path / "file" / "run", first=True),
    ):
        pass


def test_a_folder_that_cannot_be_written_is_found_before_the_data_are_read(tmp_path):
    file = tmp_path / "file"
    file.write_text("")

    def prepare(_):
        pytest.fail("the data were read")

    settings = {"resume": False, "accelerator": "cpu", "devices": 1, "nodes": 1}
    with pytest.raises(UserError, match=r"file/deep/run: cannot be written \(Not a directory\)"):
        run_job(LineConfig(), file / "deep" / "run", prepare, losses=(), unit="points", **settings)


@pytest.mark.parametrize(
    ("environment", "wanted", "right"),
    [
        ({"TORCHELASTIC_RUN_ID": "a", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
         {}, "torchrun started 2 processes; say --devices 2 --nodes 1"),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"},
         {"devices": 2}, "srun started 1 process; say --devices 1"),
        ({"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_PROCID": "1"},
         {"devices": "auto"}, "srun started 2 processes; say --devices 2 --nodes 1"),
    ],
)  # fmt: skip
def test_a_launcher_of_other_processes_is_refused_before_the_folder_is_made(
    run, tmp_path, monkeypatch, environment, wanted, right
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=right):
        run(short_run(), **wanted)
    assert not (tmp_path / "run").exists()


def test_a_process_on_its_own_holds_its_folder_whatever_its_number(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with (
        _sole_run(tmp_path / "run", first=True),
        pytest.raises(UserError, match="another run is training here"),
    ):
        run(short_run())


def test_what_lightning_finds_wrong_with_a_launcher_is_a_mistake_of_the_user(run, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_LOCALID", "0")
    monkeypatch.setenv("SLURM_NODEID", "0")
    monkeypatch.setenv("SLURM_NNODES", "3")
    with pytest.raises(UserError, match=r"--devices auto --nodes 1: .*number of nodes configured"):
        run(short_run(), devices="auto")
