import numpy as np

from molbfn.report.depict import MAX_DRAWN_ATOMS, depict


def drawn(molecule):
    return depict(molecule.atomic_numbers, molecule.bonds, molecule.formal_charges)


def test_hydrogens_become_part_of_the_label_of_their_atom(example):
    depiction = drawn(example("water"))
    assert depiction.atoms == (0,)
    assert depiction.hydrogens == (2,)
    assert depiction.points.shape == (1, 2)


def test_no_atom_is_lost(demo):
    for molecule in demo:
        depiction = drawn(molecule)
        assert len(depiction.atoms) + sum(depiction.hydrogens) == len(molecule)
        heavy = np.flatnonzero(molecule.atomic_numbers > 1)
        assert set(heavy.tolist()) <= set(depiction.atoms)


def test_bonded_atoms_are_drawn_apart(demo):
    for molecule in demo:
        depiction = drawn(molecule)
        place = {atom: k for k, atom in enumerate(depiction.atoms)}
        for i, j, _ in molecule.bonds.tolist():
            if i in place and j in place:
                gap = depiction.points[place[i]] - depiction.points[place[j]]
                assert 0.5 < np.linalg.norm(gap) < 4


def test_a_hydrogen_that_is_wrong_is_drawn():
    # hydrogen with two bonds, and a hydrogen molecule
    bridge = depict(np.array([6, 1, 6]), np.array([[0, 1, 1], [1, 2, 1]]))
    assert bridge.atoms == (0, 1, 2)
    pair = depict(np.array([1, 1]), np.array([[0, 1, 1]]))
    assert pair.atoms == (0, 1)


def test_impossible_molecules_are_drawn(example):
    depiction = drawn(example("neutral NH4"))
    assert depiction.hydrogens == (4,)
    six = depict(np.array([6] * 7), np.array([[0, k, 3] for k in range(1, 7)]))
    assert np.isfinite(six.points).all()


def test_what_is_too_large_or_empty_is_not_drawn():
    none = np.empty((0, 3), dtype=int)
    assert depict(np.array([6] * (MAX_DRAWN_ATOMS + 1)), none) is None
    assert depict(np.array([], dtype=int), none) is None


def test_folded_atoms_have_no_place(example):
    assert drawn(example("water")).shown((0, 1)) == [0]
