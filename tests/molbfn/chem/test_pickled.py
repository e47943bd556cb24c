"""RDKit molecules out of pickle files: all of them, in order, and nothing in the file is run."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from molbfn.chem import pickled
from molbfn.chem.files import read_molecules
from molbfn.chem.molecule import Molecule
from molbfn.errors import UserError


def embedded(smiles: str, conformers: int = 1) -> Chem.Mol:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert len(AllChem.EmbedMultipleConfs(mol, conformers, randomSeed=7)) == conformers
    mol.SetProp("_Name", smiles)
    mol.SetIntProp("number", conformers)
    return mol


@pytest.fixture(scope="module")
def acetate() -> Chem.Mol:
    return embedded("CC(=O)[O-]", 3)


@pytest.fixture(scope="module")
def pyridine() -> Chem.Mol:
    return embedded("c1ccncc1")


def read(path: Path, content: object, protocol: int = 5) -> list[Molecule | None]:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return [record.molecule for record in read_molecules(path)]


def same(molecule: Molecule | None, mol: Chem.Mol, conformer: int) -> bool:
    expected = Molecule.from_rdkit(mol, conformer=conformer)
    assert molecule is not None
    np.testing.assert_array_equal(molecule.atomic_numbers, expected.atomic_numbers)
    np.testing.assert_allclose(molecule.positions, expected.positions, atol=1e-6)
    np.testing.assert_array_equal(molecule.bonds, expected.bonds)
    np.testing.assert_array_equal(molecule.formal_charges, expected.formal_charges)
    assert np.abs(expected.positions).max() > 0.5
    return True


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_layout_of_the_drugs_splits(tmp_path, acetate, pyridine, protocol):
    """A list of (SMILES, conformers), each conformer a molecule of its own."""
    content = [("CC(=O)[O-]", [acetate]), ("c1ccncc1", [pyridine, Chem.Mol(pyridine)])]
    made = read(tmp_path / "train_data.pickle", content, protocol)
    assert len(made) == 5
    assert all(same(made[k], acetate, k) for k in range(3))
    assert all(same(made[k], pyridine, 0) for k in (3, 4))
    assert made[4].smiles() == "c1ccncc1"
    assert set(made[4].bonds[:, 2]) == {1, 2}  # kekulised


def test_the_layout_of_the_published_folder(tmp_path, acetate):
    """A dictionary for each structure, with what was calculated beside the molecules."""
    conformers = [
        {"geom_id": k, "totalenergy": -1.5 * k, "weights": np.arange(3.0), "rd_mol": mol}
        for k, mol in enumerate([acetate, embedded("CCO")])
    ]
    made = read(tmp_path / "a.pkl", {"smiles": "CC(=O)[O-]", "conformers": conformers})
    assert [molecule.smiles() for molecule in made] == ["CC(=O)[O-]"] * 3 + ["CCO"]


def test_name_and_properties_come_along_where_rdkit_keeps_them(tmp_path, acetate):
    before = Chem.GetDefaultPickleProperties()
    try:
        Chem.SetDefaultPickleProperties(Chem.PropertyPickleOptions.AllProps)
        made = read(tmp_path / "a.pickle", [acetate])
    finally:
        Chem.SetDefaultPickleProperties(before)
    assert made[0].title == "CC(=O)[O-]"
    assert made[0].properties["number"] == 3


def test_several_pickles_in_one_file(tmp_path, acetate, pyridine):
    file = tmp_path / "a.pickle"
    with file.open("wb") as stream:
        for mol in (acetate, pyridine, acetate):
            pickle.dump(mol, stream)
    made = [record.molecule.smiles() for record in read_molecules(file)]
    assert made == [*["CC(=O)[O-]"] * 3, "c1ccncc1", *["CC(=O)[O-]"] * 3]
    with file.open("ab") as stream:
        stream.write(b"and more")
    *good, bad = read_molecules(file)
    assert len(good) == 7
    assert "record 8: not a pickle, or damaged from here on" in bad.reason


def test_conformers_that_share_a_number_are_told_apart(tmp_path, acetate):
    made = Chem.Mol(acetate)
    for conformer in made.GetConformers():
        conformer.SetId(0)
    found = read(tmp_path / "a.pickle", made)
    assert all(same(found[k], acetate, k) for k in range(3))
    assert not np.allclose(found[0].positions, found[1].positions)


class Harmful:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self):
        return (Path.touch, (self._path,))


def test_nothing_in_the_file_is_run(tmp_path, pyridine):
    trace = tmp_path / "was_here"
    content = pickle.dumps([Harmful(trace), pyridine])
    pickle.loads(content)
    assert trace.exists()  # so it would have worked
    trace.unlink()
    (tmp_path / "a.pickle").write_bytes(content)
    (record,) = read_molecules(tmp_path / "a.pickle")
    assert same(record.molecule, pyridine, 0)
    assert not trace.exists()


def test_a_molecule_without_coordinates_is_a_bad_record(tmp_path, pyridine):
    file = tmp_path / "a.pickle"
    file.write_bytes(pickle.dumps([Chem.MolFromSmiles("CCO"), pyridine]))
    bad, good = read_molecules(file)
    assert bad.reason == f"{file}: record 1: the molecule has no 3D coordinates (embed it first)"
    assert good.molecule is not None


def test_coordinates_that_are_not_numbers_are_a_bad_record(tmp_path, pyridine):
    broken = Chem.Mol(pyridine)
    broken.GetConformer().SetAtomPosition(0, (float("nan"), 0.0, 0.0))
    assert read(tmp_path / "a.pickle", [broken, pyridine])[0] is None


def test_a_file_cut_short_keeps_what_came_before(tmp_path, acetate, pyridine):
    content = pickle.dumps([acetate, pyridine])
    file = tmp_path / "a.pickle"
    file.write_bytes(content[: len(pickle.dumps(acetate)) + 40])
    *good, bad = read_molecules(file)
    assert len(good) == 3
    assert "record 4: not a pickle, or damaged from here on" in bad.reason


def test_what_ends_rdkits_process_is_one_bad_record(tmp_path, pyridine):
    data = bytearray(pyridine.ToBinary())
    data[24:28] = struct.pack("<i", 2**31 - 1)  # the number of atoms
    file = tmp_path / "a.pickle"
    file.write_bytes(pickle.dumps([bytes(data), pyridine]))
    bad, good = read_molecules(file)
    assert bad.reason.startswith(f"{file}: record 1: RDKit")
    assert same(good.molecule, pyridine, 0)


def test_a_pickle_of_other_things_holds_no_molecules(tmp_path):
    file = tmp_path / "a.pickle"
    file.write_bytes(pickle.dumps({"a": [1, 2, b"\xef\xbe"]}))
    with pytest.raises(UserError, match=r"a\.pickle: the file holds no molecules"):
        list(read_molecules(file))


@pytest.mark.parametrize("content", [b"hello", b"\x80\x05\x95\x10", b"\x80\x04]\x94("])
def test_what_is_no_pickle_is_a_bad_record(tmp_path, content):
    file = tmp_path / "a.pickle"
    file.write_bytes(content)
    (record,) = read_molecules(file)
    assert record.reason.startswith(f"{file}: record 1: not a pickle, or damaged from here on")


def test_several_readers_keep_the_order(tmp_path, monkeypatch, acetate, pyridine):
    monkeypatch.setattr(pickled.os, "cpu_count", lambda: 4)
    content = [mol for _ in range(8) for mol in (Chem.Mol(acetate), Chem.Mol(pyridine))]
    made = read(tmp_path / "a.pickle", content)
    assert [molecule.smiles() for molecule in made] == [*["CC(=O)[O-]"] * 3, "c1ccncc1"] * 8


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_rdkits_class_for_pickling_properties_comes_once(tmp_path, pyridine, acetate, protocol):
    from rdkit.Chem.PropertyMol import PropertyMol

    again = Chem.Mol(pyridine)  # an equal one, which is another molecule of the file
    content = [PropertyMol(mol) for mol in (pyridine, again, acetate)]
    found = read(tmp_path / "a.pkl", content, protocol)
    assert [len(molecule) for molecule in found] == [11, 11, 7, 7, 7]
