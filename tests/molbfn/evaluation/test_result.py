"""Dict, JSON, pandas and CSV say the same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest

from molbfn.errors import UserError
from molbfn.evaluation.metrics import Quantity
from molbfn.evaluation.result import EvaluationResult
from molbfn.evaluation.run import evaluate


@pytest.fixture
def result(named, write) -> EvaluationResult:
    """Novelty is defined, uniqueness too; sizes and a failure are there."""
    molecules = [*named("methane", "ammonium", "water", "methane"), None]
    return evaluate(molecules, reference=write("ref.xyz", named("water")))


def test_metrics_by_name(result: EvaluationResult):
    assert result["validity"].numerator == 3
    with pytest.raises(KeyError, match="did you mean 'validity'"):
        result["valdity"]


def test_json_holds_everything(result: EvaluationResult, tmp_path: Path):
    text = result.to_json(tmp_path / "out.json")
    assert (tmp_path / "out.json").read_text() == text
    found = json.loads(text)
    assert found == result.to_dict()
    assert found["molecules"] == {"given": 5, "unreadable": 1, "unjudged": 0, "evaluated": 4}
    by_name = {m["name"]: m for m in found["metrics"]}
    assert by_name["novelty_distances"]["numerator"] == 1
    assert by_name["validity"]["definition"] == result["validity"].definition
    assert found["composition"]["element_percent"]["O"] == pytest.approx(100 / 18)
    assert found["reference_composition"]["size_histogram"] == {"3": 1}
    assert found["reference"] == "ref.xyz"
    assert found["versions"]["rdkit"]
    assert found["problems"] == ["molecule 5 is None"]


def test_undefined_values_are_null_and_nan():
    nothing = evaluate([None])
    metrics = {m["name"]: m for m in json.loads(nothing.to_json())["metrics"]}
    assert metrics["uniqueness"]["value"] is None
    frame = nothing.to_frame().set_index("name")
    assert pd.isna(frame.loc["uniqueness", "value"])
    assert frame.loc["validity", "value"] == 0


def test_frame_and_csv(result: EvaluationResult, tmp_path: Path):
    frame = result.to_frame()
    assert len(frame) == len(result.metrics) + len(result.quantities)
    assert set(frame["unit"]) == {"share"}
    assert frame["value"].dtype == "float64"
    assert frame.set_index("name").loc["validity", "denominator"] == 5
    assert set(frame["reference"]) == {"ref.xyz"}
    result.to_csv(tmp_path / "out.csv")
    back = pd.read_csv(tmp_path / "out.csv")
    pd.testing.assert_frame_equal(back, frame, check_dtype=False)


def test_quantities_are_rows_of_the_csv_too(result: EvaluationResult, tmp_path: Path):
    energy = Quantity(
        "energy", "ΔE, median", 1.5, 1.0, 2.0, "kcal/mol", 3, 4, "physics", "bootstrap", "of four"
    )
    dataclasses.replace(result, quantities=(energy,)).to_csv(tmp_path / "out.csv")
    row = pd.read_csv(tmp_path / "out.csv").set_index("name").loc["energy"]
    assert (row["value"], row["unit"]) == (1.5, "kcal/mol")
    assert (row["numerator"], row["denominator"]) == (3, 4)


def test_failed_write_names_the_file_and_leaves_the_old_one(
    result: EvaluationResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(UserError, match="nowhere"):
        result.to_csv(tmp_path / "nowhere" / "out.csv")
    file = tmp_path / "out.json"
    file.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"out\.json: No space left"):
        result.to_json(file)
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.glob("*out.json*")] == ["out.json"]


def test_quantities_by_name(named):
    found = evaluate(named("methane", "water"), protocols=("similarity",))
    assert found.quantity("similarity_internal_diversity").count == 2
    with pytest.raises(KeyError, match="did you mean 'similarity_internal_diversity'"):
        found.quantity("similarity_internal_diversty")
    plain = json.loads(found.to_json())
    assert plain["quantities"][0]["name"] == "similarity_internal_diversity"
    assert plain["notes"] == list(found.notes)
    assert plain["skipped"] == {}
    assert plain["distributions"] == []
