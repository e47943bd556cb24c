import dataclasses
import errno
import json
import os
import tempfile

import pytest
import torch

from molbfn.benchmarks import evaluation, hardware, speed
from molbfn.benchmarks.evaluation import (
    evaluate_bounds,
    evaluate_flow_bound,
    evaluate_quality,
    evaluate_speed,
)
from molbfn.benchmarks.model import load_data
from molbfn.benchmarks.results import read_results
from molbfn.errors import UserError


def test_figures_are_said_and_kept(tiny_model, here, tmp_path):
    model = tiny_model("text8_small", "data.length=20", "evaluation.steps=[3]")
    shown = []
    bounds = evaluate_bounds(
        model, results=tmp_path, count=4, passes=2, precision="fp32",
        progress=lambda *a: shown.append(a),
    )  # fmt: skip
    assert "our own test part" in bounds.lines[1]
    assert "bits/char" in bounds.lines[2]
    assert {text for *_, text in shown} == {"n = inf", "n = 3"}
    more = evaluate_bounds(model, results=tmp_path, steps=[5], count=4, passes=2, precision="fp32")
    assert more.path == bounds.path
    (result,) = read_results(tmp_path)
    assert [row["n_steps"] for row in result.figures] == [None, 3, 5]
    assert result.data["split"] == "test"
    assert result.model["parameters"] == sum(p.numel() for p in model.network.parameters())
    assert result.model["counted"] == 0


def test_bounds_through_the_ode_are_a_kind_of_their_own(tiny_model, here, tmp_path):
    model = tiny_model("text8_small", "data.length=20")
    shown, options = [], {"results": tmp_path, "count": 3, "eta": 0.1, "precision": "fp32"}
    report = evaluate_flow_bound(
        model, solver_steps=[1, 2], progress=lambda *a: shown.append(a), **options
    )
    assert report.path.name == "text8_small_flow.json"
    assert "our own test part" in report.lines[1]
    assert "2 steps (9 calls)" in report.lines[3]
    assert shown[-1] == (2, 2, "2 steps")
    evaluate_flow_bound(model, solver_steps=[2], probes=2, **options)
    evaluate_bounds(model, results=tmp_path, steps=[3], count=3, passes=2, precision="fp32")
    bound, flow = read_results(tmp_path)
    assert (bound.kind, flow.kind) == ("bound", "flow")
    rows = [(row["solver_steps"], row["probes"]) for row in flow.figures]
    assert rows == [(1, 1), (2, 1), (2, 2)]
    fewer = evaluate_flow_bound(model, solver_steps=[2], **{**options, "count": 2})
    assert fewer.lines[-1] == "2 steps: an earlier figure of more samples stays in the file"
    for wrong in (0.0, 1.0, float("nan")):
        with pytest.raises(UserError, match=r"--eta .*: a time between 0 and 1"):
            evaluate_flow_bound(model, results=tmp_path, eta=wrong)


def test_quality_of_text(tiny_model, here, tmp_path):
    pytest.importorskip("spylls")
    model = tiny_model("text8_small", "data.length=20")
    report = evaluate_quality(
        model, results=tmp_path, calls=[2], samplers=["ode1"], count=3, precision="fp32"
    )
    assert "spelling" in report.lines[-1]
    (result,) = read_results(tmp_path)
    assert result.settings == {"seed": 0, "samples": 3, "precision": "fp32"}
    assert {"spelling", "symbol_entropy", "word_entropy"} <= set(result.figures[-1])


def test_an_interruption_leaves_what_was_measured(tiny_model, here, tmp_path):
    pytest.importorskip("spylls")
    model = tiny_model("text8_small", "data.length=20")

    def until(last):
        def progress(done, total, text):
            if text == last:
                raise KeyboardInterrupt

        return progress

    with pytest.raises(KeyboardInterrupt):
        evaluate_bounds(
            model, results=tmp_path, steps=[2, 3, 4], count=4, passes=2, progress=until("n = 4")
        )
    with pytest.raises(KeyboardInterrupt):
        evaluate_quality(
            model, results=tmp_path, calls=[2, 3], samplers=["ode1"], count=3,
            progress=until("ode1, 3 calls"),
        )  # fmt: skip
    bounds, quality = read_results(tmp_path)
    assert [row["n_steps"] for row in bounds.figures] == [2, 3]
    assert [(row["sampler"], row["calls"]) for row in quality.figures] == [("data", 0), ("ode1", 2)]
    # What one run measured has one day and one machine: none stands beside its rows.
    assert not any({"date", "processor"} & set(row) for row in bounds.figures + quality.figures)


@pytest.fixture
def quick_speed(monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **__: None)
    monkeypatch.setattr(speed, "compile_problem", lambda device: None)


def test_speed_is_kept_too(tiny_model, tmp_path, quick_speed):
    report = evaluate_speed(tiny_model(), results=tmp_path, batch_size=2, rounds=1)
    assert len(report.lines) == 2 * len(speed.variants(torch.device("cpu")))
    assert read_results(tmp_path)[0].kind == "speed"


def test_speeds_of_something_else_are_moved_aside(tiny_model, tmp_path, quick_speed, monkeypatch):
    def measure(model, **options):
        return evaluate_speed(model, results=tmp_path, **{"batch_size": 2, "rounds": 1, **options})

    def files():
        return {path.name.removeprefix("mnist_small_speed.json") for path in tmp_path.iterdir()}

    first = measure(tiny_model())
    text = first.path.read_text()
    again = tiny_model()
    torch.nn.init.ones_(next(again.parameters()))  # fresh weights are others each time
    assert not any("now in" in line for line in measure(again).lines)
    assert files() == {""}

    other = measure(again, batch_size=3)
    assert other.lines[-1] == (
        f"figures of other settings or another machine or network were there: now in "
        f"{first.path}.before"
    )
    old = json.loads((tmp_path / "mnist_small_speed.json.before").read_text())
    assert (old["settings"]["batch_size"], old["data"]) == (2, json.loads(text)["data"])
    measure(tiny_model("mnist_small", "network.inner_width=16"), batch_size=3)
    assert files() == {"", ".before", ".before1"}
    monkeypatch.setattr(hardware, "processor_name", lambda: "another")
    measure(tiny_model("mnist_small", "network.inner_width=16"), batch_size=3)
    assert files() == {"", ".before", ".before1", ".before2"}
    first.path.write_text("{")
    assert "that cannot be read were there" in measure(tiny_model()).lines[-1]


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(
    tiny_model, here, tmp_path, monkeypatch
):
    def refuse(**_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    monkeypatch.setattr(evaluation, "measure_speed", None)
    model = tiny_model("text8_small", "data.length=20")
    said = f"--results {tmp_path}: Permission denied"
    with pytest.raises(UserError, match=said):
        evaluate_speed(model, results=tmp_path, batch_size=2)
    with pytest.raises(UserError, match=said):
        evaluate_bounds(model, results=tmp_path)


def test_what_is_impossible_is_told_before_anything_is_measured(tiny_model, here, tmp_path):
    model = tiny_model("text8_small", "data.length=20")
    with pytest.raises(UserError, match="--calls 1: at least 2"):
        evaluate_quality(model, results=tmp_path, calls=[5, 1], samplers=["sde1"], count=2)
    with pytest.raises(UserError, match="--calls 4: this sampler makes 2 calls a step"):
        evaluate_quality(model, results=tmp_path, calls=[5, 4], samplers=["ode2s"], count=2)
    (tmp_path / "file").write_text("")
    for measure in (evaluate_bounds, lambda *a, **k: evaluate_quality(*a, calls=[5], **k)):
        with pytest.raises(UserError, match=r"--results .*file: File exists"):
            measure(model, results=tmp_path / "file")


def test_one_sample_has_no_spread(tiny_model, here, tmp_path):
    model = tiny_model("text8_small", "data.length=20", "evaluation.steps=[3]")
    report = evaluate_bounds(model, results=tmp_path, count=1, passes=2, precision="fp32")
    assert "(samples)" not in report.lines[-1]
    (result,) = read_results(tmp_path)
    assert result.figures[0]["spread"] is None


def test_a_model_that_diverged_is_told(tiny_model, here, tmp_path):
    pytest.importorskip("spylls")
    model = tiny_model("text8_small", "data.length=20")
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(UserError, match="text8_small: the bound of some samples is not a finite"):
        evaluate_bounds(model, results=tmp_path, count=4, passes=2, steps=[3])
    with pytest.raises(UserError, match="no finite numbers"):
        evaluate_quality(model, results=tmp_path, calls=[2], samplers=["ode1"], count=3)


def test_any_seed_will_do(tiny_model, here, tmp_path):
    model = tiny_model("text8_small", "data.length=20")
    evaluate_bounds(model, results=tmp_path, count=4, passes=2, steps=[3], seed=10**17)


@pytest.mark.parametrize("trained", ["these", "others", "unknown"])
def test_a_model_of_other_data_is_flagged(tiny_model, here, tmp_path, trained):
    pytest.importorskip("spylls")
    model = tiny_model("text8_small", "data.length=20")
    data = load_data(model.info.config)
    digest = {"these": {"data_digest": data.train.digest()}, "others": {"data_digest": "0" * 16}}
    provenance = {**model.info.provenance, **digest.get(trained, {})}
    model.info = dataclasses.replace(model.info, provenance=provenance)
    bounds = evaluate_bounds(model, results=tmp_path, steps=[3], count=4, passes=2)
    quality = evaluate_quality(model, results=tmp_path, calls=[2], samplers=["ode1"], count=3)
    flag = "the model was trained on other data, which this part may have been among"
    note = f"{data.note}; {flag}" if trained == "others" else data.note
    assert (bounds.lines[1], quality.lines[1]) == (note, note)
    for result in read_results(tmp_path):
        assert result.data == {
            "label": data.label, "split": "test", "note": note, "unit": "sequences",
            "digest": data.test.digest(),
        }  # fmt: skip
