import dataclasses

import numpy as np
import pytest

from molbfn.chem.molecule import Molecule
from molbfn.report.collect import card, collect


def test_records_come_in_order_with_those_that_cannot_be_read(example, write, tmp_path):
    path = write(tmp_path / "a.sdf", [example("water"), example("ammonium")])
    path.write_text(path.read_text() + "junk\n\n\nno counts\nM  END\n$$$$\n")
    cards = list(collect(path, 10))
    assert [c.record for c in cards] == [1, 2, 3]
    assert cards[2].molecule is None
    assert cards[2].main.status == "unreadable"
    assert cards[2].main.reasons[0].text.startswith("a.sdf: record 3")
    assert len(list(collect(path, 2))) == 2


def test_bonds_shown_are_the_files_or_by_distance(example):
    assert card(1, example("water")).bonds_by == "file"
    bare = card(1, example("water without bonds"))
    assert bare.bonds_by == "table"
    np.testing.assert_array_equal(bare.bonds, example("water").bonds)
    sodium = Molecule([11, 11], [[0, 0, 0], [0, 0, 3.08]])
    by_radius = card(1, sodium)
    assert by_radius.bonds_by == "single"
    assert by_radius.bonds.tolist() == [[0, 1, 1]]
    assert by_radius.main.status == "unjudged"
    # the table knows both elements and not their bond: judged without it, and shown
    boron = card(1, Molecule([5, 6], [[0, 0, 0], [0, 0, 1.57]]))
    assert (boron.bonds_by, boron.bonds.tolist()) == ("single", [[0, 1, 1]])
    assert boron.main.status == "pieces"


def test_a_file_with_no_bond_at_all_is_shown_and_judged_by_distance(example):
    empty = dataclasses.replace(example("water"), bonds=np.empty((0, 3)))
    found = card(1, empty)
    assert found.bonds_by == "table"
    assert found.main.status == "stable"
    assert found.judgements["bonds"].status == "unjudged"


def test_bonds_of_large_molecules_are_not_guessed():
    count = 2001
    points = np.zeros((count, 3))
    points[:, 0] = 1.5 * np.arange(count)
    found = card(1, Molecule(np.full(count, 11), points))
    assert found.bonds_by == "none"
    assert len(found.bonds) == 0
    assert found.depiction is None


@pytest.mark.parametrize("bonds", [True, False])
def test_the_smiles_is_that_of_all_pieces(example, bonds):
    water = example("water")
    two = Molecule(
        np.tile(water.atomic_numbers, 2),
        np.concatenate([water.positions, water.positions + 9]),
        formal_charges=np.zeros(6) if bonds else None,
        bonds=np.concatenate([water.bonds, np.add(water.bonds, [3, 3, 0])]) if bonds else None,
    )
    found = card(1, two)
    assert (found.smiles, found.formula) == ("O.O", "H4O2")
    assert card(1, water).smiles == "O"


def test_numbers_are_computed_and_read(example):
    water = example("water").with_properties(energy=-76.4, note="text", rings="7", big=2**60)
    found = card(1, water)
    assert found.formula == "H2O"
    assert found.numbers["atoms"] == 3
    assert found.numbers["heavy"] == 1
    assert found.numbers["weight"] == pytest.approx(18.015, abs=0.01)
    assert found.numbers["energy"] == -76.4
    assert found.numbers["rings"] == 0
    assert found.numbers["rings (file)"] == 7
    assert found.texts == {"note": "text", "big": str(2**60)}


def test_numbers_are_read_however_the_file_writes_them(example):
    found = card(1, example("water").with_properties(a="-7.30", b="1.0E+02", c="+1.2", d="1.2 Å"))
    assert {key: found.numbers.get(key) for key in "abcd"} == {
        "a": -7.3,
        "b": 100,
        "c": 1.2,
        "d": None,
    }
    assert found.stated == {"a": "-7.30", "b": "1.0E+02", "c": "+1.2"}
    assert found.texts == {"d": "1.2 Å"}


def test_the_net_charge_is_there_where_charges_are_known(example):
    water = example("water")
    assert card(1, water).numbers["net_charge"] == 0
    bare = dataclasses.replace(water, bonds=None, formal_charges=None)
    assert "net_charge" not in card(1, bare).numbers  # its bonds are guessed
    assert card(1, bare.with_properties(charge=-1)).numbers["net_charge"] == -1
    ion = Molecule(
        np.array([8, 1]),
        np.array([[0, 0, 0], [0, 0, 0.96]]),
        formal_charges=np.array([-1, 0]),
        bonds=np.array([[0, 1, 1]]),
    )
    assert card(1, ion).numbers["net_charge"] == -1
    monoxide = Molecule(
        np.array([6, 8]),
        np.array([[0, 0, 0], [0, 0, 1.128]]),
        formal_charges=np.array([-1, 1]),
        bonds=np.array([[0, 1, 3]]),
    )
    assert card(1, monoxide).numbers["net_charge"] == 0


def test_chemistry_is_not_computed_of_what_rdkit_refuses(example):
    numbers = card(1, example("neutral NH4")).numbers
    assert "qed" not in numbers
    assert numbers["atoms"] == 5


def test_the_main_judgement_is_by_the_molecules_own_bonds(example):
    assert card(1, example("ammonium")).main.status == "stable"
    assert card(1, example("water without bonds")).main.status == "stable"
