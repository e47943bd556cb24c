"""The loss curve: one row a window, means without skipped steps, nothing lost on resuming."""

from __future__ import annotations

import csv
import errno
import math
import os

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from molbfn.errors import UserError
from molbfn.training.module import TrainingModule
from molbfn.training.runlog import COLUMNS, Board, read_rows


@pytest.fixture
def losses(monkeypatch) -> list[float]:
    """Record the loss of each batch; batch 2 (from 0) is not a number."""
    found: list[float] = []
    plain = TrainingModule.loss

    def loss(module, *args):
        values = plain(module, *args)
        if module.training:
            if module.batches_seen == 2:
                values["loss"] = values["loss"] * torch.nan
            found.append(float(values["loss"].detach()))
        return values

    monkeypatch.setattr(TrainingModule, "loss", loss)
    return found


def test_rows_are_means_over_the_steps_since_the_last(run, make_config, tmp_path, curve, losses):
    result = run(make_config(training={"log_steps": 4}), tmp_path / "run")
    rows = [row for row in curve(tmp_path / "run") if row["train/loss"]]
    assert [int(row["step"]) for row in rows] == [4, 8, 10]  # the last one whatever the window
    windows = losses[:4], losses[4:8], losses[8:]
    for row, window in zip(rows, windows, strict=True):
        finite = [value for value in window if math.isfinite(value)]
        assert float(row["train/loss"]) == pytest.approx(sum(finite) / len(finite), rel=1e-5)
    assert [float(row["train/bad_steps"]) for row in rows] == [1, 1, 1]
    assert result.metrics["train/loss"] == pytest.approx(float(rows[-1]["train/loss"]))


def test_validation_has_its_own_rows(run, make_config, tmp_path, curve):
    run(make_config(), tmp_path / "run")
    rows = curve(tmp_path / "run")
    assert [int(row["step"]) for row in rows] == [2, 4, 5, 6, 8, 10, 10]
    valid = [row for row in rows if row["valid/loss"]]
    assert [int(row["step"]) for row in valid] == [5, 10]
    for row in valid:
        total = float(row["valid/positions"]) + float(row["valid/elements"])
        assert float(row["valid/loss"]) == pytest.approx(total, rel=1e-5)
        assert not row["train/loss"]


def test_learning_rate_is_the_one_used(run, make_config, tmp_path, curve):
    config = make_config(
        training={"log_steps": 1, "warmup_steps": 4, "decay_fraction": 0.2, "steps": 10}
    )
    run(config, tmp_path / "run")
    rates = [float(r["train/learning_rate"]) for r in curve(tmp_path / "run") if r["train/loss"]]
    shares = [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 0.5]
    assert rates == pytest.approx([0.003 * share for share in shares])


def test_accumulated_batches_count_as_one_step(run, make_config, tmp_path, curve, losses):
    run(make_config(training={"accumulate": 3, "steps": 4}), tmp_path / "run")
    rows = [row for row in curve(tmp_path / "run") if row["train/loss"]]
    assert [int(row["step"]) for row in rows] == [2, 4]
    assert len(losses) == 12
    assert float(rows[1]["train/loss"]) == pytest.approx(sum(losses[6:]) / 6, rel=1e-5)


def test_tensorboard_has_the_same_values(run, make_config, tmp_path, curve):
    run(make_config(), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    for column in ("train/loss", "valid/elements"):
        expected = {
            int(row["step"]): float(row[column]) for row in curve(tmp_path / "run") if row[column]
        }
        found = {event.step: event.value for event in events.Scalars(column)}
        assert found == pytest.approx(expected, rel=1e-5)


def test_rows_after_the_checkpoint_are_taken_again(run, make_config, tmp_path, curve):
    config = make_config(training={"log_steps": 1})
    run(config, tmp_path / "run")
    expected = curve(tmp_path / "run")
    path = tmp_path / "run" / "metrics.csv"
    # As a killed run leaves it: rows beyond its checkpoint, the last one cut in two.
    with path.open("a") as stream:
        stream.write("11,9.9,,,,,,,,,\n12,9.")
    run(make_config(training={"log_steps": 1, "steps": 12}), tmp_path / "run", resume=True)
    rows = curve(tmp_path / "run")
    assert rows[: len(expected)] == expected
    assert [int(row["step"]) for row in rows[len(expected) :]] == [11, 12]
    assert rows[-2]["train/loss"] != "9.9"
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(1, 13))


def test_a_half_written_row_is_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,train/loss\n10,1.5\n20,1.25\n30")
    assert [row["step"] for row in read_rows(path)] == ["10", "20"]
    path.write_text("")
    assert read_rows(path) == []
    assert read_rows(tmp_path / "none.csv") == []
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        read_rows(path)


def test_columns_are_stable(run, make_config, tmp_path):
    run(make_config(), tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open(newline="") as stream:
        assert next(csv.reader(stream)) == list(COLUMNS)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("allowed", [1, 30, 10_000])
def test_training_goes_on_where_tensorboard_cannot_write(
    run, make_config, tmp_path, monkeypatch, curve, capfd, allowed
):
    """Its thread fails at once, in the middle, or never."""
    run(make_config(), tmp_path / "whole")
    capfd.readouterr()
    written = []
    plain = RecordWriter.write

    def write(writer, data) -> None:
        written.append(data)
        if len(written) > allowed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(writer, data)

    monkeypatch.setattr(RecordWriter, "write", write)
    assert run(make_config(), tmp_path / "run").steps == 10
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")
    said = capfd.readouterr().err
    line = "run/tensorboard/: cannot be written (No space left on device); the rest of the run is"
    assert said.count(line) == said.count("cannot be written") == (allowed < 10_000)


def test_a_board_that_cannot_be_closed(tmp_path, monkeypatch):
    told = []
    board = Board(tmp_path, tell=told.append)

    def full(*_) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(TensorBoardLogger, "finalize", full)
    board.finalize("success")
    board.finalize("success")
    assert len(told) == 1


def test_what_cannot_be_logged_at_all_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="not supported"):
        Board(tmp_path, tell=print).log_metrics({"loss": "high"}, 1)
