from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from molbfn.chem import sdf
from molbfn.chem.molecule import Molecule
from molbfn.errors import UserError
from molbfn.evaluation.compare import compare
from molbfn.evaluation.compare_table import render, sentence
from molbfn.evaluation.run import evaluate


def water(title: str = "water") -> Molecule:
    return Molecule(
        atomic_numbers=np.array([8, 1, 1]),
        positions=np.array([[0, 0, 0.1173], [0, 0.7572, -0.4692], [0, -0.7572, -0.4692]]),
        formal_charges=np.zeros(3),
        bonds=np.array([[0, 1, 1], [0, 2, 1]]),
        title=title,
    )


def hydrogen(length: float) -> Molecule:
    return Molecule(np.array([1, 1]), np.array([[0, 0, 0], [0, 0, length]]), bonds=[[0, 1, 1]])


def broken() -> Molecule:
    """Two hydrogens too far apart: no atom is stable."""
    return hydrogen(3.0)


def write(path: Path, *groups: tuple[Molecule, int], text: str = "") -> Path:
    records = [sdf.format_record(molecule) * count for molecule, count in groups]
    path.write_text("".join(records) + text)
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write(tmp_path / "good.sdf", (water(), 380), (hydrogen(0.74), 10), (broken(), 10))


@pytest.fixture
def worse(tmp_path: Path) -> Path:
    return write(tmp_path / "worse.sdf", (water(), 330), (hydrogen(0.74), 10), (broken(), 60))


def test_a_file_and_itself(good: Path) -> None:
    found = compare(good, good, protocols=("edm", "bonds"))
    assert not any(m.differs for m in found.metrics)
    assert all(m.difference.value == 0 for m in found.metrics)
    assert sentence(found).startswith("No difference is beyond noise")
    assert "A and B are the same file" in found.notes


def test_a_known_difference_is_found_and_said(good: Path, worse: Path) -> None:
    found = compare(worse, good)
    stable = found["molecule_stability"]
    assert stable.first.value == 340 / 400
    assert stable.second.value == 390 / 400
    assert stable.differs
    assert not found["uniqueness"].differs
    text = sentence(found)
    assert "B makes more stable molecules (97.5 % against 85.0 %, difference 12.5 points" in text
    assert "no other difference is beyond noise" in text
    assert f"Holm's correction over {len(found.metrics)} metrics" in text
    back = compare(good, worse)
    assert "A makes more stable molecules (97.5 % against 85.0 %" in sentence(back)


def test_each_side_is_what_evaluate_says(good: Path, worse: Path) -> None:
    found = compare(worse, good, reference=good, protocols=("edm", "bonds"))
    for path, side in ((worse, "first"), (good, "second")):
        alone = evaluate(path, reference=good, protocols=("edm", "bonds"))
        for metric in found.metrics:
            share, expected = getattr(metric, side), alone[metric.name]
            if metric.size in (None, expected.denominator):
                assert share.value == expected.value, metric.name
    assert {m.name for m in found.metrics if "novel" in m.name}


def test_different_numbers_of_molecules(tmp_path: Path) -> None:
    """The larger set has fewer different molecules per molecule only because it is larger."""
    few = write(tmp_path / "few.sdf", (water(), 10), (hydrogen(0.74), 10))
    many = write(tmp_path / "many.sdf", (water(), 100), (hydrogen(0.74), 100))
    found = compare(few, many)
    unique = found["uniqueness"]
    assert unique.size == 20
    assert unique.first.value == 2 / 20
    assert unique.second.value == pytest.approx(2 / 20, rel=1e-4)
    assert not unique.differs
    assert any("not comparable" in note for note in found.notes)


def test_holm_counts_every_metric(good: Path, worse: Path) -> None:
    found = compare(good, worse)
    smallest = min(found.metrics, key=lambda m: m.difference.p)
    expected = min(1.0, len(found.metrics) * smallest.difference.p)
    assert smallest.adjusted_p == pytest.approx(expected)


def test_unreadable_records_count_and_are_reported(tmp_path: Path, good: Path) -> None:
    torn = write(tmp_path / "torn.sdf", (water(), 20), text="torn\n")
    problems = []
    found = compare(good, torn, on_problem=problems.append)
    assert found.unreadable == (0, 1)
    assert [p.record for p in problems] == [21]
    assert found["validity"].second.value == 20 / 21


def test_what_is_not_defined_is_left_out(tmp_path: Path, good: Path) -> None:
    nothing = write(tmp_path / "none.sdf", text="torn\n")
    found = compare(good, nothing, protocols=("bonds",))
    assert found["bonds_atom_stability"].difference is None
    assert any("bonds_atom_stability" in note for note in found.notes)
    json.loads(found.to_json())


def test_json_and_table(tmp_path: Path, good: Path, worse: Path) -> None:
    found = compare(worse, good)
    path = tmp_path / "a.json"
    found.to_json(path)
    data = json.loads(path.read_text())
    assert data["sentence"] == sentence(found)
    assert {m["name"]: m["differs"] for m in data["metrics"]}["molecule_stability"] is True
    assert render(found).row_count == len(found.metrics)


def test_mistakes(good: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'edm'"):
        compare(good, good, protocols=("emd",))
    with pytest.raises(UserError, match="no protocol"):
        compare(good, good, protocols=())
    with pytest.raises(UserError, match="no such file"):
        compare(good, good.with_name("missing.sdf"))
