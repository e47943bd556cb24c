from __future__ import annotations

import dataclasses

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from molbfn.chem import xyz
from molbfn.chem.molecule import Molecule
from molbfn.chem.records import RecordError


def read(text: str) -> list[Molecule | str]:
    out: list[Molecule | str] = []
    for raw in xyz.split_records(text.splitlines(keepends=True)):
        try:
            if raw.problem:
                raise raw.problem
            out.append(xyz.parse_record(raw.lines))
        except RecordError as error:
            out.append(f"{raw.first + (error.line or 1) - 1}: {error}")
    return out


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_round_trip(any_molecules, same, data) -> None:
    given_ = [data.draw(any_molecules(known=False)) for _ in range(2)]
    back = read("".join(xyz.format_record(m) for m in given_))
    for molecule, other in zip(given_, back, strict=True):
        same(molecule, other, decimals=5.1e-7)


def test_quotes_and_backslashes_in_properties(water: Molecule, same) -> None:
    tricky = dataclasses.replace(
        water, bonds=None, formal_charges=None,
        title='a "b" \\ c=d', properties={"p": 'x="1" y', "q": "back\\", "e": ""},
    )  # fmt: skip
    (back,) = read(xyz.format_record(tricky))
    same(tricky, back, decimals=1e-6)


def test_plain_comment_is_the_title() -> None:
    (molecule,) = read("1\nhelium, alone\nHe 0 0 0\n")
    assert molecule.title == "helium, alone"
    assert molecule.properties == {}
    assert molecule.bonds is None


def test_extended_columns_and_lattice() -> None:
    text = (
        '2\nLattice="5 0 0 0 5 0 0 0 5" Properties=id:I:1:pos:R:3:species:S:1 energy=-1.5\n'
        "7 0 0 1 C\n8 0 0 2 O\n"
    )
    (molecule,) = read(text)
    assert molecule.atomic_numbers.tolist() == [6, 8]
    np.testing.assert_array_equal(molecule.positions, [[0, 0, 1], [0, 0, 2]])
    assert molecule.properties == {"Lattice": "5 0 0 0 5 0 0 0 5", "energy": -1.5}


def test_qm9s_own_files_with_their_extra_lines() -> None:
    text = (
        "2\ngdb 5\t1.0\t2.0\nH\t0.0\t0.0\t-1.2*^-2\t0.1\nF\t0\t0\t.9\t-0.1\n"
        "4000.1\nF\tF\nInChI=1S/FH/h1H\tInChI=1S/FH/h1H\n"
    )
    first, second = read(text + text)
    assert first.positions[0, 2] == pytest.approx(-0.012)
    assert second.atomic_numbers.tolist() == [1, 9]


def test_numbers_and_isotopes_as_elements() -> None:
    (molecule,) = read("3\n\n6 0 0 0\nD 0 0 1\nCL 0 0 2\n")
    assert molecule.atomic_numbers.tolist() == [6, 1, 17]


def test_a_bad_record_costs_only_itself() -> None:
    good = "1\ngood\nC 0 0 0\n"
    text = (
        good
        + "2\nshort\nC 0 0 0\n"  # an atom is missing
        + good
        + "\n\nnonsense\nmore nonsense\n"
        + good
        + "1\nelement\nQq 0 0 0\n"
        + "1\nnan\nC 0 nan 0\n"
        + "1\nwords\nC 0 zero 0\n"
        + "1\nfew\nC 0 0\n"
        + "0\nempty\n"
        + good
        + "3\nend\nC 0 0 0\n"
    )
    result = read(text)
    assert [m.title if isinstance(m, Molecule) else m for m in result] == [
        "good",
        "6: truncated: 1 of 2 atoms",
        "good",
        "12: expected a number of atoms, found 'nonsense'",
        "good",
        "19: unknown element 'Qq'",
        "22: a coordinate is not a finite number",
        "25: not an atom: 'C 0 zero 0'",
        "28: not an atom: 'C 0 0'",
        "29: no atoms",
        "good",
        "36: truncated: 1 of 3 atoms",
    ]


def test_not_finite_coordinates_are_refused(water: Molecule) -> None:
    with pytest.raises(ValueError, match="finite"):
        xyz.format_record(dataclasses.replace(water, positions=np.full((3, 3), np.nan)))


@pytest.mark.parametrize(
    ("comment", "title", "properties"),
    [
        ("C=O", "C=O", {}),
        ("CC(=O)OC=C  vinyl", "CC(=O)OC=C  vinyl", {}),
        ("mol_17 charge=0 mult=1", "mol_17", {"charge": 0, "mult": 1}),
        ("formaldehyde E=-114.50", "formaldehyde", {"E": "-114.50"}),
        ("energy=-3.5", "", {"energy": -3.5}),
        ("name=water energy=-3.5", "water", {"energy": -3.5}),
        ("method=xtb charge=1", "", {"method": "xtb", "charge": 1}),
        ("C=O energy=-114.5", "C=O", {"energy": -114.5}),
        ("mol1 energy=-.5", "mol1", {"energy": "-.5"}),
        ('name="a \\"b c\\" d" charge=0', 'a "b c" d', {"charge": 0}),
        (f"mol x={'1' * 100_000}x", f"mol x={'1' * 100_000}x", {}),
        ('3" of "it" in=all', '3" of "it" in=all', {}),
    ],
)
def test_what_is_no_pair_is_the_title(comment: str, title: str, properties: dict) -> None:
    (molecule,) = read(f"1\n{comment}\nHe 0 0 0\n")
    assert (molecule.title, molecule.properties) == (title, properties)


@pytest.mark.parametrize(
    ("columns", "missing"),
    [
        ("species:S:1:pos:R:2:forces:R:3", "pos of width 3"),
        ("species:S:1:magmoms:R:1:forces:R:3", "pos of width 3"),
        ("pos:R:3", "species (or Z)"),
        ("species:S:1:pos:R", "pos of width 3"),
        ("some words", "species (or Z)"),
    ],
)
def test_columns_without_positions_are_not_guessed(columns: str, missing: str) -> None:
    atom = "C 1 2 3 4 5 6\n"
    bad, good = read(f'1\nProperties="{columns}"\n{atom}1\nProperties=""\n{atom}')
    assert bad == f"2: no {missing} in Properties={columns}"
    np.testing.assert_array_equal(good.positions, [[1, 2, 3]])


def test_positions_by_the_name_that_ase_has_for_them() -> None:
    comment = "Properties=species:S:1:magmoms:R:1:positions:R:3"
    (molecule,) = read(f"1\n{comment}\nO 0.5 1 2 3\n")
    np.testing.assert_array_equal(molecule.positions, [[1, 2, 3]])


@pytest.mark.parametrize("word", ["1_0.74", "1_0", "\u0661"])
def test_what_only_python_takes_for_a_number_is_none(word: str) -> None:
    assert read(f"1\n\nH 0 0 {word}\n") == [f"3: not an atom: 'H 0 0 {word}'"]


@pytest.mark.parametrize("title", ["", "hydroxide", "C=O", "charge=2"])
def test_the_total_charge_survives(title: str) -> None:
    anion = Molecule(
        np.array([8, 1]),
        np.array([[0, 0, 0], [0, 0, 0.96]]),
        formal_charges=np.array([-1, 0]),
        title=title,
    )
    (back,) = read(xyz.format_record(anion))
    assert (back.charge, back.title) == (-1, title)
    # what the charges add up to counts, whatever a property says
    (again,) = read(xyz.format_record(anion.with_properties(Charge=1, energy=-2.5)))
    assert (again.charge, again.properties["energy"]) == (-1, -2.5)
    neutral = dataclasses.replace(anion, formal_charges=np.array([-1, 1]), title="pair")
    assert xyz.format_record(neutral).splitlines()[1] == "pair"


@pytest.mark.parametrize("comment", ["ion charge=+1", "ion charge=1.00", "ion Total_Charge=1"])
def test_a_charge_is_read_however_it_is_written(comment: str) -> None:
    (found,) = read(f"1\n{comment}\nLi 0 0 0\n")
    assert (found.charge, found.title) == (1, "ion")


def test_records_whose_count_has_words_are_each_counted() -> None:
    bad = "3 atoms\nwater\nO 0 0 0\nH 0 0 1\nH 0 1 0\n"
    good = "2\nhydrogen\nH 0 0 0\nH 0 0 0.74\n"
    found = read(bad + bad + good + bad)
    wrong = "expected a number of atoms, found '3 atoms'"
    assert found[:2] == [f"1: {wrong}", f"6: {wrong}"]
    assert found[2].title == "hydrogen"
    assert found[3] == f"15: {wrong}"
    assert len(found) == 4
    # Numbered atoms are no counts: however many there are, they are one problem.
    numbered = "".join(f"{k} C 0 0 {k}\n" for k in range(1, 8))
    found = read(good + numbered + good)
    assert [type(item) for item in found] == [Molecule, str, Molecule]
    # Where it says more than there are, the next record is not lost with it.
    short = read("9 atoms\nwater\nO 0 0 0\n" + good)
    assert short[0].startswith("1: expected")
    assert short[1].title == "hydrogen"


def test_blank_lines_between_atoms_count_for_nothing() -> None:
    text = "3\nwater\n\nO 0 0 0\n  \nH 0 0 1\nH 0 1 0\n\n\n2\nhydrogen\nH 0 0 0\n\n"
    water, hydrogen = read(text)
    assert water.atomic_numbers.tolist() == [8, 1, 1]
    assert hydrogen.endswith("truncated: 1 of 2 atoms")
    (wrong,) = read("2\n\nH 0 0 0\n\nH 0 zero 0\n")
    assert wrong.startswith("5: not an atom")


def test_exponents_of_fortran() -> None:
    (found,) = read("1\n\nH 1.5D+00 -2.5d-1 1.D0\n")
    assert found.positions.tolist() == [[1.5, -0.25, 1.0]]
    (wrong,) = read("1\n\nH 1.5D 0 0\n")
    assert "not an atom" in wrong
