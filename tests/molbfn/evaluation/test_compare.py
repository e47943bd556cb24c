from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from molbfn.chem import sdf, xyz
from molbfn.chem.molecule import Molecule
from molbfn.errors import UserError
from molbfn.evaluation.compare import compare
from molbfn.evaluation.compare_table import sentence, tables
from molbfn.evaluation.run import evaluate
from molbfn.evaluation.sampled import Outcome


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


def test_every_figure_that_evaluate_has_is_compared(good: Path, worse: Path) -> None:
    found = compare(worse, good, reference=good, protocols=("revisited",))
    alone = evaluate(worse, reference=good, protocols=("revisited",))
    assert [m.name for m in found.metrics] == [m.name for m in alone.metrics]
    for metric in found.metrics:
        if metric.size in (None, alone[metric.name].denominator):
            assert metric.first.value == alone[metric.name].value, metric.name
    keys = found["revisited_connected_unique_inchikey"]
    # two structures by InChIKey; hydrogens too far apart are bonded, so they are the second one
    assert (keys.size, keys.first.value, keys.differs) == (400, 2 / 400, False)
    assert found["legacy_molecule_stability"].definition


def energy(molecule: Molecule | None) -> Outcome:
    """Stands for a relaxation: what a hydrogen loses is its length, 9 cannot be relaxed."""
    if molecule is None:
        return Outcome(None, "unreadable", {}, "cannot be read")
    drop = float(molecule.positions[1, 2])
    if drop == 9:
        return Outcome(molecule, "failed", {}, "does not converge")
    values = {"drop": drop, "rmsd": 0.1, "bond": 0.01, "angle": None, "torsion": None}
    return Outcome(molecule, "ok", {**values, "same_contacts": True, "mmff_drop": None})


@pytest.fixture
def relaxing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker and no xTB: `energy` says what is found."""
    monkeypatch.setattr("molbfn.evaluation.registry._PACKAGES", {})
    monkeypatch.setattr(
        "molbfn.evaluation.physics.measure_molecules", lambda m, *_, **__: list(map(energy, m))
    )


@pytest.mark.usefixtures("relaxing")
def test_energies_are_compared_over_those_that_were_measured(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lengths = [np.float32(rng.normal(mean, 0.3, 50)) for mean in (1.5, 2.5)]
    paths = [
        write(tmp_path / f"{name}.sdf", *((hydrogen(x), 1) for x in own), *failed, text=text)
        for name, own, failed, text in (
            ("a", lengths[0], [], ""),
            ("b", lengths[1], [(hydrogen(9), 20)], "torn\n"),
        )
    ]
    written = [np.round(x.astype(float), 4) for x in lengths]  # four decimals in a file
    found = compare(*paths, protocols=("physics",), samples={"physics": None})
    mean = found["physics_energy_mean"]
    assert mean.difference.value == pytest.approx(written[1].mean() - written[0].mean(), abs=1e-6)
    reach = 1.96 * np.sqrt(sum(x.var() / 50 for x in written))
    assert mean.difference.low == pytest.approx(mean.difference.value - reach, abs=0.02)
    assert mean.measured == ((50, 50), (50, 71))
    assert mean.unit == "kcal/mol"
    assert mean.differs
    relaxed = found["physics_relaxed"]
    assert (relaxed.first.value, relaxed.second.value) == (1, 50 / 71)
    worst = found["physics_energy_median_all"].second.value
    assert worst == pytest.approx(np.median([*written[1], *[9] * 21]), abs=1e-6)
    assert found["physics_torsion"].difference is None
    text = sentence(found)
    assert f"B has the larger ΔE, mean ({written[1].mean():.2f} against" in text
    assert "kcal/mol, difference 1." in text
    assert "A makes more molecules that can be relaxed (100.0 % against 70.4 %" in text
    assert any("failed as worst" in note for note in found.notes)
    assert any("physics_torsion" in note for note in found.notes)
    assert "B: physics: 21 failed" in " ".join(found.notes)
    assert [t.row_count for t in tables(found)] == [4, len(found.metrics) - 4]
    data = json.loads(found.to_json())
    assert {m["unit"] for m in data["metrics"]} >= {None, "kcal/mol", "Å"}


@pytest.mark.usefixtures("relaxing")
def test_a_sample_of_each_set_is_compared(tmp_path: Path) -> None:
    many = write(tmp_path / "many.sdf", *((hydrogen(1 + k / 100), 1) for k in range(90)))
    few = write(tmp_path / "few.sdf", *((hydrogen(1 + k / 100), 1) for k in range(30)))
    found = compare(many, few, protocols=("physics",), samples={"physics": 40}, seed=3)
    assert found["physics_energy_median"].measured == ((40, 40), (30, 30))
    assert "A: physics: GFN2-xTB, a random sample of 40 of 90 molecules" in found.notes
    alone = evaluate(many, protocols=("physics",), samples={"physics": 40}, seed=3)
    value = alone.quantity("physics_energy_median").value
    assert found["physics_energy_median"].first.value == value
    assert not any("failed as worst" in note for note in found.notes)


def test_what_only_one_set_has_is_left_out(tmp_path: Path, monkeypatch) -> None:
    """PoseBusters can treat none of A's molecules, so it is not known what they would fail."""
    monkeypatch.setattr("molbfn.evaluation.registry._PACKAGES", {})

    def bust(molecules, *_, **__):
        return [
            Outcome(m, "failed", {}, "no") if m.atomic_numbers[0] == 1
            else Outcome(m, "ok", {"bond_lengths": True, "internal_energy": None})
            for m in molecules
        ]  # fmt: skip

    monkeypatch.setattr("molbfn.evaluation.posebusters.measure_molecules", bust)
    bad = write(tmp_path / "bad.sdf", (hydrogen(1), 30))
    good = write(tmp_path / "good.sdf", (water(), 30))
    found = compare(bad, good, protocols=("posebusters",))
    assert found["posebusters_bond_lengths"].first is None
    assert found["posebusters_bond_lengths"].second.value == 1
    assert found["posebusters_valid"].second.value == 0
    assert found["posebusters_valid_no_energy"].differs
    assert "B makes more molecules that pass all tests but that of the energy" in sentence(found)
    assert any("posebusters_bond_lengths" in note for note in found.notes)
    back = compare(good, bad, protocols=("posebusters",))
    assert back["posebusters_bond_lengths"].second is None


def test_all_takes_what_is_installed_and_comparable(good: Path, monkeypatch) -> None:
    packages = {"posebusters": ("not_there",), "physics": ("not_there",)}
    monkeypatch.setattr("molbfn.evaluation.registry._PACKAGES", packages)
    found = compare(good, good, protocols=("all",), samples={"agreement": 2})
    protocols = list(dict.fromkeys(m.protocol for m in found.metrics))
    assert protocols == ["edm", "bonds", "revisited", "agreement"]
    assert "physics: skipped, needs not_there: pip install 'molbfn[eval]'" in found.notes
    with pytest.raises(UserError, match="posebusters needs not_there"):
        compare(good, good, protocols=("posebusters",))


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
    (table,) = tables(found)
    assert table.row_count == len(found.metrics)


def test_mistakes(good: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'edm'"):
        compare(good, good, protocols=("emd",))
    with pytest.raises(UserError, match="unknown protocol 'distributions'"):
        compare(good, good, protocols=("distributions",))
    with pytest.raises(UserError, match="unknown sampled protocol 'fysics'"):
        compare(good, good, samples={"fysics": 3})
    with pytest.raises(UserError, match="no protocol"):
        compare(good, good, protocols=())
    with pytest.raises(UserError, match="no such file"):
        compare(good, good.with_name("missing.sdf"))


def test_what_a_protocol_cannot_judge_is_not_compared(tmp_path: Path) -> None:
    stated, bare = write(tmp_path / "a.sdf", (water(), 20)), tmp_path / "a.xyz"
    bare.write_text(xyz.format_record(water()) * 20)
    found = compare(bare, stated, protocols=("edm", "bonds"))
    assert found["bonds_validity"].difference is None
    assert found["validity"].difference is not None
    (note,) = [note for note in found.notes if note.startswith("A: bonds:")]
    assert "20 of 20 molecules not judged" in note
    assert "bonds" not in sentence(found)


def test_molecules_without_their_hydrogens_are_told(tmp_path: Path, good: Path) -> None:
    oxygen = Molecule(np.array([8]), np.zeros((1, 3)), np.zeros(1), np.empty((0, 3)))
    heavy = write(tmp_path / "heavy.sdf", (oxygen, 5), (water(), 15))
    notes = [note for note in compare(good, heavy).notes if "lack hydrogens" in note]
    assert len(notes) == 1
    assert notes[0].startswith("B: 5 of 20 molecules lack hydrogens")
