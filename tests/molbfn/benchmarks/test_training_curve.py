import csv
import json
import math

import pytest

from molbfn.benchmarks.results import read_result
from molbfn.benchmarks.table import write_tables
from molbfn.benchmarks.training_curve import keep_curve

LOG = """step,train/loss,train/gradient_norm,valid/loss
50,3.0,1.0,
100,2.5,1.0,
100,,,2.25
150,2.0,1.0,
200,,,1.5
200,1.75"""  # the last line was cut by a kill


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").write_text(LOG)
    return tmp_path / "run"


def test_rows_of_one_step_are_one(tiny_model, run, tmp_path):
    model = tiny_model("text8_small", "data.length=8")
    path = keep_curve(model, run, tmp_path / "kept").path
    result = read_result(path)
    assert path.name == "text8_small_training.json"
    assert result.figures == [
        {"step": 50, "train": 3.0},
        {"step": 100, "train": 2.5, "valid": 2.25},
        {"step": 150, "train": 2.0},
        {"step": 200, "valid": 1.5},
    ]
    assert result.model["fingerprint"] == model.fingerprint()


@pytest.mark.parametrize(
    ("name", "unit", "factor"),
    [
        ("text8_small", "bits/char", 1 / math.log(2)),
        ("cifar10_16_small", "bits/dim", 1 / math.log(2)),
        ("mnist_small", "nats/image", 784),
    ],
)
def test_curve_in_the_units_of_the_bound(tiny_model, run, tmp_path, name, unit, factor):
    pytest.importorskip("matplotlib")
    model = tiny_model(name, *(["data.length=8"] if name == "text8_small" else []))
    folder = tmp_path / "benchmarks"
    keep_curve(model, run, folder)
    written = write_tables(folder, tmp_path / "benchmarks.md")
    assert [path.name for path in written] == [
        "benchmarks.md", f"{name}_training.csv", f"{name}_training.png",
    ]  # fmt: skip
    assert written[2].read_bytes().startswith(b"\x89PNG")
    with written[1].open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["step", f"train ({unit})", f"valid ({unit})"]
    assert [row[0] for row in rows] == ["50", "100", "150", "200"]
    assert [float(row[1]) for row in rows[:3]] == pytest.approx([f * factor for f in (3, 2.5, 2)])
    assert [row[2] for row in rows[::2]] == ["", ""]
    assert float(rows[3][2]) == pytest.approx(1.5 * factor)
    text = (tmp_path / "benchmarks.md").read_text()
    assert f"## Training of {name}" in text
    assert f"last validation at step 200: {1.5 * factor:.3f}." in text
    assert f"![training](benchmarks/{name}_training.png)" in text


@pytest.mark.parametrize("log", [None, "", "step,train/loss,valid/loss\n", "step,time\n1,2\n"])
def test_without_a_log_there_is_no_curve(tiny_model, tmp_path, log):
    if log is not None:
        (tmp_path / "metrics.csv").write_text(log)
    assert keep_curve(tiny_model(), tmp_path, tmp_path / "kept") is None
    assert not (tmp_path / "kept").exists()


def test_one_point_is_a_picture_too(tiny_model, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "metrics.csv").write_text("step,train/loss,valid/loss\n2,0.5,\n")
    path = keep_curve(tiny_model(), tmp_path, tmp_path / "benchmarks").path
    assert json.loads(path.read_text())["figures"] == [{"step": 2, "train": 0.5}]
    write_tables(tmp_path / "benchmarks", tmp_path / "benchmarks.md")
    assert "last validation" not in (tmp_path / "benchmarks.md").read_text()


def test_the_curve_of_another_run_is_not_replaced(tiny_model, run, tmp_path):
    model = tiny_model("text8_small", "data.length=8")
    first = keep_curve(model, run, tmp_path)
    text = first.path.read_text()
    (run / "metrics.csv").write_text(LOG.rpartition("\n")[0] + "\n250,1.5,1.0,\n")
    longer = keep_curve(model, run, tmp_path)  # the same run, further on
    assert (longer.path, longer.notes) == (first.path, [])
    (run / "metrics.csv").write_text(LOG.replace("3.0", "3.5"))
    other = keep_curve(model, run, tmp_path)
    before = first.path.with_name(f"{first.path.name}.before")
    assert other.notes == [f"the curve of another run was there: now in {before}"]
    assert len(json.loads(before.read_text())["figures"]) == len(json.loads(text)["figures"]) + 1
