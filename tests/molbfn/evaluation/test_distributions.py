"""Counts by hand, distances to a reference, and what must not change them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from molbfn.chem.molecule import Molecule
from molbfn.evaluation.distributions import Distribution, DistributionCounter


def counted(molecules: list[Molecule], bonds="own") -> DistributionCounter:
    counter = DistributionCounter(bonds)
    for molecule in molecules:
        counter.add(molecule)
    return counter


def by_name(found: tuple[Distribution, ...]) -> dict[str, Distribution]:
    return {d.name: d for d in found}


def shares(distribution: Distribution) -> dict[str, float]:
    return dict(zip(distribution.labels, distribution.shares, strict=True))


def test_counts_of_benzonitrile_by_hand(embed):
    found = by_name(counted([embed("N#Cc1ccccc1")] * 10).distributions())
    assert shares(found["elements"]) == pytest.approx({"H": 5 / 13, "C": 7 / 13, "N": 1 / 13})
    # 6 aromatic, 5 C-H and C-C single, the nitrile: no trace of a Kekule structure
    assert shares(found["bond_orders"]) == pytest.approx({"1": 6 / 13, "3": 1 / 13, "ar": 6 / 13})
    assert shares(found["bond_kinds"]) == pytest.approx(
        {"H–C": 5 / 13, "C–C": 1 / 13, "C:C": 6 / 13, "C≡N": 1 / 13}
    )
    assert found["bond_length_C-C_ar"].count == 60
    assert "bond_length_C-C_2" not in found
    assert shares(found["ring_sizes"]) == {"6": 1.0}
    assert found["size"].edges == (12.5, 13.5)
    assert found["elements_per_molecule_N"].edges == (0.5, 1.5)
    assert found["rings_per_molecule"].shares == (1.0,)
    angle = found["angle_C-C-C"]
    # the share of angles of 120 degrees, give or take a bin
    assert sum(angle.shares[36:44]) > 0.99
    torsion = found["torsion_C-C-C-C"]
    assert torsion.shares[0] + torsion.shares[-1] > 0.99  # flat: 0 or 180


def test_a_nitro_group_counts_alike_however_it_is_drawn(nitrobenzenes):
    first, *others = (
        counted(5 * [molecule]).distributions()
        for pair in nitrobenzenes.values()
        for molecule in pair
    )
    found = by_name(first)
    # of 14: C-H, C-N and N-O are single
    assert shares(found["bond_orders"]) == pytest.approx({"1": 7 / 14, "2": 1 / 14, "ar": 6 / 14})
    assert shares(found["formal_charges"]) == pytest.approx(
        {"-1": 1 / 14, "0": 12 / 14, "+1": 1 / 14}
    )
    assert "property_qed" in found
    for other in others:
        other = by_name(other)
        assert other.keys() == found.keys()
        # which oxygen has the double bond is no matter of the group; its lengths are
        same = [name for name in found if not name.startswith(("bond_length_N-O", "torsion"))]
        assert [other[name] for name in same] == [found[name] for name in same]


def test_torsions_over_a_nitrile_do_not_count(embed):
    """Noise of 0.005 angstrom turns C-C-C#N anywhere."""
    rng = np.random.default_rng(0)
    butane_nitrile = embed("CCCC#N")
    moved = [
        dataclasses.replace(
            butane_nitrile,
            positions=butane_nitrile.positions + rng.normal(scale=0.005, size=(12, 3)),
        )
        for _ in range(30)
    ]
    other = counted([butane_nitrile] * 30)
    found = by_name(counted(moved).distributions(other))
    assert "torsion_C-C-C-N" not in found
    assert found["torsion_C-C-C-C"].count == 30
    assert found["torsion_C-C-C-C"].distance < 1
    assert found["angle_C-C-N"].count == 30


def test_every_distribution_is_one(embed):
    own = counted([embed("CC(=O)Nc1ccccc1", k) for k in range(4)])
    other = counted([embed("OCC1CC1N", k) for k in range(4)])
    for d in own.distributions(other):
        bins = len(d.labels) if d.kind == "categories" else len(d.edges) - 1
        assert len(d.shares) == bins
        assert sum(d.shares) == pytest.approx(1)
        if d.reference_shares is not None:
            assert len(d.reference_shares) == bins
            assert sum(d.reference_shares) == pytest.approx(1)
            assert d.distance is not None
        assert list(d.edges) == sorted(d.edges)


def test_same_set_is_at_no_distance_and_a_stretched_one_at_the_stretch(embed):
    molecules = [embed("CCO", k) for k in range(10)]
    stretched = [
        Molecule(m.atomic_numbers, m.positions * 1.01, m.formal_charges, m.bonds) for m in molecules
    ]
    same = counted(molecules).distributions(counted(molecules))
    assert {d.distance for d in same} == {0.0}
    found = by_name(counted(stretched).distributions(counted(molecules)))
    lengths = [np.linalg.norm(m.positions[0].astype(float) - m.positions[1]) for m in molecules]
    assert found["bond_length_C-C_1"].distance == pytest.approx(0.01 * np.mean(lengths), abs=2e-4)
    assert found["angle_C-C-O"].distance == pytest.approx(0, abs=0.01)
    assert found["elements"].distance == 0


def test_order_of_atoms_rotation_and_order_of_molecules_do_not_matter(embed, shuffled):
    molecules = [embed("CC(=O)N1CC1", k) for k in range(3)] + [embed("C#CC[NH3+]")]
    moved = [shuffled(molecule, k) for k, molecule in enumerate(reversed(molecules))]
    first, second = counted(molecules).distributions(), counted(moved).distributions()
    assert [d.name for d in first] == [d.name for d in second]
    for d in counted(molecules).distributions(counted(moved)):
        # float32 coordinates: a value may fall into the next cell of the grid
        assert d.distance == pytest.approx(0, abs=0.01 if d.unit == "°" else 1e-4)


def test_without_bonds_only_elements_and_sizes_count_and_the_table_gives_bonds(embed):
    ethanol = embed("CCO")
    bare = Molecule(ethanol.atomic_numbers, ethanol.positions)
    names = set(by_name(counted([bare] * 10).distributions()))
    assert "elements" in names
    assert not any(n.startswith(("bond", "angle", "torsion")) for n in names)
    by_table = by_name(counted([bare] * 10, "table").distributions())
    assert shares(by_table["bond_orders"]) == {"1": 1.0}
    assert by_table["bond_length_C-C_1"].count == 10


def test_reference_decides_which_kinds_are_shown_and_rare_ones_are_not(embed):
    own = counted([embed("CCO", k) for k in range(10)] + [embed("CCF")])
    alone = by_name(own.distributions())
    assert "bond_length_C-F_1" not in alone  # one value
    other = counted([embed("CCF", k) for k in range(10)])
    found = by_name(own.distributions(other))
    assert "bond_length_C-C_1" in found
    assert "bond_length_C-O_1" not in found  # nothing to compare with
    assert found["elements"].labels == ("H", "C", "O", "F")


def test_what_one_side_lacks_altogether_is_as_far_as_it_can_be(embed):
    chains, rings = counted([embed("CCO")] * 3), counted([embed("C1CC1")] * 3)
    found = by_name(chains.distributions(rings))["ring_sizes"]
    assert (found.labels, found.shares, found.reference_shares) == (("3",), (0.0,), (1.0,))
    assert (found.count, found.reference_count, found.distance) == (0, 3, 1.0)
    back = by_name(rings.distributions(chains))["ring_sizes"]
    assert (back.shares, back.reference_shares, back.distance) == ((1.0,), (0.0,), 1.0)
    assert "ring_sizes" not in by_name(chains.distributions(chains))
    # without bonds, and without charges, nothing is known of either
    ethanol = embed("CCO")
    bare = Molecule(ethanol.atomic_numbers, ethanol.positions)
    assert set(by_name(counted([bare]).distributions(rings))) == {"elements", "size"} | {
        f"elements_per_molecule_{symbol}" for symbol in "CNO"
    }
    neutral = dataclasses.replace(ethanol, formal_charges=None)
    assert "formal_charges" in by_name(chains.distributions(counted([neutral])))
    assert by_name(chains.distributions(counted([neutral])))["formal_charges"].distance is None


def test_what_rdkit_cannot_sanitise_counts_with_its_own_orders_in_silence(capfd):
    points = np.array([[0, 0, 0], *np.eye(3), *-np.eye(3)[:2]])
    bonds = np.array([(0, k, 1) for k in range(1, 6)])
    wrong = Molecule(np.array([6] + [1] * 5), points, np.zeros(6, int), bonds)
    found = by_name(counted([wrong] * 2).distributions())
    assert found["bond_length_H-C_1"].count == 10
    assert "property_qed" not in found
    assert capfd.readouterr().err == ""
    broken = Molecule(np.array([6, 1]), np.full((2, 3), np.nan), None, np.array([[0, 1, 1]]))
    assert set(by_name(counted([broken]).distributions())) >= {"elements", "size"}


@pytest.mark.parametrize("far", [9e4, 1e8, 1e20])
def test_an_atom_that_flew_off_costs_no_memory(embed, far: float):
    good = embed("CCO")
    positions = good.positions.copy()
    positions[0, 0] = far
    lost = dataclasses.replace(good, positions=positions)
    found = counted([good] * 24 + [lost]).distributions()
    assert max(len(d.edges) for d in found) <= 600
    for distribution in found:
        if distribution.shares:
            assert sum(distribution.shares) == pytest.approx(1)
