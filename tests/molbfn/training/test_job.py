"""The whole job: exact resumption after SIGKILL, two processes, and mistakes in one line."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from molbfn.config import Config
from molbfn.config_file import load_config
from molbfn.data.batching import DenseBatches
from molbfn.errors import UserError
from molbfn.locks import hold
from molbfn.model import load_model
from molbfn.training.checkpoints import RunCheckpoint
from molbfn.training.job import build_model, open_data, train
from molbfn.training.module import TrainingModule

REPOSITORY = Path(__file__).parents[3]

# Run in a new process: train, and do something to oneself at a batch.
CHILD = """
import os, signal, sys, torch, yaml
from molbfn.config import Config
from molbfn.data.batching import DenseBatches
from molbfn.training.job import train
from molbfn.training.module import TrainingModule

torch.set_num_threads(1)
config = Config.model_validate(yaml.safe_load(open(sys.argv[1])))
{extra}
if __name__ == "__main__":
    train(config, sys.argv[2], accelerator="cpu"{options})
"""

KILL = """
step = TrainingModule.training_step
def training_step(self, *args):
    if self.batches_seen == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *args)
TrainingModule.training_step = training_step
"""

# What each of two processes saw, and the weights it ended with.
RECORD = """
seen = []
step = TrainingModule.training_step
def training_step(self, batch, i):
    seen.append((batch.positions.clone(), batch.mask.clone()))
    return step(self, batch, i)
def on_train_end(self):
    raw = {name: value.clone() for name, value in self.model.network.state_dict().items()}
    torch.save({"seen": seen, "weights": raw, "world": self.trainer.world_size},
               os.path.join(sys.argv[2], f"rank{self.global_rank}.pt"))
TrainingModule.training_step = training_step
TrainingModule.on_train_end = on_train_end
"""


def run_child(
    config: Config, folder: Path, *, extra: str, options: str = ""
) -> subprocess.CompletedProcess[str]:
    folder.parent.mkdir(exist_ok=True)
    script, settings = folder.parent / "child.py", folder.parent / "settings.yaml"
    script.write_text(CHILD.format(extra=extra, options=options))
    settings.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return subprocess.run(
        [sys.executable, str(script), str(settings), str(folder)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_killed_run_goes_on_exactly(run, make_config, tmp_path, weights, curve, optimiser):
    """Two batches a step, an adaptive clip, and a kill in the middle of step 7."""
    config = make_config(
        training={
            "optimiser": optimiser,
            "accumulate": 2,
            "clip": {"window": 5},
            "checkpoint_steps": 5,
            "log_steps": 3,
        }
    )
    run(config, tmp_path / "whole")
    child = run_child(config, tmp_path / "parts", extra=KILL)
    assert child.returncode == -signal.SIGKILL, child.stderr
    left = torch.load(tmp_path / "parts" / "last.ckpt", weights_only=True)
    assert (left["global_step"], left["batches_seen"]) == (5, 10)
    result = run(config, tmp_path / "parts", resume=True)
    assert result.steps == 10
    whole, parts = (weights(tmp_path / name / "last.ckpt") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert any(name.startswith("moment") for name in whole)
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    one, two = (load_model(tmp_path / name / "model") for name in ("whole", "parts"))
    assert one.fingerprint() == two.fingerprint()


@pytest.mark.slow
def test_two_processes(make_config, tmp_path, curve, store):
    config = make_config(
        training={"steps": 25, "batch_size": 8, "learning_rate": 0.01, "log_steps": 5}
    )
    folder = tmp_path / "run"
    child = run_child(config, folder, extra=RECORD, options=", devices=2")
    assert child.returncode == 0, child.stderr
    ranks = [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    assert [each["world"] for each in ranks] == [2, 2]
    for name, value in ranks[0]["weights"].items():
        assert torch.equal(value, ranks[1]["weights"][name]), name
    saved = load_model(folder / "model").network.state_dict()
    for name, value in ranks[0]["weights"].items():
        assert torch.equal(saved[name], value), name
    for rank, each in enumerate(ranks):
        batches = DenseBatches(
            store.subset("train"),
            vocabulary=build_model(config, store).vocabulary,
            buckets=build_model(config, store).info.buckets,
            batch_size=config.training.batch_size,
            rank=rank,
            world=2,
        )
        assert len(each["seen"]) == 25
        for step, (positions, mask) in enumerate(each["seen"]):
            assert torch.equal(positions, batches.batch(step).positions)
            assert torch.equal(mask, batches.batch(step).mask)
    rows = [row for row in curve(folder) if row["train/loss"]]
    assert len(rows) == 5  # written once, not by each process
    assert float(rows[-1]["train/elements"]) < 0.6 * float(rows[0]["train/elements"])


@pytest.mark.slow
def test_a_process_that_dies_is_told_in_one_line(make_config, tmp_path):
    die = KILL.replace("== 13", "== 6 and self.global_rank == 1")
    child = run_child(make_config(), tmp_path / "run", extra=die, options=", devices=2")
    assert child.returncode != 0
    line = "--devices: one of the 2 processes of this run died"
    assert child.stderr.count(line) == 1
    assert "gloo" not in child.stderr
    assert "[rank1]" not in child.stderr
    assert (tmp_path / "run" / "last.ckpt").exists()


@pytest.mark.slow
def test_where_the_first_process_fails_the_others_say_nothing(make_config, tmp_path):
    fail = """
from molbfn.errors import UserError
step = TrainingModule.training_step
def training_step(self, *args):
    if self.batches_seen == 6 and self.global_rank == 0:
        raise UserError("the disk is full")
    return step(self, *args)
TrainingModule.training_step = training_step
"""
    child = run_child(make_config(), tmp_path / "run", extra=fail, options=", devices=2")
    assert child.stderr.count("Traceback") == 1
    assert child.stderr.rstrip().endswith("UserError: the disk is full")


def test_a_prolonged_run_equals_a_longer_one(run, make_config, tmp_path, weights):
    """Both at their full learning rate where the first stops: its decay had not begun."""
    short = make_config(training={"steps": 4, "decay_fraction": 0})
    long = make_config(training={"steps": 10, "decay_fraction": 0.5})
    run(short, tmp_path / "parts")
    run(long, tmp_path / "parts", resume=True)
    run(long, tmp_path / "whole")
    whole, parts = (weights(tmp_path / name / "last.ckpt") for name in ("whole", "parts"))
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_a_new_learning_rate_holds_from_the_first_step(run, make_config, tmp_path, weights):
    run(make_config(training={"steps": 4}), tmp_path / "run")  # decayed to nearly nothing
    config = make_config(training={"steps": 5, "learning_rate": 0.5, "decay_fraction": 0})
    before = weights(tmp_path / "run" / "last.ckpt")["raw.model.network.elements_out.bias"]
    run(config, tmp_path / "run", resume=True)
    after = weights(tmp_path / "run" / "last.ckpt")["raw.model.network.elements_out.bias"]
    assert (after - before).abs().max() > 0.05


def test_resuming_a_finished_run_changes_nothing(run, make_config, tmp_path, curve):
    config = make_config(training={"steps": 4})
    run(config, tmp_path / "run")
    files = ("last.ckpt", "model/model.safetensors", "metrics.csv", "config.yaml")
    before = [(tmp_path / "run" / name).read_bytes() for name in files]
    result = run(config, tmp_path / "run", resume=True)
    assert result.steps == 4
    assert [(tmp_path / "run" / name).read_bytes() for name in files] == before


def test_steps_that_are_not_finite_end_in_one_line(run, make_config, tmp_path):
    config = make_config(
        training={"learning_rate": 1e30, "warmup_steps": 0, "bad_steps": 2, "checkpoint_steps": 1}
    )
    with pytest.raises(UserError, match=r"^training.bad_steps: 3 steps .*lower"):
        run(config, tmp_path / "run")
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["guard"]["bad_steps"] == 2


@pytest.fixture
def demo_sections(monkeypatch, tmp_path):
    """Sections for some molecules whose bonds come from their SMILES."""
    from molbfn.data import topology
    from molbfn.data.store import MoleculeStore

    monkeypatch.setattr(topology, "cache_dir", lambda: tmp_path / "cache")
    demo = MoleculeStore.open(REPOSITORY / "data" / "demo.npz")
    few = demo.subset(np.flatnonzero(demo.sizes <= 12)[:60])
    few.save(tmp_path / "few.npz")
    data = {"source": str(tmp_path / "few.npz"), "elements": ["H", "C", "N", "O", "F"]}
    return {"data": {**data, "buckets": 2}, "charges": {}, "bonds": {}}


def test_bonds_and_charges_are_learned(run, make_config, tmp_path, curve, demo_sections):
    config = make_config(
        training={"steps": 40, "batch_size": 8, "learning_rate": 0.01}, **demo_sections
    )
    result = run(config, tmp_path / "run")
    rows = [row for row in curve(tmp_path / "run") if row["train/bonds"]]
    first, last = rows[0], rows[-1]
    assert float(last["train/bonds"]) < 0.5 * float(first["train/bonds"])
    assert float(last["train/charges"]) < 0.5 * float(first["train/charges"])
    assert result.metrics["valid/bonds"] > 0
    parts = [float(last[f"train/{name}"]) for name in ("positions", "elements", "charges", "bonds")]
    assert float(last["train/loss"]) == pytest.approx(sum(parts), rel=1e-5)
    made = load_model(result.model).generate(3)
    assert all(molecule.bonds is not None for molecule in made)
    assert all(molecule.formal_charges is not None for molecule in made)


def test_self_conditioning_trains_and_resumes(run, make_config, tmp_path, weights, demo_sections):
    config = make_config(self_conditioning=True, **demo_sections)
    run(config, tmp_path / "whole")
    child = run_child(config, tmp_path / "parts", extra=KILL.replace("13", "6"))
    assert child.returncode == -signal.SIGKILL, child.stderr
    run(config, tmp_path / "parts", resume=True)
    whole, parts = (weights(tmp_path / name / "last.ckpt") for name in ("whole", "parts"))
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    assert whole["raw.model.network.previous.atoms.weight"].any()


def test_molecules_without_fitting_bonds_are_reported(make_config, tmp_path, demo_sections):
    from molbfn.data.store import MoleculeStore

    store = MoleculeStore.open(demo_sections["data"]["source"])
    store.smiles[4] = "CCCCCCCCCCCCC"
    store.save(tmp_path / "odd.npz")
    source = str(tmp_path / "odd.npz")
    sections = {**demo_sections, "data": {**demo_sections["data"], "source": source}}
    notes: list[str] = []
    assert len(open_data(make_config(**sections), note=notes.append)) == len(store) - 1
    assert notes == [
        f"{tmp_path / 'odd.npz'}: 1 of {len(store)} molecules are left out, their bonds do not "
        f"fit their coordinates or are unknown"
    ]


def test_charges_that_the_config_lacks_are_named(run, make_config, tmp_path, demo_sections):
    from molbfn.data.store import MoleculeStore
    from molbfn.data.topology import with_topology

    store, _ = with_topology(MoleculeStore.open(demo_sections["data"]["source"]))
    store.formal_charges[3] = 2
    store.save(tmp_path / "charged.npz")
    sections = {**demo_sections, "data": {"source": str(tmp_path / "charged.npz")}}
    with pytest.raises(UserError, match=r"formal charges that the model does not know: \+2; add"):
        run(make_config(**sections), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_a_run_leaves(run, make_config, tmp_path, store):
    config = make_config()
    result = run(config, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "config.yaml", "last.ckpt", "metrics.csv", "model", "tensorboard",
    ]  # fmt: skip
    assert (result.steps, result.interrupted) == (10, False)
    assert set(result.metrics) >= {"train/loss", "valid/loss"}
    assert Config.model_validate(yaml.safe_load((tmp_path / "run/config.yaml").read_text())) == (
        config
    )
    info = load_model(result.model).info
    assert info.config == config.model()
    assert info.sizes == store.subset("train").size_histogram()
    assert info.provenance["steps"] == 10
    assert info.provenance["training"]["learning_rate"] == 0.003


def test_half_written_files_of_a_killed_run_are_removed(run, make_config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".last.ckpt.abc.partial").write_bytes(b"half")
    run(make_config(training={"steps": 1}), tmp_path / "run")
    assert not list((tmp_path / "run").glob(".*"))


def test_a_run_is_not_overwritten(run, make_config, tmp_path):
    config = make_config(training={"steps": 2})
    run(config, tmp_path / "run")
    before = (tmp_path / "run" / "last.ckpt").read_bytes()
    with pytest.raises(UserError, match="holds a run already; add --resume"):
        run(config, tmp_path / "run")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        run(config, tmp_path / "file")
    assert (tmp_path / "run" / "last.ckpt").read_bytes() == before
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_in_which_another_run_trains(run, make_config, tmp_path):
    config = make_config(training={"steps": 1})
    with hold(tmp_path / ".lock", busy="no"):
        with pytest.raises(UserError, match="another run is training here"):
            run(config, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    run(config, tmp_path)
    assert not (tmp_path / ".lock").exists()


def test_a_refused_resume_changes_nothing(run, make_config, tmp_path):
    run(make_config(training={"steps": 2}), tmp_path / "run")
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    with pytest.raises(UserError, match=r"network.blocks = 1, this config has 2"):
        run(make_config(network={"blocks": 2}), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


def test_resuming_where_there_is_nothing_starts(run, make_config, tmp_path, capfd):
    """A queue runs the same command again, whether or not it came to a checkpoint."""
    config = make_config(training={"steps": 2})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("name: killed before its first checkpoint")
    assert run(config, tmp_path / "run", resume=True).steps == 2
    assert "run: nothing to resume yet, so training starts" in capfd.readouterr().err
    assert run(config, tmp_path / "run", resume=True).steps == 2
    assert "nothing to resume" not in capfd.readouterr().err
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        run(config, tmp_path / "file", resume=True)


def test_data_may_have_moved(run, make_config, tmp_path, store):
    config = make_config(training={"steps": 2})
    run(config, tmp_path / "run")
    moved = shutil.copy(store.source, tmp_path / "moved.npz")
    there = make_config(training={"steps": 3}, data={"source": str(moved)})
    assert run(there, tmp_path / "run", resume=True).steps == 3
    store.subset(np.arange(len(store)) != 2).save(tmp_path / "others.npz")
    others = {"source": str(tmp_path / "others.npz")}
    with pytest.raises(UserError, match="not the molecules that the run was started with"):
        run(make_config(training={"steps": 4}, data=others), tmp_path / "run", resume=True)


def test_no_fewer_steps_than_there_are(run, make_config, tmp_path):
    run(make_config(training={"steps": 4}), tmp_path / "run")
    with pytest.raises(UserError, match=r"4 steps are taken already, training.steps is 2; give"):
        run(make_config(training={"steps": 2}), tmp_path / "run", resume=True)


def test_tensorboard_forgets_a_run_that_was_killed_before_its_first_checkpoint(
    run, make_config, tmp_path, monkeypatch
):
    def die(*_):
        raise RuntimeError("killed")

    config = make_config(training={"steps": 3, "log_steps": 1})
    with monkeypatch.context() as patch:
        patch.setattr(RunCheckpoint, "_save", die)
        with pytest.raises(RuntimeError, match="killed"):
            run(config, tmp_path / "run")
    run(config, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(make_config, tmp_path):
    with pytest.raises(UserError, match=r"--device cuda: .* no usable CUDA GPU; use --device cpu"):
        train(make_config(), tmp_path / "run", accelerator="cuda")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("devices", [0, -1, "two", 1.5])
def test_numbers_of_devices(make_config, tmp_path, devices):
    with pytest.raises(UserError, match=f"--devices {devices}: expected a number"):
        train(make_config(), tmp_path / "run", accelerator="cpu", devices=devices)


def test_elements_of_the_data_must_be_known(run, make_config, tmp_path):
    with pytest.raises(UserError, match=r"does not know: O; .*data\.leave_out_others=true"):
        run(make_config(data={"elements": ["H", "C"]}), tmp_path / "run")


def test_molecules_of_other_elements_are_left_out_where_the_config_says_so(
    run, make_config, tmp_path, store, capsys
):
    """Oxygen is in every third molecule: in 7 of 20 to train on, in 3 of 10 to validate with."""
    numbers = [1 + 5 * (part == 6) for part in np.split(store.atomic_numbers, store.offsets[1:-1])]
    for part in numbers[::3]:
        part[-1] = 8
    path = tmp_path / "mixed.npz"
    dataclasses.replace(store, atomic_numbers=np.concatenate(numbers).astype(np.int8)).save(path)
    data = {"source": str(path), "elements": ["H", "C"], "leave_out_others": True}
    result = run(make_config(data=data, training={"steps": 2}), tmp_path / "run")
    told = capsys.readouterr().err
    text = "molecules with elements outside H, C (split"
    assert f"molbfn: {path}: left out 7 of 20 {text} train)\n" in told
    assert f"molbfn: {path}: left out 3 of 10 {text} valid)\n" in told
    assert sum(load_model(result.model).info.sizes.values()) == 13
    kept = open_data(make_config(data=data)).atomic_numbers
    expected = [part for k, part in enumerate(numbers) if k % 3]
    np.testing.assert_array_equal(kept, np.concatenate(expected))
    notes: list[str] = []
    whole = open_data(make_config(data={**data, "elements": ["H", "C", "O"]}), note=notes.append)
    assert (len(whole), notes) == (30, [])
    with pytest.raises(UserError, match=r"no molecule of the split 'train' is of N, S only"):
        open_data(make_config(data={**data, "elements": ["N", "S"]}))


def test_other_elements_are_left_out_of_data_with_bonds_too(make_config, demo_sections):
    data = {**demo_sections["data"], "elements": ["H", "C", "N"], "leave_out_others": True}
    store = open_data(make_config(**{**demo_sections, "data": data}))
    assert store.bonds is not None
    assert store.formal_charges is not None
    assert set(store.element_counts()) <= {1, 6, 7}
    assert 0 < len(store) < 60


def test_geobfn_trains_and_resumes(run, make_config, tmp_path, weights):
    """Its network, discretised charges, noise prediction, amsgrad and adaptive clip together."""
    shipped = load_config(REPOSITORY / "configs" / "qm9_geobfn.yaml").model_dump()
    training = {**make_config().training.model_dump(), "amsgrad": True, "decay_fraction": 0}
    config = make_config(
        positions=shipped["positions"],
        elements=shipped["elements"],
        training={**training, "clip": shipped["training"]["clip"], "checkpoint_steps": 3},
    )
    network = {**shipped["network"], "hidden": 8, "layers": 1}
    config = Config.model_validate({**config.model_dump(), "network": network})
    result = run(config, tmp_path / "whole")
    assert result.metrics["train/bad_steps"] == 0
    short = {**config.model_dump(), "training": {**config.training.model_dump(), "steps": 3}}
    run(Config.model_validate(short), tmp_path / "parts")
    run(config, tmp_path / "parts", resume=True)
    whole, parts = (weights(tmp_path / name / "last.ckpt") for name in ("whole", "parts"))
    assert any(name.endswith("max_exp_avg_sq") for name in whole)
    for name, value in whole.items():
        assert value.isfinite().all()
        assert torch.equal(value, parts[name]), name


def test_missing_data(run, make_config, tmp_path):
    with pytest.raises(UserError, match=r"none.npz"):
        run(make_config(data={"source": str(tmp_path / "none.npz")}), tmp_path / "run")
    with pytest.raises(UserError, match=r"^data\.split: .*no molecule is in the split 'test'$"):
        run(make_config(data={"split": "test"}), tmp_path / "run")
    hint = r"^data\.validation_split: .*'test'; --set data\.validation_split=train validates"
    with pytest.raises(UserError, match=hint):
        run(make_config(data={"validation_split": "test"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_buckets_hold_the_validation_molecules_too(store, make_config):
    sizes = store.sizes
    order = sizes.argsort(kind="stable")
    split = store.split.copy()
    split[:] = 0
    split[order[-3:]] = 1
    split[sizes == sizes.max()] = 1
    moved = type(store)(
        atomic_numbers=store.atomic_numbers,
        positions=store.positions,
        offsets=store.offsets,
        split=split,
    )
    model = build_model(make_config(), moved)
    assert model.padded_size(int(sizes.max())) == max(model.info.buckets) == sizes.max()
    assert max(model.info.sizes) < sizes.max()


def test_the_seed_makes_the_first_weights_and_nothing_else(store, make_config):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    prints = [
        build_model(make_config(training={"seed": s}), store).fingerprint() for s in (0, 0, 1)
    ]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.slow
@pytest.mark.parametrize("network", [{}, {"kind": "egnn", "hidden": 16, "layers": 2}])
def test_compiled_blocks_compute_the_same(run, make_config, tmp_path, curve, network):
    sections = {"network": network, "elements": {"kind": "discretised"}} if network else {}
    for name, compiled in (("eager", False), ("compiled", True)):
        training = {"steps": 4, "log_steps": 1, "validate_steps": 2, "compile": compiled}
        config = make_config(training=training)
        values = {**config.model_dump(), **sections}
        run(Config.model_validate(values), tmp_path / name)
    eager, compiled = curve(tmp_path / "eager"), curve(tmp_path / "compiled")
    assert len(eager) == len(compiled) >= 4
    assert any(row["valid/loss"] for row in eager)
    for one, two in zip(eager, compiled, strict=True):
        for key, value in one.items():
            if value:
                assert float(two[key]) == pytest.approx(float(value), rel=1e-3), key


@pytest.mark.slow
def test_two_processes_that_are_resumed_log_as_if_they_were_not(make_config, tmp_path, curve):
    """The checkpoint of step 12 is between two rows, with sums of both processes in it."""
    config = make_config(
        training={"steps": 16, "batch_size": 8, "log_steps": 5, "checkpoint_steps": 12}
    )
    whole = run_child(config, tmp_path / "whole", extra="", options=", devices=2")
    assert whole.returncode == 0, whole.stderr
    assert run_child(config, tmp_path / "parts", extra=KILL, options=", devices=2").returncode
    again = run_child(config, tmp_path / "parts", extra="", options=", devices=2, resume=True")
    assert again.returncode == 0, again.stderr
    expected, found = (
        {row["step"]: row["train/loss"] for row in curve(tmp_path / name) if row["train/loss"]}
        for name in ("whole", "parts")
    )
    assert float(found["15"]) == pytest.approx(float(expected["15"]), rel=1e-5)
    assert found["10"] == expected["10"]


def test_legs_of_some_minutes_chain_to_the_same_run(run, make_config, tmp_path, curve, weights):
    config = make_config(training={"accumulate": 2})
    whole = run(config, tmp_path / "whole")
    assert (whole.interrupted, whole.out_of_time) == (False, False)
    legs = make_config(training={"accumulate": 2, "minutes": 1e-9})
    for leg in range(1, 11):  # one step each, for a step is never cut
        result = run(legs, tmp_path / "legs", resume=True)
        assert result.steps == leg
        assert result.interrupted is result.out_of_time is (leg < 10)
    assert curve(tmp_path / "legs") == curve(tmp_path / "whole")
    expected, found = (weights(tmp_path / name / "last.ckpt") for name in ("whole", "legs"))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


@pytest.mark.slow
def test_legs_on_two_processes_end_with_a_checkpoint_and_their_own_exit_code(
    make_config, tmp_path, curve, weights
):
    def leg(folder: str, minutes: float | None) -> subprocess.CompletedProcess[str]:
        training = {"steps": 3, "batch_size": 8, "minutes": minutes}
        settings = tmp_path / "settings.yaml"
        settings.write_text(yaml.safe_dump(make_config(training=training).model_dump(mode="json")))
        words = ["train", str(settings), "-o", str(tmp_path / folder), "--resume"]
        return subprocess.run(
            [sys.executable, "-m", "molbfn", *words, "--device", "cpu", "--devices", "2"],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    whole = leg("whole", None)
    assert whole.returncode == 0, whole.stderr
    for step, code in ((1, 75), (2, 75), (3, 0)):
        ended = leg("legs", 1e-9)
        assert ended.returncode == code, ended.stderr
        assert f"{tmp_path / 'legs'}: {step} of 3 steps" in ended.stdout
        assert "Traceback" not in ended.stderr
        left = torch.load(tmp_path / "legs" / "last.ckpt", weights_only=True)
        assert (left["global_step"], left["processes"]) == (step, 2)
    assert curve(tmp_path / "legs") == curve(tmp_path / "whole")
    expected, found = (weights(tmp_path / name / "last.ckpt") for name in ("whole", "legs"))
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_a_signal_is_no_lack_of_time(run, make_config, tmp_path, monkeypatch):
    step = TrainingModule.training_step

    def signalled(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(TrainingModule, "training_step", signalled)
    result = run(make_config(training={"minutes": 1e-9}), tmp_path / "run")
    assert (result.steps, result.interrupted, result.out_of_time) == (1, True, False)
