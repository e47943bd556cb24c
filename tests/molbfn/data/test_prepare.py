"""A user's files become a data set; what is left out is counted and named."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from molbfn.data.prepare import WITHOUT_BONDS, prepare
from molbfn.data.prepare_report import PrepareReport
from molbfn.data.store import MoleculeStore
from molbfn.errors import UserError


def rdkit_molecule(smiles: str, *, hydrogens: bool = True):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=7) == 0
    mol.SetProp("_Name", smiles)
    return mol if hydrogens else Chem.RemoveHs(mol)


def write_sdf(path: Path, smiles: list[str], *, hydrogens: bool = True) -> Path:
    with Chem.SDWriter(str(path)) as writer:
        for text in smiles:
            writer.write(rdkit_molecule(text, hydrogens=hydrogens))
    return path


def run(source, folder: Path, **options) -> tuple[PrepareReport, MoleculeStore]:
    report = prepare(source, folder / "out.npz", **options)
    return report, MoleculeStore.open(report.output)


def test_an_sdf_keeps_atoms_bonds_charges_titles_and_smiles(tmp_path: Path):
    smiles = ["CCO", "c1ccccc1", "C[N+](C)(C)C", "CC(=O)[O-]"]
    report, store = run(write_sdf(tmp_path / "a.sdf", smiles), tmp_path)
    assert (report.read, report.kept, report.with_smiles) == (4, 4, 4)
    assert (report.skipped, report.warnings) == ({}, {})
    assert store.smiles == [Chem.CanonSmiles(text) for text in smiles]
    assert store.titles == smiles
    assert (report.smallest, report.largest) == (7, 17)
    assert report.elements == {"H": 27, "C": 14, "N": 1, "O": 3}
    for index, text in enumerate(smiles):
        mol = rdkit_molecule(text)
        molecule = store.molecule(index)
        np.testing.assert_allclose(molecule.positions, mol.GetConformer().GetPositions(), atol=1e-4)
        assert molecule.formal_charges.tolist() == [a.GetFormalCharge() for a in mol.GetAtoms()]
        assert len(molecule.bonds) == mol.GetNumBonds()


def test_what_is_skipped_is_counted_with_places(tmp_path: Path):
    path = write_sdf(tmp_path / "a.sdf", ["CCO", "CS", "CCCCC", "C", "CCS"])
    blocks = path.read_text().split("$$$$\n")
    blocks[3] = blocks[3].replace(" C  ", " Qq ", 1)
    path.write_text("$$$$\n".join(blocks))
    report, store = run(path, tmp_path, elements=["H", "C", "O"], max_atoms=9)
    assert report.kept == 1
    assert store.smiles == ["CCO"]
    assert {reason: tally.count for reason, tally in report.skipped.items()} == {
        "element S not asked for": 2,
        "more than 9 atoms": 1,
        "cannot be read": 1,
    }
    assert report.skipped["element S not asked for"].places == [
        f"{path}: record 2",
        f"{path}: record 5",
    ]
    assert "Qq" in report.skipped["cannot be read"].places[0]
    assert sum(tally.count for tally in report.skipped.values()) + report.kept == report.read


def test_coinciding_atoms_are_not_a_geometry(tmp_path: Path):
    path = tmp_path / "z.xyz"
    nowhere = "3\nnowhere\nO 0 0 1\nH 0 0 0\nH 0 0 0\n"
    path.write_text(nowhere + "2\nfine\nH 0 0 0\nH 0 0 0.74\n")
    report, store = run(path, tmp_path)
    assert len(store) == report.kept == 1
    ((reason, tally),) = report.skipped.items()
    assert "closer than" in reason
    assert tally.places == [f"{path}: record 1"]


def test_missing_hydrogens_are_a_warning(tmp_path: Path):
    bare = write_sdf(tmp_path / "a.sdf", ["CCO", "CC(=O)[O-]"], hydrogens=False)
    full = write_sdf(tmp_path / "b.sdf", ["O=C=O", "C(F)(F)(F)F", "CC"])  # no H is right twice
    report, _ = run([bare, full], tmp_path)
    assert report.kept == 5
    ((remark, tally),) = report.warnings.items()
    assert "H atoms are missing" in remark
    assert tally.places == [f"{bare}: record 1", f"{bare}: record 2"]


def test_missing_hydrogens_are_seen_without_bonds_too(tmp_path: Path):
    path = tmp_path / "a.xyz"
    ethane, dioxide = "2\n\nC 0 0 0\nC 0 0 1.53\n", "3\n\nC 0 0 0\nO 0 0 1.16\nO 0 0 -1.16\n"
    path.write_text(ethane + dioxide)
    report, store = run(path, tmp_path)
    assert store.smiles is None
    assert [tally.places for tally in report.warnings.values()] == [[f"{path}: record 1"]]


def test_flat_coordinates_are_a_warning(tmp_path: Path):
    atoms = [f"{'CH'[k % 2]} {0.7 * k} {0.7 * (k % 3)} 0" for k in range(6)]
    (tmp_path / "flat.xyz").write_text("\n".join(["6", "flat", *atoms, ""]))
    report, _ = run(tmp_path / "flat.xyz", tmp_path)
    assert any("all z are 0" in remark for remark in report.warnings)


def test_a_folder_is_read_in_order_and_bad_files_do_not_stop_it(tmp_path: Path):
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    write_sdf(folder / "b.sdf", ["CC"])
    write_sdf(folder / "sub" / "c.sdf", ["CO"])
    (folder / "a.xyz").write_text("")
    (folder / "notes.txt").write_text("not a molecule")
    report, store = run(folder, tmp_path)
    assert store.titles == ["CC", "CO"]
    assert report.skipped["cannot be read"].count == 1
    assert "a.xyz" in report.skipped["cannot be read"].places[0]


def test_an_npz_keeps_its_split_and_smiles(tmp_path: Path):
    first, _ = run(write_sdf(tmp_path / "a.sdf", ["C" * n for n in range(1, 9)]), tmp_path, seed=3)
    before = MoleculeStore.open(first.output)
    second = prepare(first.output, tmp_path / "again.npz", max_atoms=20, seed=4)
    after = MoleculeStore.open(second.output)
    assert after.smiles == before.smiles[:6]
    assert after.split.tolist() == before.split[:6].tolist()
    assert after.titles == before.titles[:6]


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path):
    path = write_sdf(tmp_path / "a.sdf", ["C" * n for n in range(1, 13)])
    one, _ = run(path, tmp_path, seed=5)
    content = one.output.read_bytes()
    run(path, tmp_path, seed=5)
    assert one.output.read_bytes() == content
    other, _ = run(path, tmp_path, seed=6)
    assert other.output.read_bytes() != content


def test_an_sdf_of_conformers_is_divided_by_structure(tmp_path: Path):
    path = write_sdf(tmp_path / "a.sdf", ["CCO", "CC", "CCC", "C", "CO"] * 4)
    report, store = run(path, tmp_path, fractions=(0.6, 0.2, 0.2))
    assert (report.with_smiles, report.structures) == (20, 5)
    assert report.splits == {"train": 12, "valid": 4, "test": 4}
    for text in set(store.smiles):
        rows = [k for k, own in enumerate(store.smiles) if own == text]
        assert len(set(store.split[rows].tolist())) == 1


def test_each_part_gets_whole_structures_where_there_are_enough(tmp_path: Path):
    """By shares alone the last one begins at molecule 161, in the valid part: none would test."""
    smiles = ["C", "CC", "CCC", "CO", "CCO", "CN", "CCN", "CF", "CCF"]
    path = write_sdf(tmp_path / "a.sdf", smiles)
    text = path.read_text().split("$$$$\n")[:-1]
    path.write_text("".join(20 * (record + "$$$$\n") for record in text))
    report, store = run(path, tmp_path)
    assert report.splits == {"train": 140, "valid": 20, "test": 20}
    assert report.shared == []
    for own in set(store.smiles):
        rows = [k for k, other in enumerate(store.smiles) if other == own]
        assert (len(rows), len(set(store.split[rows].tolist()))) == (20, 1)


def test_copies_in_several_parts_are_told(tmp_path: Path):
    report, _ = run(write_sdf(tmp_path / "a.sdf", ["C", "CC"] * 10), tmp_path)
    assert report.splits == {"train": 16, "valid": 2, "test": 2}
    assert report.shared[0] == "train"
    assert len(report.shared) > 1
    report, _ = run(write_sdf(tmp_path / "b.sdf", ["C", "C"]), tmp_path)
    assert report.shared == ["train", "valid"]


def pickled(path: Path, entries: list[tuple[str, int]]) -> Path:
    """As GEOM-Drugs' splits are published: (SMILES, conformers) of each structure."""
    content = []
    for smiles, count in entries:
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        AllChem.EmbedMultipleConfs(mol, count, randomSeed=5)
        conformers = [Chem.Mol(mol, confId=k) for k in range(count)]
        content.append((smiles, conformers))
    path.write_bytes(pickle.dumps(content))
    return path


def test_pickled_splits_keep_their_parts_and_the_first_conformers(tmp_path: Path):
    pickled(tmp_path / "train_data.pickle", [("CCCO", 4), ("CC(=O)[O-]", 1), ("CCC", 3)])
    pickled(tmp_path / "val_data.pickle", [("CO", 1)])
    pickled(tmp_path / "test_data.pickle", [("CCCO", 2)])
    report, store = run(tmp_path, tmp_path, conformers=2, split_by="files")
    # files in the order of their names: the structure of the test file comes first
    train = ["CCCO", "CCCO", "CC(=O)[O-]", "CCC", "CCC"]
    assert store.smiles == [*["CCCO"] * 2, *train, "CO"]  # counted in each part
    assert store.split.tolist() == [2] * 2 + [0] * 5 + [1]
    assert report.splits == {"train": 5, "valid": 1, "test": 2}
    assert report.skipped["more than 2 conformers of one structure"].count == 3
    charges = store.molecule(4).formal_charges
    assert charges.sum() == -1
    report, store = run(tmp_path, tmp_path, split_by="files")
    assert (report.kept, report.splits["train"]) == (11, 8)


def test_the_first_conformers_are_counted_wherever_they_stand(tmp_path: Path):
    path = write_sdf(tmp_path / "a.sdf", ["CCO", "CC", "CCO", "CC", "CCO", "C"])
    _, store = run(path, tmp_path, conformers=1)
    assert store.smiles == ["CCO", "CC", "C"]


def test_stereoisomers_are_different_structures(tmp_path: Path):
    path = write_sdf(tmp_path / "a.sdf", ["C/C=C/C", "C/C=C\\C", "C/C=C/C"])
    report, store = run(path, tmp_path, conformers=1)
    assert store.smiles == ["CC=CC"] * 2
    assert report.skipped["more than 1 conformers of one structure"].places == [f"{path}: record 3"]


def test_molecules_that_differ_in_charges_only_are_different_structures(tmp_path: Path):
    """What follows each other is taken for conformers only if it is the same atom by atom."""
    text = write_sdf(tmp_path / "a.sdf", ["CC"]).read_text()
    charged = text.replace("M  END", "M  CHG  1   1   1\nM  END")
    (tmp_path / "a.sdf").write_text(text + charged + text)
    _, store = run(tmp_path / "a.sdf", tmp_path)
    assert store.smiles[0] == store.smiles[2] == "CC"
    assert store.smiles[1] != "CC"


@pytest.mark.parametrize("name", ["molecules.sdf", "train_and_test.sdf"])
def test_names_that_say_no_part_are_refused_before_anything_is_read(tmp_path: Path, name: str):
    folder = tmp_path / "latest"
    folder.mkdir()
    path = write_sdf(folder / name, ["C"])
    with pytest.raises(UserError, match=f"{name}: neither its name nor its folder's has one of"):
        prepare(path, tmp_path / "out.npz", split_by="files")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conformers": 0}, "conformers must be at least 1, not 0"),
        ({"split_by": "file"}, "--split file: use random or files"),
        ({"fractions": (0.5, 0.5, 0.5)}, "add up to 1"),
        ({"fractions": (1.5, -0.5, 0.0)}, "add up to 1"),
        ({"max_atoms": 0}, "at least 1"),
        ({"elements": ["C", "Zz"]}, "Zz"),
        ({"elements": ["O"]}, "not one of 1 molecules can be used: 1 element H not asked for"),
    ],
)
def test_bad_arguments_write_nothing(tmp_path: Path, options: dict, message: str):
    path = write_sdf(tmp_path / "a.sdf", ["C"])
    (tmp_path / "out.npz").write_bytes(b"old")
    with pytest.raises(UserError, match=message) as caught:
        prepare(path, tmp_path / "out.npz", **options)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "out.npz").read_bytes() == b"old"


def test_bad_paths_are_named(tmp_path: Path):
    (tmp_path / "empty.sdf").write_text("")
    with pytest.raises(UserError, match=r"empty\.sdf"):
        prepare(tmp_path / "empty.sdf", tmp_path / "o.npz")
    with pytest.raises(UserError, match=r"must end in \.npz"):
        prepare(tmp_path / "empty.sdf", tmp_path / "o.sdf")


def test_the_demo_set_of_the_repository_is_sound():
    path = Path(__file__).resolve().parents[3] / "data" / "demo.npz"
    store = MoleculeStore.open(path)
    assert path.stat().st_size < 1_500_000
    assert 3_000 <= len(store) <= 4_000
    assert set(store.element_counts()) == {1, 6, 7, 8, 9}
    assert len(set(store.smiles)) == len(store)
    assert np.bincount(store.split).tolist() == [2880, 360, 360]
    for index in range(0, len(store), 97):
        mol = Chem.AddHs(Chem.MolFromSmiles(store.smiles[index]))
        numbers = store.molecule(index).atomic_numbers
        assert sorted(a.GetAtomicNum() for a in mol.GetAtoms()) == sorted(numbers.tolist())
        assert mol.GetNumHeavyAtoms() <= 9


def test_bonds_that_are_dropped_for_some_are_told(tmp_path: Path):
    write_sdf(tmp_path / "a.sdf", ["CCO", "CO"])
    (tmp_path / "w.xyz").write_text("3\n\nO 0 0 0.117\nH 0 0.757 -0.469\nH 0 -0.757 -0.469\n")
    report, store = run(tmp_path, tmp_path)
    assert store.bonds is None
    told = {reason: tally for reason, tally in report.warnings.items() if "left out" in reason}
    assert [reason.split(" stated")[0] for reason in told] == ["no bonds", "no formal charges"]
    assert all(tally.count == 1 and "w.xyz" in tally.places[0] for tally in told.values())
    report, store = run(tmp_path / "a.sdf", tmp_path)
    assert store.bonds is not None
    assert report.warnings == {}


def test_few_molecules_without_bonds_are_left_out_and_many_take_all_bonds_along(tmp_path: Path):
    smiles = ["C" * k for k in range(1, 10)]
    sdf = write_sdf(tmp_path / "a.sdf", smiles)
    bare = tmp_path / "b.xyz"
    water = "3\nwater\nO 0 0 0.1173\nH 0 0.7572 -0.4692\nH 0 -0.7572 -0.4692\n"
    bare.write_text(water)
    report, store = run([bare, sdf], tmp_path)
    assert (report.read, report.kept, report.with_bonds) == (10, 9, True)
    assert report.skipped[WITHOUT_BONDS].places == [f"{bare}: record 1"]
    assert store.titles == smiles
    assert [len(store.molecule(k).bonds) for k in range(9)] == [3 * k + 1 for k in range(1, 10)]
    assert not report.warnings
    bare.write_text(2 * water)  # more than a tenth
    report, store = run([bare, sdf], tmp_path)
    assert (report.kept, report.with_bonds) == (11, False)
    assert store.bonds is None
    assert [key for key in report.warnings if key.startswith("no bonds stated")]


def test_an_output_below_the_folder_is_not_read_again(tmp_path: Path):
    write_sdf(tmp_path / "a.sdf", ["CCO", "CO"])
    for _ in range(2):
        report, _ = run(tmp_path, tmp_path)
        assert (report.read, report.kept) == (2, 2)
    with pytest.raises(UserError, match="is an input, which it would replace"):
        run(tmp_path / "out.npz", tmp_path)
    assert MoleculeStore.open(tmp_path / "out.npz").split is not None  # as it was


def test_a_missing_folder_for_the_output_is_told_first(tmp_path: Path):
    with pytest.raises(UserError, match=r"missing does not exist; make it first"):
        prepare(tmp_path / "none.sdf", tmp_path / "missing" / "out.npz")


def test_unreadable_records_and_files_are_handed_on(tmp_path: Path):
    file = write_sdf(tmp_path / "a.sdf", ["C", "CC"])
    file.write_text(file.read_text() + "torn\n")
    (tmp_path / "b.xyz").write_text("")
    problems = []
    report = prepare(tmp_path, tmp_path / "out.npz", on_problem=problems.append)
    assert [(Path(p.file).name, p.record) for p in problems] == [("a.sdf", 3), ("b.xyz", None)]
    assert report.skipped["cannot be read"].count == 2


def without_bonds(path: Path, smiles: list[str]) -> Path:
    """An SDF with a line for each atom and none for a bond."""
    with path.open("w") as stream:
        for text in smiles:
            mol = rdkit_molecule(text)
            bare = Chem.RWMol()
            for atom in mol.GetAtoms():
                bare.AddAtom(Chem.Atom(atom.GetSymbol()))
            bare.AddConformer(mol.GetConformer())
            stream.write(Chem.MolToMolBlock(bare, kekulize=False) + "$$$$\n")
    return path


def test_no_bond_in_a_file_does_not_mean_that_there_are_none(tmp_path: Path):
    """Isomers would be conformers of one structure, and a model would learn to bind nothing."""
    path = without_bonds(tmp_path / "a.sdf", ["CCO", "COC", "CC(C)=O", "CCC=O"])
    report, store = run(path, tmp_path, conformers=1)
    assert (report.kept, report.with_smiles, report.structures) == (4, 0, 0)
    assert store.bonds is None
    assert store.formal_charges is None
    write_sdf(tmp_path / "b.sdf", ["CCCO"])
    report = prepare([path, tmp_path / "b.sdf"], tmp_path / "both.npz")
    assert any("no bonds stated" in remark for remark in report.warnings)


def test_generated_npz_without_bonds_has_none_to_learn(tmp_path: Path):
    from molbfn.chem.molecule import Molecule
    from molbfn.chem.writers import open_writer

    water = Molecule(
        positions=np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]),
        atomic_numbers=np.array([8, 1, 1]),
    )
    with open_writer(tmp_path / "made.npz") as writer:
        writer.write(water)
    store = MoleculeStore.open(tmp_path / "made.npz")
    assert store.bonds is None
    assert store.formal_charges is None


def test_a_charge_that_no_data_set_may_hold_is_left_out(tmp_path: Path):
    mol = rdkit_molecule("C")
    mol.GetAtomWithIdx(0).SetFormalCharge(9)
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        writer.write(rdkit_molecule("CCO"))
        writer.write(mol)
    report, store = run(tmp_path / "a.sdf", tmp_path)
    assert (report.kept, len(store)) == (1, 1)
    assert report.skipped["a formal charge beyond 8"].count == 1


def test_an_old_split_can_be_replaced(tmp_path: Path):
    first, before = run(write_sdf(tmp_path / "a.sdf", ["C" * n for n in range(1, 9)]), tmp_path)
    assert not first.split_is_old
    kept = prepare(first.output, tmp_path / "kept.npz", fractions=(0.5, 0.25, 0.25))
    assert kept.split_is_old
    assert MoleculeStore.open(kept.output).split.tolist() == before.split.tolist()
    new = prepare(
        first.output, tmp_path / "new.npz", split_by="random", fractions=(0.5, 0.25, 0.25)
    )
    assert not new.split_is_old
    assert new.splits == {"train": 4, "valid": 2, "test": 2}


def test_a_negative_seed_is_refused_before_anything_is_read(tmp_path: Path):
    with pytest.raises(UserError, match="--seed -1: must not be negative"):
        prepare(tmp_path / "none.sdf", tmp_path / "out.npz", seed=-1)


def test_ions_beside_each_other_are_no_molecule_of_unknown_bonds(tmp_path: Path):
    """Else one record of salt would cost all others their bonds."""
    salt = Chem.RWMol()
    for symbol, charge in (("Na", 1), ("Cl", -1)):
        atom = Chem.Atom(symbol)
        atom.SetFormalCharge(charge)
        salt.AddAtom(atom)
    salt.AddConformer(Chem.Conformer(2))
    salt.GetConformer().SetAtomPosition(1, (2.4, 0.0, 0.0))
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        writer.write(rdkit_molecule("CCO"))
        writer.write(salt)
    report, store = run(tmp_path / "a.sdf", tmp_path)
    assert (report.kept, report.with_smiles, report.warnings) == (2, 2, {})
    assert store.molecule(1).formal_charges.tolist() == [1, -1]
