from __future__ import annotations

import dataclasses

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from rdkit import Chem
from rdkit.Chem import AllChem

from molbfn.chem.molecule import Molecule, kekulise
from molbfn.errors import UserError

quick = settings(deadline=None, max_examples=60)


def methyl(hydrogens: int) -> Molecule:
    """A carbon with so many hydrogens: 3 is a radical, 5 is impossible."""
    points = np.random.default_rng(0).normal(size=(hydrogens + 1, 3))
    bonds = [(0, k, 1) for k in range(1, hydrogens + 1)]
    return Molecule(np.array([6] + [1] * hydrogens), points, bonds=np.array(bonds))


@quick
@given(data=st.data())
def test_rdkit_round_trip(any_molecules, same, data) -> None:
    molecule = data.draw(any_molecules())
    back = Molecule.from_rdkit(molecule.to_rdkit())
    same(molecule, back)


@quick
@given(data=st.data())
def test_pyg_round_trip(any_molecules, same, data) -> None:
    for known in (True, False):
        molecule = data.draw(any_molecules(known=known))
        pyg = molecule.to_pyg()
        assert pyg.z.dtype == torch.int64
        assert pyg.pos.dtype == torch.float32
        same(molecule, Molecule.from_pyg(pyg))


def test_pyg_edges_go_both_ways(water: Molecule) -> None:
    pyg = water.to_pyg()
    assert pyg.edge_index.tolist() == [[0, 0, 1, 2], [1, 2, 0, 0]]
    assert pyg.edge_attr.tolist() == [1, 1, 1, 1]


def test_pyg_one_hot_aromatic_edges_are_kekulised() -> None:
    ring = [(k, (k + 1) % 6) for k in range(6)]
    edges = torch.tensor([*ring, *((j, i) for i, j in ring)]).T
    data = aromatic_ring(edges)
    bonds = Molecule.from_pyg(data).bonds
    assert bonds is not None
    assert sorted(bonds[:, 2].tolist()) == [1, 1, 1, 2, 2, 2]


def aromatic_ring(edges: torch.Tensor):
    """Six carbons, as PyTorch Geometric's QM9 writes aromatic bonds: the fourth column."""
    from torch_geometric.data import Data

    attributes = torch.zeros(edges.shape[1], 4)
    attributes[:, 3] = 1
    z = torch.full((6,), 6)
    return Data(z=z, pos=torch.randn(6, 3), edge_index=edges, edge_attr=attributes)


def test_pyg_without_positions_is_refused() -> None:
    from torch_geometric.data import Data

    with pytest.raises(UserError, match="'z' and 'pos'"):
        Molecule.from_pyg(Data(z=torch.tensor([6])))


def test_to_rdkit_of_a_sound_molecule_is_sanitised(water: Molecule) -> None:
    mol = water.to_rdkit()
    assert mol.GetNumAtoms() == 3
    assert mol.GetConformer().Is3D()
    assert mol.GetProp("_Name") == "water"
    assert mol.GetIntProp("index") == 3
    assert mol.GetDoubleProp("score") == 0.5
    assert Chem.SanitizeMol(Chem.Mol(mol), catchErrors=True) == Chem.SANITIZE_NONE
    assert water.smiles() == "O"


def test_aromatic_in_kekule_out(embed) -> None:
    pyridine = embed("c1ccncc1")
    assert set(pyridine.bonds[:, 2]) == {1, 2}
    assert pyridine.to_rdkit().GetAtomWithIdx(0).GetIsAromatic()
    assert pyridine.smiles() == "c1ccncc1"


@pytest.mark.parametrize("hydrogens", [0, 1, 2, 3, 5])
def test_wrong_valences_survive_and_no_hydrogens_appear(hydrogens: int) -> None:
    mol = methyl(hydrogens).to_rdkit()
    assert mol.GetNumAtoms() == hydrogens + 1
    assert sum(a.GetTotalNumHs() for a in mol.GetAtoms()) == 0
    assert mol.GetNumBonds() == hydrogens


def test_smiles_of_radicals_fragments_and_impossible() -> None:
    assert methyl(4).smiles() == "C"
    assert methyl(3).smiles() == "[CH3]"
    assert methyl(5).smiles() is None
    assert Molecule(np.array([6]), np.zeros((1, 3))).smiles() is None
    two = np.array([8, 1, 1, 8, 1, 1])
    bonds = np.array([(0, 1, 1), (0, 2, 1), (3, 4, 1), (3, 5, 1)])
    assert Molecule(two, np.zeros((6, 3)), bonds=bonds).smiles() == "O.O"


@pytest.mark.parametrize(
    "smiles",
    ["CCO", "c1cc[nH]c1", "C[NH3+]", "CC(=O)[O-]", "C[N+](=O)[O-]", "C#N", "O=C1C=CC(=O)C=C1", "N"],
)
def test_smiles_are_rdkits_canonical_ones(embed, smiles: str) -> None:
    molecule = embed(smiles)
    assert molecule.smiles() == Chem.CanonSmiles(smiles)
    assert molecule.charge == Chem.GetFormalCharge(Chem.MolFromSmiles(smiles))


def test_stereo_comes_from_the_coordinates_when_asked(embed) -> None:
    molecule = embed("C[C@H](N)O")
    assert molecule.smiles() == "CC(N)O"
    assert molecule.smiles(stereo=True) == Chem.CanonSmiles("C[C@H](N)O")
    mirrored = dataclasses.replace(molecule, positions=-molecule.positions)
    assert mirrored.smiles(stereo=True) == Chem.CanonSmiles("C[C@@H](N)O")
    for one, expected in ((molecule, "C[C@H](N)O"), (mirrored, "C[C@@H](N)O")):
        flat, full = one.to_rdkit(), one.to_rdkit(stereo=True)
        assert "@" not in Chem.MolToSmiles(Chem.RemoveHs(flat))
        assert Chem.MolToSmiles(Chem.RemoveHs(full)) == Chem.CanonSmiles(expected)


def test_from_rdkit_refuses_what_it_cannot_hold() -> None:
    flat = Chem.MolFromSmiles("CCO")
    with pytest.raises(UserError, match="3D"):
        Molecule.from_rdkit(flat)
    AllChem.Compute2DCoords(flat)
    with pytest.raises(UserError, match="3D"):
        Molecule.from_rdkit(flat)
    undecided = Chem.RWMol(Chem.MolFromSmiles("[NH3].[BH3]", sanitize=False))
    undecided.AddBond(0, 1, Chem.BondType.ZERO)
    conformer = Chem.Conformer(2)
    conformer.Set3D(True)
    undecided.AddConformer(conformer)
    with pytest.raises(UserError, match="zero"):
        Molecule.from_rdkit(undecided)
    dummy = Chem.AddHs(Chem.MolFromSmiles("*C"))
    AllChem.EmbedMolecule(dummy, randomSeed=1)
    with pytest.raises(UserError, match="atom 1 is a dummy"):
        Molecule.from_rdkit(dummy)


def test_from_rdkit_leaves_its_argument_alone(embed) -> None:
    mol = embed("c1ccccc1").to_rdkit()
    before = mol.ToBinary()
    Molecule.from_rdkit(mol)
    assert mol.ToBinary() == before


def test_kekulise_without_a_structure_is_an_error() -> None:
    five = np.array([(0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 4, 4), (0, 4, 4)])
    with pytest.raises(UserError, match="Kekule"):
        kekulise(np.full(5, 6), five, None)
    plain = np.array([(0, 1, 2)])
    assert kekulise(np.array([6, 6]), plain, None) is plain


@pytest.mark.parametrize(
    "bonds",
    [[(1, 0, 1)], [(0, 0, 1)], [(0, 3, 1)], [(0, 1, 4)], [(0, 1, 0)], [(0, 1, 1), (0, 1, 2)], [1]],
)
def test_bad_bonds_are_refused(bonds: list) -> None:
    with pytest.raises(ValueError, match="bonds"):
        Molecule(np.array([6, 6, 6]), np.zeros((3, 3)), bonds=np.array(bonds))


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="positions"):
        Molecule(np.array([6]), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="between 1 and 118"):
        Molecule(np.array([0]), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="formal charges"):
        Molecule(np.array([6]), np.zeros((1, 3)), formal_charges=np.zeros(2))


def test_with_properties_adds_without_touching_the_first(water: Molecule) -> None:
    changed = water.with_properties(index=4, route="rdkit")
    assert changed.properties["index"] == 4
    assert changed.properties["route"] == "rdkit"
    assert water.properties["index"] == 3


def test_five_valent_nitro_keeps_its_bonds_but_has_the_usual_smiles(embed) -> None:
    usual = embed("C[N+](=O)[O-]")
    bonds = usual.bonds.copy()
    bonds[(bonds[:, 0] == 1) & (bonds[:, 1] == 3), 2] = 2
    drawn = dataclasses.replace(usual, bonds=bonds, formal_charges=np.zeros(7))
    back = Molecule.from_rdkit(drawn.to_rdkit())
    assert back.bonds.tolist() == bonds.tolist()
    assert back.charge == 0
    assert back.formal_charges.tolist() == [0] * 7
    assert drawn.smiles() == usual.smiles()
    sanitised = drawn.sanitised()
    assert sanitised is not None
    orders = {round(b.GetBondTypeAsDouble()) for b in sanitised.GetAtomWithIdx(1).GetBonds()}
    assert orders == {1, 2}
    assert sorted(a.GetFormalCharge() for a in sanitised.GetAtoms()) == [-1, 0, 0, 0, 0, 0, 1]


def test_what_cannot_be_sanitised_says_so() -> None:
    bonds = np.array([(0, k, 1) for k in range(1, 6)])
    pentavalent = Molecule(np.array([6] + [1] * 5), np.zeros((6, 3)), bonds=bonds)
    assert pentavalent.sanitised() is None
    assert pentavalent.to_rdkit().GetNumBonds() == 5


def test_metal_bonds_are_not_made_dative() -> None:
    bonds = np.array([(0, 1, 1), (0, 2, 1), (0, 3, 1), (1, 2, 2), (1, 3, 1), (2, 3, 3)])
    odd = Molecule(np.array([3, 3, 53, 3]), np.zeros((4, 3)), bonds=bonds)
    assert Molecule.from_rdkit(odd.to_rdkit()).bonds.tolist() == bonds.tolist()


@pytest.mark.parametrize(
    ("value", "charge"),
    [
        (-1, -1), (2, 2), (-1.0, -1), (0, 0), (0.5, None), ("-1", -1), (True, None),
        (11, None), (10**30, None), (float("nan"), None), (float("inf"), None),
    ],
)  # fmt: skip
def test_a_stated_charge_is_that_of_a_molecule_without_formal_charges(value, charge) -> None:
    bare = Molecule([8, 1, 1], np.zeros((3, 3)), properties={"charge": value})
    assert bare.stated_charge == charge
    assert bare.charge == (charge or 0)
    formal = dataclasses.replace(bare, formal_charges=[1, 0, 0])
    assert (formal.stated_charge, formal.charge) == (None, 1)
