import dataclasses

import numpy as np
import pytest

from molbfn.evaluation import bonds, edm
from molbfn.report.collect import card
from molbfn.report.reasons import STATUSES, connected_parts, unreadable


def own(molecule):
    return card(1, molecule).judgements["bonds"]


def by_distance(molecule):
    return card(1, molecule).judgements["edm"]


def texts(judgement):
    return [reason.text for reason in judgement.reasons]


@pytest.mark.parametrize("name", ["water", "ammonium"])
def test_nothing_is_wrong_with_what_is_right(example, name):
    assert own(example(name)).status == "stable"
    assert own(example(name)).reasons == ()


def test_an_atom_with_too_few_bonds_is_named(example):
    judgement = own(example("hydroxyl"))
    assert judgement.status == "unstable"
    assert texts(judgement) == ["atom 1 (O) has valence 1 instead of 2"]
    assert judgement.reasons[0].kind == "O with valence 1"
    assert judgement.reasons[0].atoms == (0,)


def test_what_rdkit_refuses_is_named(example):
    judgement = own(example("neutral NH4"))
    assert judgement.status == "invalid"
    assert texts(judgement) == ["atom 1 (N) has valence 4, RDKit allows 3"]


def test_a_charge_is_part_of_the_reason(example):
    water = example("water")
    charged = dataclasses.replace(water, formal_charges=np.array([1, 0, 0]))
    judgement = own(charged)
    assert judgement.status == "unstable"
    assert texts(judgement) == ["atom 1 (O+) has valence 2 instead of 3"]


def test_the_distance_table_knows_no_charges(example):
    assert by_distance(example("ammonium")).status == "invalid"
    assert texts(by_distance(example("ammonium")))[0].startswith("atom 1 (N) has valence 4")


def test_pieces_are_counted_and_the_smaller_ones_marked(example):
    judgement = own(example("two waters"))
    assert judgement.status == "pieces"
    assert texts(judgement) == ["in 2 pieces (3, 3 atoms)"]
    assert len(judgement.reasons[0].atoms) == 3


def test_no_bonds_are_a_reason_of_their_own(example):
    assert own(example("water without bonds")).status == "unjudged"
    assert by_distance(example("water without bonds")).status == "stable"


def test_a_file_with_no_bond_at_all_is_told_as_that(example):
    judgement = own(dataclasses.replace(example("water"), bonds=np.empty((0, 3))))
    assert judgement.status == "unjudged"
    assert texts(judgement) == ["the file states no bonds"]


def test_an_element_without_a_table_is_named(example):
    xenon = dataclasses.replace(example("hydroxyl"), atomic_numbers=np.array([54, 1]))
    assert by_distance(xenon).status == "unjudged"
    assert "Xe" in texts(by_distance(xenon))[0]
    chlorine = dataclasses.replace(example("hydroxyl"), atomic_numbers=np.array([17, 1]))
    assert by_distance(chlorine).status == own(chlorine).status == "stable"


def test_records_that_fail_alike_are_of_one_kind():
    first = unreadable("a.sdf: record 3 (line 40): no 'M  END' line", 3)
    second = unreadable("a.sdf: record 7 (line 90): no 'M  END' line", 7)
    assert first.reasons[0].kind == second.reasons[0].kind == "no 'M  END' line"
    assert first.reasons[0].text.startswith("a.sdf: record 3")


def test_statuses_agree_with_the_verdicts(demo, example):
    names = ["water", "hydroxyl", "ammonium", "neutral NH4", "two waters", "water without bonds"]
    for molecule in [*demo, *(example(name) for name in names)]:
        for judge, judgement in ((edm.judge, by_distance), (bonds.judge, own)):
            (verdict,), found = judge([molecule]), judgement(molecule)
            assert found.status in STATUSES
            assert (found.status == "stable") == (verdict.stable and verdict.connected)
            assert (found.status in ("invalid", "unjudged")) == (not verdict.valid)
            assert (found.status == "pieces") == (verdict.valid and verdict.fragments > 1)
            assert bool(found.reasons) == (found.status != "stable")


def test_parts_are_those_that_bonds_connect():
    labels = connected_parts(5, np.array([[0, 3, 1], [3, 4, 1]]))
    assert labels[0] == labels[3] == labels[4]
    assert len(set(labels)) == 3
