"""Checkpoints: whole or not there, exact to resume from, refused when they do not fit."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch

from molbfn import atomic
from molbfn.config import Config
from molbfn.errors import UserError
from molbfn.model import load_model
from molbfn.training.checkpoints import (
    AtomicCheckpointIO,
    check_same,
    read_checkpoint,
)
from molbfn.training.module import TrainingModule

STOPS = [getattr(signal, k) for k in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, k)]


@pytest.fixture
def full_disk(monkeypatch):
    """After ``allowed`` more files, writing fails as on a full disk."""

    def start(allowed: int) -> None:
        left = SimpleNamespace(count=allowed)
        sync = os.fsync

        def fsync(handle: int) -> None:
            left.count -= 1
            if left.count < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            sync(handle)

        monkeypatch.setattr(atomic.os, "fsync", fsync)

    return start


def at_batch(monkeypatch, number: int, action) -> None:
    """Do something in the middle of training, before batch ``number``."""
    step = TrainingModule.training_step

    def patched(module, *args):
        if module.batches_seen == number:
            action()
        return step(module, *args)

    monkeypatch.setattr(TrainingModule, "training_step", patched)


def at_backward(monkeypatch, number: int, action) -> None:
    """Do something in the backward pass of batch ``number``."""

    def patched(module, loss, *args, **kwargs) -> None:
        if module.batches_seen == number + 1:
            action()
        loss.backward(*args, **kwargs)

    monkeypatch.setattr(TrainingModule, "backward", patched)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, full_disk):
    path, plugin = tmp_path / "last.ckpt", AtomicCheckpointIO()
    plugin.save_checkpoint({"a": torch.ones(3)}, path)
    full_disk(0)
    with pytest.raises(UserError, match=r"cannot write .*last.ckpt: No space left"):
        plugin.save_checkpoint({"a": torch.zeros(3)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(3))
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_full_disk_stops_training_and_keeps_the_last_checkpoint(
    run, make_config, tmp_path, full_disk, monkeypatch
):
    folder = tmp_path / "run"
    at_batch(monkeypatch, 6, lambda: full_disk(0))
    with pytest.raises(UserError, match=r"cannot write .*model.safetensors: No space left"):
        run(make_config(), folder)
    assert read_checkpoint(folder / "last.ckpt")["global_step"] == 4
    assert load_model(folder / "model").info.provenance["steps"] == 4
    monkeypatch.undo()
    assert run(make_config(), folder, resume=True).steps == 10


def test_checkpoints_hold_no_code(run, make_config, tmp_path):
    run(make_config(), tmp_path / "run")
    checkpoint = read_checkpoint(tmp_path / "run" / "last.ckpt")  # loads with weights_only
    assert (checkpoint["global_step"], checkpoint["batches_seen"]) == (10, 10)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"not a checkpoint",
        lambda data: data[: len(data) // 2] + bytes(200) + data[len(data) // 2 + 200 :],
    ],
    ids=["cut", "empty", "other", "zeros inside"],
)
def test_damaged_checkpoints_are_refused(run, make_config, tmp_path, damage):
    config = make_config(training={"steps": 2})
    run(config, tmp_path / "run")
    path = tmp_path / "run" / "last.ckpt"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"last.ckpt: corrupted or not a checkpoint"):
        run(config, tmp_path / "run", resume=True)


def test_files_of_other_programs_are_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    for content in ({"state_dict": {}}, [1, 2], torch.ones(2)):
        torch.save(content, path)
        with pytest.raises(UserError, match="not a checkpoint of molbfn"):
            read_checkpoint(path)
    with pytest.raises(UserError, match="no checkpoint to resume"):
        read_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"network": {"width": 32}}, r"network.width = 16, this config has 32"),
        ({"data": {"buckets": 3}}, r"data.buckets = 2, this config has 3"),
        ({"training": {"batch_size": 8}}, r"training.batch_size = 4, this config has 8"),
        ({"training": {"seed": 1}}, r"training.seed = 0, this config has 1"),
        ({"training": {"amsgrad": True}}, r"training.amsgrad = False"),
        ({"name": "other"}, r"name = 'tiny', this config has 'other'"),
        ({"loss": {"positions": 2.0}}, r"loss.positions = 1.0"),
    ],
)
def test_another_config_is_refused_by_field(make_config, tmp_path, change, field: str):
    checkpoint = {"config": make_config().model_dump(mode="json")}
    with pytest.raises(UserError, match=field):
        check_same(make_config(**change), checkpoint, tmp_path / "last.ckpt")


def test_another_kind_of_network_is_refused_by_field(make_config, tmp_path):
    stored = make_config().model_dump(mode="json")
    checkpoint = {"config": stored}
    other = Config.model_validate({**stored, "network": {"kind": "egnn"}})
    with pytest.raises(UserError, match=r"network.kind = 'transformer', this config has 'egnn'"):
        check_same(other, checkpoint, tmp_path / "last.ckpt")


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"steps": 99, "learning_rate": 1.0, "precision": "bf16", "bad_steps": 9}},
        {"training": {"clip": {"factor": 2.0}, "checkpoint_steps": None, "compile": True}},
        {"sampling": {"steps": 9}},
        {"data": {"leave_out_others": True}},  # the molecules themselves are compared
    ],
)
def test_what_may_change_may_change(make_config, tmp_path, change):
    checkpoint = {"config": make_config().model_dump(mode="json")}
    check_same(make_config(**change), checkpoint, tmp_path / "last.ckpt")


def test_keys_that_an_older_version_did_not_know_take_their_defaults(make_config, tmp_path):
    stored = make_config().model_dump(mode="json")
    del stored["training"]["amsgrad"], stored["data"]["validation_split"]
    check_same(make_config(), {"config": stored}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="amsgrad"):
        check_same(make_config(training={"amsgrad": True}), {"config": stored}, tmp_path / "a")


def test_another_number_of_processes_is_refused(run, make_config, tmp_path):
    begun = {"steps": 2, "checkpoint_steps": 2}
    result = run(make_config(training=begun), tmp_path / "run")
    assert load_model(result.model).info.provenance["processes"] == 1
    checkpoint = read_checkpoint(result.checkpoint)
    del checkpoint["processes"]
    torch.save(checkpoint, result.checkpoint)  # of an older version
    run(make_config(training={**begun, "steps": 3}), tmp_path / "run", resume=True)
    torch.save({**checkpoint, "processes": 4}, result.checkpoint)
    with pytest.raises(UserError, match="started on 4 processes, this is 1"):
        run(make_config(training={**begun, "steps": 4}), tmp_path / "run", resume=True)


@pytest.fixture(autouse=True)
def _not_under_nohup():
    """There SIGHUP is ignored, and stays so."""
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("number", STOPS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_interrupted_run_goes_on_exactly(
    run, make_config, tmp_path, monkeypatch, weights, curve, number, accumulate: int
):
    """With 2 batches a step the signal comes in the middle of a step, which is then finished."""
    config = make_config(training={"accumulate": accumulate, "log_steps": 1})
    run(config, tmp_path / "whole")
    before = [signal.getsignal(each) for each in STOPS]
    with monkeypatch.context() as patch:
        at_batch(patch, 6 * accumulate + 1, lambda: os.kill(os.getpid(), number))
        result = run(config, tmp_path / "parts")
    assert [signal.getsignal(each) for each in STOPS] == before
    assert result.interrupted
    assert result.steps == 7 + (accumulate == 1)
    assert load_model(result.model).info.provenance["steps"] == result.steps
    result = run(config, tmp_path / "parts", resume=True)
    assert (result.interrupted, result.steps) == (False, 10)
    whole, parts = (weights(tmp_path / name / "last.ckpt") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")


def test_an_interrupt_where_validation_is_due_keeps_its_row(
    run, make_config, tmp_path, monkeypatch, curve
):
    config = make_config()
    run(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        at_batch(patch, 4, lambda: os.kill(os.getpid(), signal.SIGINT))  # step 5 validates
        assert run(config, tmp_path / "parts").steps == 5
    run(config, tmp_path / "parts", resume=True)
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")


def killed_compiler() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    raise ValueError("g++ was killed too")


@pytest.mark.parametrize("place", ["forward", "backward"])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("step", [0, 6])
def test_a_step_that_an_interrupt_breaks_is_taken_again(
    run, make_config, tmp_path, monkeypatch, weights, curve, capfd, place, accumulate, step
):
    config = make_config(training={"accumulate": accumulate, "log_steps": 1})
    run(config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        if place == "forward":
            at_batch(patch, step * accumulate, killed_compiler)
        else:
            at_backward(patch, step * accumulate, killed_compiler)
        capfd.readouterr()
        result = run(config, tmp_path / "parts")
    assert (result.interrupted, result.steps) == (True, step)
    line = "molbfn: stopped in the middle of a step (ValueError), which is taken again\n"
    assert capfd.readouterr().err.endswith(line)
    assert load_model(result.model).info.provenance["steps"] == step
    assert read_checkpoint(result.checkpoint)["batches_seen"] == step * accumulate
    run(config, tmp_path / "parts", resume=True)
    whole, parts = (weights(tmp_path / name / "last.ckpt") for name in ("whole", "parts"))
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")


@pytest.mark.parametrize(("batch", "left"), [(3, None), (11, 4)])
def test_a_step_that_is_broken_in_its_middle_leaves_the_checkpoint_before(
    run, make_config, tmp_path, monkeypatch, batch, left
):
    """The gradients of its first batch are lost."""
    at_batch(monkeypatch, batch, killed_compiler)
    config = make_config(training={"accumulate": 2})
    if left is None:
        with pytest.raises(KeyboardInterrupt):
            run(config, tmp_path / "run")
        assert not (tmp_path / "run" / "last.ckpt").exists()
    else:
        assert run(config, tmp_path / "run").interrupted
        assert read_checkpoint(tmp_path / "run" / "last.ckpt")["global_step"] == left


def test_a_validation_that_is_broken_leaves_the_checkpoint_before(
    run, make_config, tmp_path, monkeypatch
):
    """Its weights are the averages."""
    monkeypatch.setattr(TrainingModule, "validation_step", lambda *_: killed_compiler())
    assert run(make_config(), tmp_path / "run").interrupted
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")["global_step"] == 4


def test_a_mistake_stays_one_after_an_interrupt(run, make_config, tmp_path, monkeypatch):
    def mistake() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise UserError("disk full")

    at_batch(monkeypatch, 6, mistake)
    with pytest.raises(UserError, match="disk full"):
        run(make_config(), tmp_path / "run")


def test_a_second_interrupt_stops_at_once(run, make_config, tmp_path, monkeypatch):
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    at_batch(monkeypatch, 6, twice)
    with pytest.raises(KeyboardInterrupt):
        run(make_config(), tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) == before
    assert read_checkpoint(tmp_path / "run" / "last.ckpt")["global_step"] == 4


class Stop(Exception):
    """Ends a test's run in the middle."""


@pytest.mark.parametrize(("minutes", "left"), [(1e-9, 3), (1e9, None)])
def test_minutes_between_checkpoints(run, make_config, tmp_path, monkeypatch, minutes, left):
    def stop() -> None:
        raise Stop

    config = make_config(training={"checkpoint_steps": None, "checkpoint_minutes": minutes})
    at_batch(monkeypatch, 3, stop)
    with pytest.raises(Stop):
        run(config, tmp_path / "run")
    path = tmp_path / "run" / "last.ckpt"
    assert (read_checkpoint(path)["global_step"] if path.exists() else None) == left


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_a_disk_that_is_full_at_the_end_leaves_a_run_that_can_be_finished(
    run, make_config, tmp_path, full_disk, monkeypatch, allowed
):
    """Whatever could not be written of the last step: weights, their config, the checkpoint."""
    folder = tmp_path / "run"
    at_batch(monkeypatch, 9, lambda: full_disk(allowed))
    with pytest.raises(UserError, match="No space left"):
        run(make_config(), folder)
    monkeypatch.undo()
    assert run(make_config(), folder, resume=True).steps == 10
    assert load_model(folder / "model").info.provenance["steps"] == 10


def test_the_model_of_a_finished_run_can_be_had_again(run, make_config, tmp_path):
    folder = tmp_path / "run"
    run(make_config(), folder)
    before = load_model(folder / "model").fingerprint()
    for damage in ("removed", "of before"):
        shutil.rmtree(folder / "model")
        if damage == "of before":
            run(make_config(training={"steps": 4}), tmp_path / "other")
            shutil.copytree(tmp_path / "other" / "model", folder / "model")
        assert run(make_config(), folder, resume=True).steps == 10
        assert load_model(folder / "model").fingerprint() == before


def test_the_model_of_a_finished_run_takes_new_settings(run, make_config, tmp_path):
    folder = tmp_path / "run"
    run(make_config(), folder)
    before = load_model(folder / "model").fingerprint()
    config = make_config(sampling={"steps": 7, "presets": {20: {"temperature": 0.5}}})
    run(config, folder, resume=True)
    model = load_model(folder / "model")
    assert model.info.config.sampling == config.sampling
    assert (model.fingerprint(), model.info.provenance["steps"]) == (before, 10)
    written = (folder / "model" / "config.json").stat().st_mtime_ns
    run(config, folder, resume=True)  # nothing is new
    assert (folder / "model" / "config.json").stat().st_mtime_ns == written


def test_a_model_without_its_checkpoint(run, make_config, tmp_path):
    folder = tmp_path / "run"
    run(make_config(training={"steps": 2}), folder)
    (folder / "last.ckpt").unlink()
    with pytest.raises(UserError, match="holds a model already; give another --output"):
        run(make_config(), folder)
    with pytest.raises(UserError, match=r"no checkpoint to resume; .*give another --output"):
        run(make_config(), folder, resume=True)


def test_too_little_memory_is_told(run, make_config, tmp_path, monkeypatch):
    def full():
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    at_batch(monkeypatch, 3, full)
    with pytest.raises(UserError, match=r"training.batch_size: a step of 4 does not fit"):
        run(make_config(), tmp_path / "run")


def test_other_molecules_under_the_same_name_are_refused(run, make_config, tmp_path, store):
    store.save(tmp_path / "mine.npz")
    config = make_config(data={"source": str(tmp_path / "mine.npz")}, training={"steps": 2})
    run(config, tmp_path / "run")
    longer = make_config(data={"source": str(tmp_path / "mine.npz")}, training={"steps": 3})
    other = dataclasses.replace(store, positions=store.positions + 1)
    other.save(tmp_path / "mine.npz")
    with pytest.raises(UserError, match=r"mine.npz: not the molecules that the run was started"):
        run(longer, tmp_path / "run", resume=True)
    store.save(tmp_path / "mine.npz")
    assert run(longer, tmp_path / "run", resume=True).steps == 3
