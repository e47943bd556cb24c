import json
import math
from dataclasses import replace

import pytest

from molbfn.benchmarks.results import Result, keep, published, read_result, read_results
from molbfn.benchmarks.table import _slug, write_tables
from molbfn.errors import UserError

BOUND = Result(
    benchmark="mnist_small",
    kind="bound",
    model={
        "fingerprint": "abc",
        "parameters": 1234567,
        "provenance": {
            "steps": 10,
            "hardware": "a slow machine",
            "processes": 3,
            "training": {"batch_size": 4, "accumulate": 2, "seed": 5},
        },
    },
    data={"label": "MNIST, dynamically binarised", "split": "test", "note": "", "unit": "images"},
    settings={"seed": 7, "precision": "fp32"},
    machine={"processor": "a slow machine"},
    date="2001-02-03",
    figures=[
        {"n_steps": None, "nats": 80.126, "error": 0.05, "spread": 0.2909, "samples": 10000,
         "passes": 4, "repeats": 3, "dimensions": 784},
        {"n_steps": 784, "nats": 81.0, "error": 0.05, "samples": 10000, "passes": 4,
         "repeats": 3, "dimensions": 784},
    ],
)  # fmt: skip
QUALITY = replace(
    BOUND,
    kind="quality",
    settings={"seed": 0, "samples": 50, "precision": "fp32"},
    figures=[
        {"sampler": "data", "calls": 0, "samples": 50, "frechet": 1.0},
        {"sampler": "original", "calls": 10, "samples": 50, "seconds": 1.0, "frechet": 30.0},
        {"sampler": "sde2", "calls": 10, "samples": 50, "seconds": 1.0, "frechet": 12.5},
        {"sampler": "original", "calls": 20, "samples": 50, "seconds": 2.0, "frechet": 15.0},
    ],
)
TEXT = replace(
    BOUND,
    benchmark="text8_small",
    data={"label": "a prefix", "split": "test", "note": "our own", "unit": "sequences"},
    figures=[{"n_steps": None, "nats": 256 * math.log(2) * 1.75, "error": 0.1, "samples": 9,
              "passes": 2, "repeats": 1, "dimensions": 256}],
)  # fmt: skip


FLOW = replace(
    BOUND,
    kind="flow",
    figures=[
        {"solver_steps": 10, "eta": 0.003, "probes": 2, "calls": 41, "nats": 82.25, "error": 1.5,
         "spread": 4.5, "variational": 81.75, "excess": 0.5, "excess_error": 1.25,
         "excess_spread": None, "samples": 40, "passes": 2, "dimensions": 784},
    ],
)  # fmt: skip
SPEED = replace(
    BOUND,
    kind="speed",
    data={},
    settings={"batch_size": 4, "rounds": 3},
    machine={"processor": "a slow machine", "threads": 1, "device": "cpu",
             "load average before": 2.5},
    figures=[{"job": "network call", "variant": "ours", "precision": "bf16", "batch_size": 4,
              "samples_per_second": 12.34, "gain": 3.456, "gain_min": 3.0, "gain_max": 4.0}],
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    for result in (BOUND, QUALITY, TEXT, SPEED):
        result.write(tmp_path / "benchmarks")
    return tmp_path / "benchmarks"


def rows(text: str, start: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_bound_stands_beside_the_papers(folder, tmp_path):
    pytest.importorskip("matplotlib")
    write_tables(folder, tmp_path / "benchmarks.md")
    text = (tmp_path / "benchmarks.md").read_text()
    for row in published()["bounds"]:
        assert f"**{row['value']}**" in text
    ours = rows(text, "mnist_small")
    assert ours[0] == [
        "mnist_small (ours)", "∞", "**80.13**", "0.050", "0.291", "nats/image",
        "10,000 × 12 times, fp32",
        "MNIST, dynamically binarised, test", "1,234,567", "10 steps, 240 samples",
        "a slow machine", "5 / 7", "2001-02-03",
    ]  # fmt: skip
    assert ours[1][1:3] == ["784", "**81.00**"]
    assert rows(text, "text8_small")[0][2:6] == ["**1.750**", "0.0006", "", "bits/char"]
    assert "a prefix, test (our own)" in text
    assert "cifar10_256 (ours) | | not measured yet" in text


def against(result, folder) -> list[str]:
    """Return the only row of ours in the table against the paper."""
    result.write(folder)
    write_tables(folder, folder / "x.md")
    text = (folder / "x.md").read_text().split("### Against the paper")[1]
    (row,) = rows(text.split("## Sources")[0], f"{result.benchmark} (")
    return row[1:]


def test_what_separates_a_model_from_the_papers(tmp_path):
    """81 - 77.87 nats, 24,808,961 / 1,234,567 parameters, 512 million / 80 samples."""
    assert against(BOUND, tmp_path) == [
        "784", "784", "**+3.13** ± 0.05", "nats/image", "20.1", "2,133,333",
        "the same, 10,000 samples",
    ]  # fmt: skip
    other_n = against(replace(BOUND, figures=BOUND.figures[:1]), tmp_path)
    assert other_n[:3] == ["∞", "784", "**+2.26** ± 0.30"]  # with 0.2909 of the samples


def test_what_is_not_known_of_the_paper_is_said(tmp_path):
    bits = {**BOUND.figures[0], "nats": 3072 * math.log(2) * 3.0, "dimensions": 3072}
    colours = replace(BOUND, benchmark="cifar10_256_small", figures=[bits])
    assert against(colours, tmp_path / "a")[2:6] == [
        "**+0.340** ± 0.000", "bits/dim", "24.9",
        "not known: its 32 a batch are of each of its processes",
    ]  # fmt: skip
    for name in ("cifar10_16_small", "cifar10_continuous_small", "mine"):
        row = against(replace(colours, benchmark=name), tmp_path / name)
        assert row[2] == "no figure of the paper known to us"
        assert row[3:6] == ["", "", ""]
    text = against(TEXT, tmp_path / "b")
    assert text[2:4] == ["**+0.340** ± 0.001", "bits/char"]
    assert text[5] == "138,666,667"  # 10 million steps of 8 times 416, of ours 240
    assert text[6] == "another: a prefix, test (our own), 9 samples"
    counted = replace(TEXT, model={**TEXT.model, "counted": 54_000})
    assert against(counted, tmp_path / "c")[5] == (
        "138,666,667, beside the text that its n-grams were counted in"
    )
    made = {"steps": 0, "imported": "mnist_ema.pt"}
    imported = replace(BOUND, benchmark="mnist", model={**BOUND.model, "provenance": made})
    assert against(imported, tmp_path / "d")[5] == "its own weights"


def test_the_bound_through_the_ode_has_a_table_of_its_own(folder, tmp_path):
    pytest.importorskip("matplotlib")
    write_tables(folder, tmp_path / "x.md")
    assert "probability-flow" not in (tmp_path / "x.md").read_text()
    assert FLOW.write(folder).name == "mnist_small_flow.json"
    assert FLOW in read_results(folder)
    write_tables(folder, tmp_path / "x.md")
    text = (tmp_path / "x.md").read_text().split("### Through the probability-flow ODE")[1]
    assert rows(text, "mnist_small (ours)") == [[
        "mnist_small (ours)", "10", "0.003", "2", "41", "**82.25**", "1.50", "4.50", "81.75",
        "+0.50", "1.25", "", "nats/image", "40 × 2 times, fp32",
        "MNIST, dynamically binarised, test", "a slow machine", "7", "2001-02-03",
    ]]  # fmt: skip


def test_what_was_counted_stands_beside_what_was_trained(tmp_path):
    pytest.importorskip("matplotlib")
    counted = {**TEXT.model, "counted": 54_000}
    replace(TEXT, benchmark="text8_ngram_small", model=counted).write(tmp_path)
    write_tables(tmp_path, tmp_path / "benchmarks.md")
    row, _ = rows((tmp_path / "benchmarks.md").read_text(), "text8_ngram_small")
    assert row[5] == "bits/char"
    assert row[8] == "1,234,567 and 54,000 counted (n-grams)"
    assert read_results(tmp_path)[0].base == "text8"  # beside the paper's figure


def test_a_measure_that_some_rows_lack_is_left_empty_there(tmp_path):
    """A run with --fid merged into one without; the data's own row has none either."""
    pytest.importorskip("matplotlib")
    fid = {"sampler": "ode", "calls": 10, "samples": 50, "seconds": 1.0, "frechet": 9.0, "fid": 7.5}
    replace(QUALITY, figures=[*QUALITY.figures, fid]).write(tmp_path)
    write_tables(tmp_path, tmp_path / "benchmarks.md")
    text = (tmp_path / "benchmarks.md").read_text()
    assert "| ode | 7.500 |  |" in text
    assert "| original |  |  |" in text
    assert text.count("As many samples of the training part") == 1


def test_quality_as_table_csv_and_picture(folder, tmp_path):
    pytest.importorskip("matplotlib")
    written = write_tables(folder, tmp_path / "benchmarks.md")
    assert {path.name for path in written} == {
        "benchmarks.md", "mnist_small_quality.csv", "mnist_small_frechet.png",
    }  # fmt: skip
    text = (tmp_path / "benchmarks.md").read_text()
    assert rows(text, "original") == [["original", "30.000", "15.000"]]
    assert rows(text, "sde2") == [["sde2", "12.500", ""]]
    assert "![frechet](benchmarks/mnist_small_frechet.png)" in text
    assert "As many samples of the training part: 1.000." in text
    table = (folder / "mnist_small_quality.csv").read_text().splitlines()
    assert table[0] == "sampler,calls,samples,seconds,frechet"
    assert table[2] == "original,10,50,1.0,30.0"
    assert (folder / "mnist_small_frechet.png").read_bytes().startswith(b"\x89PNG")


def test_errors_of_figures_stand_beside_them(tmp_path):
    pytest.importorskip("matplotlib")
    data, first, *others = QUALITY.figures
    figures = [
        {**data, "errors": {"frechet": 0.25}}, {**first, "errors": {"frechet": 1.5}}, *others
    ]  # fmt: skip
    replace(QUALITY, figures=figures).write(tmp_path)
    write_tables(tmp_path, tmp_path / "benchmarks.md")
    text = (tmp_path / "benchmarks.md").read_text()
    assert rows(text, "original") == [["original", "30.000 ± 1.500", "15.000"]]
    assert "As many samples of the training part: 1.000 ± 0.250." in text
    assert "± is the standard error over the choice of samples" in text
    table = (tmp_path / "mnist_small_quality.csv").read_text().splitlines()
    assert table[0] == "sampler,calls,samples,seconds,frechet,frechet_error"
    assert table[1:3] == ["data,0,50,,1.0,0.25", "original,10,50,1.0,30.0,1.5"]
    assert table[3] == "sde2,10,50,1.0,12.5,"


def test_pictures_of_samples_stand_by_sampler_and_calls(folder, tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("original_10", "original_20", "sde2_10", "other_10"):
        (folder / f"mnist_small_{name}.png").write_bytes(b"")
    write_tables(folder, tmp_path / "benchmarks.md")
    text = (tmp_path / "benchmarks.md").read_text()
    assert "| samples | 10 calls | 20 calls |" in text
    first = "![](benchmarks/mnist_small_original_10.png)"
    assert f"| original | {first} | ![](benchmarks/mnist_small_original_20.png) |" in text
    assert "| sde2 | ![](benchmarks/mnist_small_sde2_10.png) |  |" in text
    assert "other_10" not in text
    assert _slug("sde2@0.85:0.6") == "sde2-0.85-0.6"


def test_texts_are_shown_and_capitals_stay(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [{"sampler": "sde2", "calls": 10, "samples": 50, "seconds": 1.0, "spelling": 0.5}]
    replace(TEXT, kind="quality", settings=QUALITY.settings, figures=rows).write(tmp_path)
    (tmp_path / "text8_small_sde2_10.txt").write_text("".join(f" text {k}\n" for k in range(5)))
    write_tables(tmp_path, tmp_path / "benchmarks.md")
    text = (tmp_path / "benchmarks.md").read_text()
    shown = "First samples of sde2 with 10 calls:\n\n- ` text 0`\n- ` text 1`\n- ` text 2`\n\n"
    assert shown in text
    assert "\nShare of words that hunspell's en_US knows (higher is better):\n" in text


def test_speed_is_a_table_of_its_own(folder, tmp_path):
    pytest.importorskip("matplotlib")
    write_tables(folder, tmp_path / "benchmarks.md")
    text = (tmp_path / "benchmarks.md").read_text()
    assert rows(text, "mnist_small | 1,234,567")[0][2:8] == [
        "network call",
        "ours",
        "4",
        "12.3",
        "**3.46** (3.00 to 4.00)",
        "a slow machine, 1 thread, load average 2.5",
    ]


def test_machines_and_slow_rates_of_the_speed(tmp_path):
    pytest.importorskip("matplotlib")
    figures = [{**SPEED.figures[0], "samples_per_second": 0.1234}]
    machine = {"processor": "a CPU", "threads": 8, "device": "a GPU"}
    replace(SPEED, figures=figures, machine=machine).write(tmp_path)
    other = replace(SPEED, benchmark="text8", machine={**machine, "device": "cpu"})
    other.write(tmp_path)
    write_tables(tmp_path, tmp_path / "benchmarks.md")
    text = (tmp_path / "benchmarks.md").read_text()
    assert rows(text, "mnist_small | 1,234")[0][5:8:2] == ["0.12", "a GPU"]
    assert rows(text, "text8 | 1,234")[0][7] == "a CPU, 8 threads"


def test_a_table_can_be_filled_in_pieces(folder):
    figures = [
        {"sampler": "sde2", "calls": 10, "samples": 50, "frechet": 9.0},
        {"sampler": "ode1", "calls": 10, "samples": 50, "frechet": 8.0},
    ]
    more = replace(QUALITY, figures=figures)
    kept = keep(replace(more, date="2002-01-01", machine={"processor": "a new machine"}), folder)
    assert kept.notes == []
    merged = read_result(kept.path)
    assert len(merged.figures) == 5
    assert [r["frechet"] for r in merged.figures if r["sampler"] == "sde2"] == [9.0]
    # What was measured before keeps its day and machine.
    assert [r.get("date") for r in merged.figures] == ["2001-02-03"] * 3 + [None] * 2
    write_tables(folder, folder / "x.md")
    text = (folder / "x.md").read_text()
    assert "a new machine and a slow machine, 2001-02-03 to 2002-01-01" in text
    assert "Date" not in text
    few = replace(BOUND, figures=[{**BOUND.figures[1], "nats": 5.0}])
    merged = read_result(keep(few, folder).path)
    assert [(r["n_steps"], r["nats"]) for r in merged.figures] == [(None, 80.126), (784, 5.0)]


def test_figures_that_do_not_know_their_digest_fit_those_that_do(folder):
    known, other = (replace(BOUND, data={**BOUND.data, "digest": name}) for name in ("a", "b"))
    assert keep(known, folder).notes == []
    assert read_result(keep(BOUND, folder).path).figures == BOUND.figures
    assert keep(known, folder).notes == []
    assert "were there" in keep(other, folder).notes[0]


def test_a_bound_of_fewer_samples_does_not_replace_one_of_more(folder):
    rough = {**BOUND.figures[0], "samples": 100, "nats": 70.0}
    kept = keep(replace(BOUND, figures=[rough]), folder)
    assert kept.notes == ["n = inf: an earlier figure of more samples stays in the file"]
    assert [r["nats"] for r in read_result(kept.path).figures] == [80.126, 81.0]
    fine = {**BOUND.figures[0], "passes": 8, "nats": 79.0}
    kept = keep(replace(BOUND, figures=[fine]), folder)
    assert kept.notes == []
    assert sorted(r["nats"] for r in read_result(kept.path).figures) == [79.0, 81.0]


@pytest.mark.parametrize(
    "change",
    [
        {"model": {**BOUND.model, "fingerprint": "other"}},
        {"settings": {"seed": 8, "precision": "x"}},
        {"data": {**BOUND.data, "split": "valid"}},
    ],
)
def test_figures_of_something_else_are_put_aside(folder, change):
    new = replace(BOUND, figures=BOUND.figures[:1], **change)
    kept = keep(new, folder)
    assert read_result(kept.path) == new
    assert "figures of other weights, data or settings were there" in kept.notes[0]
    before = folder / "mnist_small_bound.json.before"
    assert before.name in kept.notes[0]
    assert read_result(before) == BOUND
    third = keep(replace(new, settings={**new.settings, "seed": 99}), folder)
    assert read_result(before) == BOUND  # it is not the place of the second ones
    assert read_result(folder / "mnist_small_bound.json.before1") == new
    assert "before1" in third.notes[0]
    assert len(read_results(folder)) == 4


def test_a_measurement_is_not_lost_to_a_damaged_file(folder):
    (folder / "mnist_small_bound.json").write_text("{")
    kept = keep(BOUND, folder)
    assert read_result(kept.path) == BOUND
    assert "that cannot be read" in kept.notes[0]


def test_published_weights_are_not_ours(tmp_path):
    made = {"steps": 0, "imported": "mnist_ema.pt"}
    result = replace(BOUND, benchmark="mnist", model={**BOUND.model, "provenance": made})
    result.write(tmp_path)
    write_tables(tmp_path, tmp_path / "x.md")
    text = (tmp_path / "x.md").read_text()
    cells = rows(text, "mnist (published weights)")[0]
    assert cells[9] == "published weights, mnist_ema.pt"
    assert "mnist (ours)" not in text


def test_pictures_are_found_from_a_document_elsewhere(folder, tmp_path):
    pytest.importorskip("matplotlib")
    write_tables(folder, tmp_path / "other" / "tables.md")
    text = (tmp_path / "other" / "tables.md").read_text()
    assert "![frechet](../benchmarks/mnist_small_frechet.png)" in text


def test_results_survive_the_round_trip(folder):
    assert read_results(folder) == [BOUND, QUALITY, SPEED, TEXT]


def test_nothing_to_make_a_table_of(tmp_path):
    with pytest.raises(UserError, match="no figures; run 'molbfn bench eval' first"):
        write_tables(tmp_path, tmp_path / "x.md")
    (tmp_path / "x_bound.json").write_text(json.dumps({"benchmark": "x"}))
    with pytest.raises(UserError, match="not a result"):
        write_tables(tmp_path, tmp_path / "x.md")


@pytest.mark.parametrize("result", [BOUND, QUALITY, SPEED, FLOW])
def test_a_result_that_lacks_something_is_named(tmp_path, result):
    key = next(iter(result.figures[-1]))
    rows = [{k: v for k, v in row.items() if k != key} for row in result.figures]
    path = replace(result, figures=rows).write(tmp_path)
    with pytest.raises(UserError, match=f"{path.name}: not a result of .*lacks '{key}'"):
        read_results(tmp_path)
    replace(result, model={}).write(tmp_path)
    with pytest.raises(UserError, match="lacks 'fingerprint'"):
        read_results(tmp_path)
    path.write_text("[]")
    with pytest.raises(UserError, match="not a result"):
        read_results(tmp_path)


def test_published_figures_have_a_source():
    known = published()
    trained = [row["training"] for row in known["bounds"]]
    for row in [*known["bounds"], *known["quality"], *trained]:
        assert row["source"] in known["sources"]
