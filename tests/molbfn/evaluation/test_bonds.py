"""The protocol of own bonds: verdicts on molecules drawn by hand, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem

from molbfn.chem.molecule import Molecule
from molbfn.evaluation.bonds import bonds_protocol, judge
from molbfn.evaluation.run import evaluate
from molbfn.evaluation.verdicts import Verdict


def drawn(smiles: str) -> Molecule:
    """Atoms, bonds and charges of a SMILES; the coordinates are all zero and must not matter."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    Chem.Kekulize(mol, clearAromaticFlags=True)
    bonds = [
        (*sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx())), int(b.GetBondTypeAsDouble()))
        for b in mol.GetBonds()
    ]
    return Molecule(
        np.array([a.GetAtomicNum() for a in mol.GetAtoms()]),
        np.zeros((mol.GetNumAtoms(), 3)),
        formal_charges=np.array([a.GetFormalCharge() for a in mol.GetAtoms()]),
        bonds=np.array(sorted(bonds)).reshape(-1, 3),
    )


def graph(numbers: list[int], bonds: list[tuple[int, int, int]], charges=None) -> Molecule:
    return Molecule(
        np.array(numbers),
        np.zeros((len(numbers), 3)),
        formal_charges=None if charges is None else np.array(charges),
        bonds=np.array(bonds, dtype=np.int64).reshape(-1, 3),
    )


WATER = [(0, 1, 1), (0, 2, 1)]
AMMONIUM = [(0, k, 1) for k in range(1, 5)]


@pytest.mark.parametrize(
    ("molecule", "expected"),
    [
        (graph([8, 1, 1], WATER), Verdict(3, 3, "O", 1)),
        # a bond too few: a radical, valid for RDKit and not stable
        (graph([8, 1], [(0, 1, 1)]), Verdict(2, 1, "[OH]", 1)),
        (graph([8, 1], [(0, 1, 1)], [-1, 0]), Verdict(2, 2, "[OH-]", 1, charge=-1)),
        # the charge on the wrong atom: RDKit takes it, the valences do not
        (graph([8, 1], [(0, 1, 1)], [0, -1]), Verdict(2, 0, "[H-][O]", 1, charge=-1)),
        (graph([7, 1, 1, 1, 1], AMMONIUM, [1, 0, 0, 0, 0]), Verdict(5, 5, "[NH4+]", 1, charge=1)),
        (graph([7, 1, 1, 1, 1], AMMONIUM), Verdict(5, 4, None, 0)),
        (graph([6] + [1] * 5, [(0, k, 1) for k in range(1, 6)]), Verdict(6, 5, None, 0)),
        # two pieces: stable and valid, and not connected
        (graph([8, 1, 1] * 2, [*WATER, (3, 4, 1), (3, 5, 1)]), Verdict(6, 6, "O", 2)),
        (graph([6, 8, 8], [(0, 1, 2), (0, 2, 2)]), Verdict(3, 3, "O=C=O", 1)),
        (graph([6, 8], [(0, 1, 3)], [-1, 1]), Verdict(2, 2, "[C-]#[O+]", 1)),
        (graph([1, 1], []), Verdict(2, 0, None, 0, "has no bonds (its file states none)")),
    ],
)
def test_verdict(molecule: Molecule, expected: Verdict):
    assert judge([molecule]) == [expected]


@pytest.mark.parametrize(
    "smiles",
    ["c1ccccc1", "c1cc[nH]c1", "C[N+](=O)[O-]", "CS(=O)(=O)C", "OP(=O)(O)O", "FC(Cl)(Br)I",
     "[NH3+]CC([O-])=O", "C[N+]#[C-]"],
)  # fmt: skip
def test_ordinary_molecules_are_stable(smiles: str):
    (verdict,) = judge([drawn(smiles)])
    assert verdict.stable
    assert verdict.smiles == Chem.CanonSmiles(smiles)


def test_what_cannot_be_judged_stays_in_the_denominators():
    water = graph([8, 1, 1], WATER)
    without = Molecule(water.atomic_numbers, water.positions)
    verdicts = judge([None, without, graph([2, 1], [(0, 1, 1)]), graph([], [])])
    assert [v.problem for v in verdicts] == [
        "cannot be read",
        "has no bonds (its file states none)",
        "has elements without a valence table: He",
        "has no atoms",
    ]
    protocol = bonds_protocol()
    protocol.add([water, None, without])
    found = {r.name: (r.ratio.numerator, r.ratio.denominator) for r in protocol.ratios()}
    assert found["bonds_molecule_stability"] == found["bonds_validity"] == (1, 3)
    assert found["bonds_atom_stability"] == (3, 6)


def test_a_net_charge_is_counted_beside_stability():
    hydroxide = graph([8, 1], [(0, 1, 1)], [-1, 0])
    zwitterion = graph([6, 8], [(0, 1, 3)], [-1, 1])
    without = Molecule(np.array([8, 1]), np.zeros((2, 3)), formal_charges=np.array([-1, 0]))
    protocol = bonds_protocol()
    protocol.add([graph([8, 1, 1], WATER), hydroxide, zwitterion, None, without])
    found = {r.name: (r.ratio.numerator, r.ratio.denominator) for r in protocol.ratios()}
    assert found["bonds_net_charge"] == (1, 3)  # of those whose bonds could be judged
    assert found["bonds_molecule_stability"] == (3, 5)  # an ion is stable as before


def test_a_protocol_of_distances_says_nothing_of_charges():
    names = [metric.name for metric in evaluate([graph([8, 1, 1], WATER)]).metrics]
    assert not [name for name in names if "net_charge" in name]


def test_coordinates_do_not_matter_and_order_does_not():
    molecule = drawn("[NH3+]CC([O-])=O")
    rng = np.random.default_rng(0)
    order = rng.permutation(len(molecule))
    place = np.argsort(order)
    bonds = molecule.bonds.copy()
    bonds[:, :2] = np.sort(place[bonds[:, :2]], axis=1)
    moved = Molecule(
        molecule.atomic_numbers[order],
        rng.normal(size=(len(molecule), 3)),
        formal_charges=molecule.formal_charges[order],
        bonds=bonds,
    )
    assert judge([moved]) == judge([molecule])


def test_both_protocols_side_by_side(named):
    """Torn ethane with the bond drawn: wrong by its distances, right by its bonds."""
    (torn,) = named("torn ethane")
    bonds = [(0, 1, 1), (0, 2, 1), (0, 3, 1), (0, 4, 1), (4, 5, 1), (4, 6, 1), (4, 7, 1)]
    stated = Molecule(torn.atomic_numbers, torn.positions, bonds=np.array(bonds))
    result = evaluate([stated], protocols=("edm", "bonds"))
    assert result["molecule_stability"].value == 0
    assert result["bonds_molecule_stability"].value == 1
    assert {metric.protocol for metric in result.metrics} == {"edm", "bonds"}
    assert len({metric.name for metric in result.metrics}) == len(result.metrics)
