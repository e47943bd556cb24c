"""Relaxation against harmonic oracles, and GFN2-xTB on small molecules."""

from __future__ import annotations

import numpy as np
import pytest

from molbfn.chem.molecule import Molecule
from molbfn.evaluation.relaxation import (
    mmff_drop,
    model_hessian,
    relax,
    relaxation_record,
    rmsd,
)

WATER_BONDS = np.array([[0, 1, 1], [0, 2, 1]])


def water(length: float = 0.9590, angle: float = 107.2) -> Molecule:
    """By default close to the minimum of GFN2-xTB."""
    half = np.radians(angle / 2)
    x, y = length * np.sin(half), length * np.cos(half)
    points = np.array([[0, 0, 0], [x, y, 0], [-x, y, 0]])
    return Molecule(np.array([8, 1, 1]), points, np.zeros(3, int), WATER_BONDS)


def test_spring_relaxes_to_its_length_and_loses_its_energy():
    def energy(points):
        arm = points[1] - points[0]
        stretch = np.linalg.norm(arm) - 2.0
        pull = stretch * arm / np.linalg.norm(arm)
        return 0.5 * stretch**2, np.array([-pull, pull])

    start = np.array([[0, 0, 0], [0.0, 1.8, 2.4]])  # 3 bohr apart
    found = relax(energy, start, np.array([0.7, 0.7]))
    assert np.linalg.norm(found.positions[1] - found.positions[0]) == pytest.approx(2, abs=1e-3)
    assert found.drop == pytest.approx(0.5, abs=1e-6)


def test_no_minimum_is_said():
    def slope(points):
        return -float(points.sum()), -np.ones_like(points)

    with pytest.raises(ValueError, match="does not converge"):
        relax(slope, np.array([[0.0, 0, 0], [0, 0, 1]]), np.array([0.7, 0.7]))


def test_model_hessian_is_symmetric_positive_and_sees_no_translation():
    points = np.random.default_rng(0).normal(size=(5, 3)) * 3
    hessian = model_hessian(points, np.full(5, 1.3))
    assert np.allclose(hessian, hessian.T)
    assert np.linalg.eigvalsh(hessian).min() > 0.04
    shift = np.tile([1.0, 2.0, 3.0], 5)
    assert np.allclose(hessian @ shift, 0.05 * shift)
    # a bond of the sum of the radii has the stiffness of a bond
    pair = model_hessian(np.array([[0, 0, 0], [0, 0, 2.6]]), np.array([1.3, 1.3]))
    assert pair[2, 2] == pytest.approx(0.45 + 0.05)


def test_rmsd_forgets_rotation_and_not_reflection():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(6, 3))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    assert rmsd(points, points @ turn + 5) == pytest.approx(0, abs=1e-6)
    assert rmsd(points, points * [1, 1, -1]) > 0.1
    # two atoms of a line, moved apart along it by 1 each: nothing superposes that
    line = np.array([[0.0, 0, 0], [0, 0, 1]])
    assert rmsd(line, line * 3) == pytest.approx(1)


def test_water_near_its_minimum_and_a_stretched_one():
    pytest.importorskip("tblite", reason="GFN2-xTB needs tblite")
    near, far = relaxation_record(water()), relaxation_record(water(length=1.1))
    assert 0 <= near["drop"] < 0.05
    assert far["drop"] > 5
    assert far["bond"] == pytest.approx(1.1 - 0.959, abs=0.003)
    assert near["same_contacts"]
    assert far["torsion"] is None  # there are none
    assert near["rmsd"] < 0.01 < far["rmsd"]


def test_order_and_rotation_do_not_matter():
    pytest.importorskip("tblite", reason="GFN2-xTB needs tblite")
    given = water(length=1.0, angle=120)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    moved = Molecule(
        given.atomic_numbers[[1, 0, 2]],
        given.positions[[1, 0, 2]] @ turn + 3,
        np.zeros(3, int),
        np.array([[0, 1, 1], [1, 2, 1]]),
    )
    first, second = relaxation_record(given), relaxation_record(moved)
    assert second["drop"] == pytest.approx(first["drop"], abs=2e-3)
    assert second["angle"] == pytest.approx(first["angle"], abs=0.05)


def test_charges_and_radicals_are_what_the_molecule_says():
    pytest.importorskip("tblite", reason="GFN2-xTB needs tblite")
    hydroxide = Molecule(np.array([8, 1]), [[0, 0, 0], [0, 0, 0.97]], np.array([-1, 0]))
    radical = Molecule(np.array([8, 1]), [[0, 0, 0], [0, 0, 0.97]], np.array([0, 0]))
    drops = [relaxation_record(m)["drop"] for m in (hydroxide, radical)]
    assert all(0 <= drop < 2 for drop in drops)
    assert drops[0] != pytest.approx(drops[1], abs=1e-4)
    # a total charge that is stated without formal charges is that of the anion
    stated = Molecule(np.array([8, 1]), [[0, 0, 0], [0, 0, 0.97]], properties={"charge": -1})
    assert relaxation_record(stated)["drop"] == pytest.approx(drops[0], abs=1e-6)
    # without stated bonds the distance table gives them
    assert relaxation_record(radical)["bond"] is not None


def test_two_far_apart_atoms_of_one_molecule_change_their_contacts():
    pytest.importorskip("tblite", reason="GFN2-xTB needs tblite")
    stretched = Molecule(np.array([1, 1]), [[0, 0, 0], [0, 0, 1.0]])
    record = relaxation_record(stretched)
    assert record["drop"] > 10
    assert not record["same_contacts"]  # 1.0 angstrom is beyond 1.3 times twice 0.31


def test_unusable_molecules_are_refused():
    with pytest.raises(ValueError, match="no atoms"):
        relaxation_record(Molecule(np.zeros(0, int), np.zeros((0, 3))))
    with pytest.raises(ValueError, match="not finite"):
        relaxation_record(Molecule(np.array([1]), [[np.nan, 0, 0]]))


def test_mmff_of_a_nitro_group_does_not_depend_on_how_it_is_drawn(nitrobenzenes):
    charged, five_valent = (nitrobenzenes[name][0] for name in ("charged", "five-valent"))
    assert mmff_drop(charged) > 0.1
    assert mmff_drop(five_valent) == pytest.approx(mmff_drop(charged), abs=1e-3)


def test_mmff_beside_it():
    assert mmff_drop(water()) < mmff_drop(water(length=1.1))
    assert mmff_drop(Molecule(water().atomic_numbers, water().positions)) is None
    # pentavalent hydrogen has no parameters
    odd = Molecule(np.array([1, 1, 1]), np.eye(3), None, np.array([[0, 1, 1], [0, 2, 1]]))
    assert mmff_drop(odd) is None
