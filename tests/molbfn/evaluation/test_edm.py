"""EDM's protocol on molecules whose verdict is known, and what must not change it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molbfn.chem.molecule import Molecule
from molbfn.evaluation.composition import Composition
from molbfn.evaluation.edm import edm_protocol, judge
from molbfn.evaluation.reference import KnownSmiles
from molbfn.evaluation.verdicts import Verdict

Named = Callable[..., list[Molecule]]


def ratios(molecules: Sequence[Molecule | None], *known: str) -> dict[str, tuple[int, int]]:
    """Metric -> (numerator, denominator); the reference has the SMILES given, if any."""
    protocol = edm_protocol()
    protocol.add(molecules)
    references = (
        [KnownSmiles(frozenset(known), Composition({}, {}), 0, "known", "smiles")] if known else []
    )
    return {r.name: (r.ratio.numerator, r.ratio.denominator) for r in protocol.ratios(references)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # atoms, stable atoms, SMILES of the largest fragment, fragments
        ("methane", (5, 5, "C", 1)),
        ("water", (3, 3, "O", 1)),
        ("ammonia", (4, 4, "N", 1)),
        ("ethane", (8, 8, "CC", 1)),
        # orders by length: a triple bond, and two double bonds
        ("hydrogen cyanide", (3, 3, "C#N", 1)),
        ("carbon dioxide", (3, 3, "O=C=O", 1)),
        ("real carbon dioxide", (3, 0, None, 0)),
        # there are no charges: four hydrogens on nitrogen are one too many
        ("ammonium", (5, 4, None, 0)),
        # beyond QM9's elements
        ("hydrogen chloride", (2, 2, "Cl", 1)),
        ("pentavalent carbon", (6, 5, None, 0)),
        # the carbon lacks a bond: a radical, not stable, and yet valid
        ("methyl", (4, 3, "[CH3]", 1)),
        # CH3 ... CH3 at 2.2 angstrom: no bond, so two radicals
        ("torn ethane", (8, 6, "[CH3]", 2)),
        # in two pieces and still "stable" and "valid": only connected validity sees it
        ("methane and water", (8, 8, "C", 2)),
        ("two methanes", (10, 10, "C", 2)),
    ],
)
def test_verdict(example: Callable[[str], Molecule], name: str, expected: tuple):
    assert judge([example(name)]) == [Verdict(*expected)]


def test_elements_beyond_qm9_by_the_published_table():
    """Lengths of experiment, angstrom; worked out by hand with the margins 10, 5 and 3 pm."""
    # CS2: C=S 1.553 < 1.60 + 0.05, so carbon has 4; each sulfur has 2, and the table wants 4
    disulfide = Molecule([16, 6, 16], [[0, 0, -1.553], [0, 0, 0], [0, 0, 1.553]])
    # OPCl3 with its P=O of 1.449 < 1.50 + 0.05 and P-Cl of 1.993 < 2.03 + 0.10
    arms = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    chloride = Molecule(
        [15, 8, 17, 17, 17], [[0, 0, 0], *(arms * [[1.449], [1.993], [1.993], [1.993]])]
    )
    # AlH: no length, but a valence; its hydrogen is as unstable as in the published code
    hydride = Molecule([13, 1], [[0, 0, 0], [0, 0, 1.65]])
    found = judge([disulfide, chloride, hydride])
    assert [(v.atoms, v.stable_atoms) for v in found] == [(3, 1), (5, 5), (2, 0)]
    assert [v.problem for v in found] == [None] * 3
    assert (found[1].smiles, found[1].stable) == ("O=P(Cl)(Cl)Cl", True)


def test_a_pair_without_a_length_is_no_bond():
    """B-C and As-C at bonding distance: two pieces, judged, unstable; not an unknown element."""
    for number, length in ((5, 1.56), (33, 1.96)):
        (verdict,) = judge([Molecule([number, 6], [[0, 0, 0], [0, 0, length]])])
        assert (verdict.problem, verdict.stable_atoms, verdict.fragments) == (None, 0, 2)


def test_verdict_in_words(example: Callable[[str], Molecule]):
    pieces, radical, charged = judge(
        [example("methane and water"), example("methyl"), example("ammonium")]
    )
    assert (pieces.stable, pieces.valid, pieces.connected) == (True, True, False)
    assert (radical.stable, radical.valid, radical.connected) == (False, True, True)
    assert (charged.stable, charged.valid, charged.connected) == (False, False, False)


def test_each_metric_counts_what_it_says(named: Named):
    molecules = named("methane", "water", "torn ethane", "ammonium", "methane and water", "methane")
    assert ratios(molecules, "O", "CCO") == {
        "atom_stability": (5 + 3 + 6 + 4 + 8 + 5, 5 + 3 + 8 + 5 + 8 + 5),
        "molecule_stability": (4, 6),
        "validity": (5, 6),
        "connected_validity": (3, 6),
        # C (three times, once as the larger of two pieces), O, [CH3]
        "uniqueness": (3, 5),
        "valid_unique": (3, 6),
        # O is known
        "novelty": (2, 3),
        "valid_unique_novel": (2, 6),
    }


def test_what_fails_stays_in_the_denominators(named: Named):
    methane, hydride = named("methane", "sodium hydride")
    torn = dataclasses.replace(methane, positions=np.full((5, 3), np.nan))
    empty = Molecule(np.zeros(0), np.zeros((0, 3)))
    molecules = [methane, None, hydride, torn, empty]
    found = ratios(molecules, "CC")
    # an unreadable record has no atoms that could be counted; the others have
    assert found["atom_stability"] == (5, 5 + 2 + 5)
    for name in ("molecule_stability", "validity", "connected_validity", "valid_unique_novel"):
        assert found[name] == (1, 5)
    assert found["uniqueness"] == (1, 1)
    assert [v.problem for v in judge(molecules)] == [
        None,
        "cannot be read",
        "has elements without a distance table: Na",
        "has coordinates that are not finite",
        "has no atoms",
    ]


def test_nothing_valid_leaves_uniqueness_undefined(named: Named):
    found = ratios([*named("ammonium"), None], "C")
    assert found["uniqueness"] == found["novelty"] == (0, 0)
    assert found["valid_unique"] == found["valid_unique_novel"] == (0, 2)


def test_copies_lower_uniqueness_and_nothing_else(named: Named):
    one, many = ratios(named("ethane"), "C"), ratios(named("ethane") * 8, "C")
    assert one["uniqueness"] == one["valid_unique"] == (1, 1)
    assert many["uniqueness"] == many["valid_unique"] == many["valid_unique_novel"] == (1, 8)
    assert many["validity"] == many["molecule_stability"] == (8, 8)
    assert many["novelty"] == (1, 1)


def test_bonds_and_charges_that_a_file_states_are_ignored(example: Callable[[str], Molecule]):
    ammonium = example("ammonium")
    stated = dataclasses.replace(
        ammonium,
        formal_charges=np.array([1, 0, 0, 0, 0]),
        bonds=np.array([(0, k, 1) for k in range(1, 5)]),
    )
    assert stated.smiles() == "[NH4+]"
    assert judge([stated]) == judge([ammonium])


def turned(molecule: Molecule, rng: np.random.Generator, *, mirror: bool = False) -> Molecule:
    """The same molecule elsewhere, rotated, with its atoms in another order."""
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if (np.linalg.det(rotation) < 0) is not mirror:
        rotation[:, 0] *= -1
    order = rng.permutation(len(molecule))
    positions = molecule.positions @ rotation + rng.normal(size=3)
    return Molecule(molecule.atomic_numbers[order], positions[order])


NAMES = ["methane", "water", "ethane", "torn ethane", "ammonium", "two methanes", "methyl"]


@settings(deadline=None, max_examples=40)
@given(names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=6), seed=st.integers(0, 999))
def test_pose_order_of_atoms_and_of_molecules_do_not_matter(named, names: list[str], seed: int):
    rng = np.random.default_rng(seed)
    molecules = named(*names)
    moved = [turned(m, rng, mirror=bool(seed % 2)) for m in molecules]
    assert judge(moved) == judge(molecules)
    rng.shuffle(moved)
    assert ratios(moved, "C") == ratios(molecules, "C")


def test_batches_and_their_sizes_do_not_matter(named: Named, monkeypatch: pytest.MonkeyPatch):
    molecules = [*named(*NAMES), None, *named(*reversed(NAMES))]
    whole = judge(molecules)
    assert whole == [v for molecule in molecules for v in judge([molecule])]
    monkeypatch.setattr("molbfn.evaluation.edm._PAIRS_PER_GROUP", 130)
    assert judge(molecules) == whole
    one, two = edm_protocol(), edm_protocol()
    one.add(molecules)
    two.add(molecules[:4])
    two.add(molecules[4:])
    for first, second in zip(one.ratios(), two.ratios(), strict=True):
        assert first.ratio.parts.tolist() == second.ratio.parts.tolist()


def test_no_molecules_no_ratios_but_no_crash():
    assert judge([]) == []
    assert set(ratios([]).values()) == {(0, 0)}
