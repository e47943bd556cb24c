"""Energies of small molecules, failures in the denominators, and QM9's own row."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from molbfn.chem.molecule import Molecule
from molbfn.errors import UserError
from molbfn.evaluation.metrics import Quantity, summarise
from molbfn.evaluation.physics import _notes, _ratios, _statistics
from molbfn.evaluation.run import evaluate
from molbfn.evaluation.sampled import Outcome, Settings


def outcome(drop: float | None, *, same: bool = True, mmff: float | None = 1.0) -> Outcome:
    if drop is None:
        return Outcome(None, "unreadable", {}, "cannot be read")
    values = {"drop": drop, "rmsd": 0.1, "bond": 0.01, "angle": 1.0, "torsion": None}
    molecule = Molecule(np.array([1]), np.zeros((1, 3)))
    return Outcome(molecule, "ok", {**values, "same_contacts": same, "mmff_drop": mmff})


def quantities(outcomes: list[Outcome]) -> dict[str, Quantity]:
    return {s.name: summarise(s, seed=0) for s in _statistics(outcomes)}


def test_failures_stay_in_every_share_and_beside_every_mean():
    outcomes = [outcome(1), outcome(4, mmff=None), outcome(25, same=False), outcome(None)]
    shares = {r.name: (r.ratio.numerator, r.ratio.denominator) for r in _ratios(outcomes)}
    assert shares == {
        "physics_relaxed": (3, 4),
        "physics_below_5": (2, 4),
        "physics_above_20": (1, 4),
        "physics_same_contacts": (2, 4),
    }
    found = quantities(outcomes)
    assert found["physics_energy_mean"].value == pytest.approx(10)
    assert found["physics_energy_median"].value == 4
    assert found["physics_energy_median_all"].value == pytest.approx((4 + 25) / 2)
    assert (found["physics_energy_median"].count, found["physics_energy_median"].given) == (3, 4)
    assert found["physics_mmff_mean"].count == 2
    assert found["physics_torsion"].value is None
    assert found["physics_energy_mean"].low is None  # three values are too few
    twice = quantities(outcomes * 2)["physics_energy_mean"]
    assert 1 <= twice.low < 10 < twice.high <= 25


def test_an_odd_number_of_electrons_is_told():
    atom = Molecule(np.array([11]), np.zeros((1, 3)))
    ion = atom.with_properties(charge="+1")
    outcomes = [Outcome(m, "failed", {}, "no field") for m in (atom, ion, None)]
    told = [note for note in _notes(outcomes, 3, None) if "odd number" in note]
    assert len(told) == 1
    assert told[0].startswith("physics: 1 of 2 have an odd number of electrons")
    assert not [note for note in _notes(outcomes[1:], 2, None) if "odd number" in note]


def test_median_where_most_failed_is_not_a_number():
    found = quantities([outcome(1), *[outcome(None)] * 3])
    assert found["physics_energy_median_all"].value is None
    assert found["physics_energy_median"].value == 1
    assert not any(
        isinstance(x, float) and not math.isfinite(x)
        for q in found.values()
        for x in (q.low, q.high)
    )


def test_methane_is_relaxed_and_a_pentavalent_carbon_is_not(named, tmp_path):
    pytest.importorskip("tblite", reason="GFN2-xTB needs tblite")
    molecules = [*named("methane", "water", "pentavalent carbon"), None]
    settings = Settings(workers=1, cache=tmp_path / "cache.jsonl")
    result = evaluate(molecules, protocols=("physics",), settings=settings)
    assert (result.given, result.unreadable, result.failed) == (4, 1, 1)
    assert result["physics_relaxed"].denominator == 4
    assert result["physics_below_5"].numerator == 2
    assert result.quantity("physics_energy_median").count == result["physics_relaxed"].numerator
    assert "tblite" in result.versions
    assert any("all 4 molecules" in note for note in result.notes)
    single = result.outcomes["physics"]
    assert sorted(single) == [0, 1, 2, 3]
    assert [single[k].ok for k in (0, 1, 3)] == [True, True, False]
    assert all(single[k].molecule is molecules[k] for k in range(4))
    below = sum(o.ok and o.values["drop"] < 5 for o in single.values())
    assert below == result["physics_below_5"].numerator
    again = evaluate(molecules[::-1], protocols=("physics",), settings=settings)
    assert again.metrics == result.metrics
    assert again.quantities == result.quantities


def test_a_rate_is_given_where_the_record_fits_the_file(named, write, monkeypatch):
    def relaxed(molecules, *_, **__):
        return [Outcome(m, "ok", outcome(1).values) for m in molecules]

    monkeypatch.setattr("molbfn.evaluation.physics.measure_molecules", relaxed)
    monkeypatch.setattr("molbfn.evaluation.registry._PACKAGES", {})
    path = write("a.xyz", named("water", "methane"))
    record = {"complete": True, "written": 2, "runs": [{"seconds": 4.0}]}
    for written, rate in ((2, 0.5), (3, None)):
        path.with_name("a.xyz.json").write_text(json.dumps({**record, "written": written}))
        result = evaluate(path, protocols=("physics",))
        rates = [q.value for q in result.quantities if q.name == "useful_per_second"]
        assert rates == ([] if rate is None else [rate])
        assert any("a.xyz.json speaks of 3 molecules, not 2" in n for n in result.notes) == (
            rate is None
        )


def test_missing_package_is_skipped_by_all_and_refused_by_name(named, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "tblite" else real(name, *a)
    )
    with pytest.raises(UserError, match=r"physics needs tblite: pip install 'molbfn\[eval\]'"):
        evaluate(named("water"), protocols=("physics",))
    from molbfn.evaluation.registry import chosen_protocols

    names, skipped = chosen_protocols(["all"])
    assert "physics" not in names
    assert "tblite" in skipped["physics"]


@pytest.mark.slow
def test_qm9s_own_geometries(qm9):
    """B3LYP geometries lie 1.3 kcal/mol above the minima of GFN2-xTB (measured: median of 80)."""
    pytest.importorskip("tblite", reason="GFN2-xTB needs tblite")
    chosen = np.random.default_rng(0).choice(len(qm9), 40, replace=False)
    result = evaluate(qm9.subset(chosen), protocols=("physics",))
    assert result["physics_relaxed"].value == 1
    assert result.quantity("physics_energy_median").value == pytest.approx(1.27, abs=0.4)
