import dataclasses
import json

import numpy as np

from molbfn.evaluation import evaluate
from molbfn.evaluation.sampled import Outcome
from molbfn.report.collect import card, with_measurements
from molbfn.report.pack import pack_card, pack_evaluation, whole

COLUMNS = [{"key": "atoms"}, {"key": "energy"}]


def test_coordinates_are_whole_thousandths():
    assert whole([[0.1234, -1.0], [2.0006, 0]], 1000) == [123, -1000, 2001, 0]


def test_what_is_too_far_is_shown_at_the_end_and_told(example, recwarn):
    water = example("water")
    points = water.positions.copy()
    points[1, 0], points[2, 1] = 1e20, -1e20
    packed = pack_card(0, card(1, dataclasses.replace(water, positions=points)), COLUMNS)
    assert max(packed["x"]) == -min(packed["x"]) == 10**12
    assert packed["w"]["Coordinates"].startswith("too far to show: beyond 1,000,000,000 Å")
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


def test_a_card_says_all_there_is(example):
    packed = pack_card(2, card(7, example("ammonium").with_properties(energy=1.5)), COLUMNS)
    assert json.loads(json.dumps(packed)) == packed
    assert (packed["f"], packed["i"], packed["k"]) == (2, 7, "bonds")
    assert packed["z"] == [7, 1, 1, 1, 1]
    np.testing.assert_allclose(
        np.array(packed["x"]).reshape(-1, 3) / 1000, example("ammonium").positions, atol=6e-4
    )
    assert np.array(packed["b"]).reshape(-1, 3).tolist() == example("ammonium").bonds.tolist()
    assert packed["c"] == [0, 1]
    assert packed["d"]["h"] == [4]
    assert packed["v"] == [5, 1.5]
    assert packed["j"]["bonds"] == ["stable", []]
    assert packed["j"]["edm"][0] == "invalid"


def test_what_slow_protocols_found_stands_on_the_card(example):
    plain = card(1, example("water"))
    good = Outcome(None, "ok", {"drop": 2.5, "rmsd": 0.25, "same_contacts": True})
    columns = [{"key": "relaxation_energy"}]
    packed = pack_card(0, with_measurements(plain, {"physics": {0: good}}, 0), columns)
    assert packed["v"] == [2.5]
    assert packed["w"] == {"After relaxation": "the same atoms in contact"}
    assert "n" not in packed
    other = pack_card(0, with_measurements(plain, {"physics": {0: good}}, 1), columns)
    assert other["v"] == [None]
    assert other["n"]["relaxation_energy"] == "not computed"
    assert "w" not in other
    assert {"n", "w"}.isdisjoint(pack_card(0, plain, columns))


def test_the_evaluation_keeps_every_figure(demo):
    result = evaluate(demo, protocols=["edm", "distributions"])
    packed = pack_evaluation("demo", result, shown=5, notes=["a note"])
    assert [m["name"] for m in packed["metrics"]] == [m.name for m in result.metrics]
    assert packed["metrics"][0]["low"] == result.metrics[0].low
    assert len(packed["distributions"]) == len(result.distributions)
    assert packed["notes"][0] == "a note"
    json.dumps(packed, allow_nan=False)
