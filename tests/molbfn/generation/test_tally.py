import numpy as np

from molbfn.chem.molecule import Molecule
from molbfn.generation.tally import Judged, Tally


def test_counts_see_good_molecules_and_bad_ones():
    water = Molecule(
        atomic_numbers=np.array([8, 1, 1]),
        positions=np.array([[0, 0, 0.1173], [0, 0.7572, -0.4692], [0, -0.7572, -0.4692]]),
    )
    far = water.positions + np.array([[0, 0, 0], [0, 0, 9], [0, 0, 0]], dtype=np.float32)
    apart = Molecule(atomic_numbers=water.atomic_numbers, positions=far)
    tally = Tally(wanted=3, calls=4)
    tally.add(Judged.of(water.with_properties(bond_route="rdkit")))
    tally.add(Judged.of(apart.with_properties(bond_route="table")))
    tally.add(Judged.of(water.with_properties(problem="coordinates not finite", index=7)))
    assert tally.last_index == 7
    assert (tally.made, tally.stable, tally.valid, tally.broken) == (3, 2, 2, 1)
    assert tally.routes == {"rdkit": 1, "table": 1}


def test_generated_bonds_are_counted_by_their_own_rule():
    water = np.array([[0, 0, 0.1173], [0, 0.7572, -0.4692], [0, -0.7572, -0.4692]])
    numbers = np.array([8, 1, 1])
    right = Molecule(numbers, water, bonds=np.array([[0, 1, 1], [0, 2, 1]]))
    torn = Molecule(numbers, 3 * water, bonds=right.bonds)
    wrong = Molecule(numbers, water, bonds=np.array([[0, 1, 1]]))
    tally = Tally(wanted=3, calls=4)
    for molecule, agreement in ((right, "other orders"), (torn, "different"), (wrong, "different")):
        own = {"bond_route": "model", "geometry_bonds": agreement}
        tally.add(Judged.of(molecule.with_properties(**own)))
    assert (tally.stable, tally.valid) == (2, 2)  # by distance: the first and the third
    assert (tally.own_stable, tally.own_valid, tally.agreeing) == (2, 2, 1)
    assert tally.routes == {"model": 3}


def test_net_charges_are_counted_whoever_found_the_bonds():
    hydroxide = Molecule(
        np.array([8, 1]),
        np.array([[0, 0, 0], [0, 0, 0.96]]),
        formal_charges=np.array([-1, 0]),
        bonds=np.array([[0, 1, 1]]),
    )
    balanced = Molecule(
        np.array([6, 8]),
        np.array([[0, 0, 0], [0, 0, 1.13]]),
        formal_charges=np.array([-1, 1]),
        bonds=np.array([[0, 1, 3]]),
    )
    tally = Tally(wanted=3, calls=4)
    tally.add(Judged.of(hydroxide.with_properties(bond_route="rdkit")))
    tally.add(Judged.of(hydroxide.with_properties(bond_route="model", geometry_bonds="same")))
    tally.add(Judged.of(balanced.with_properties(bond_route="rdkit")))
    assert tally.charged == 2
