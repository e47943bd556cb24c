"""What npz files say of molecules is taken along where it can be, and named where not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from molbfn.chem.files import open_writer
from molbfn.chem.molecule import Molecule
from molbfn.data.builder import StoreBuilder
from molbfn.data.prepare import prepare
from molbfn.data.store import MoleculeStore


def hydrogens(count: int, **properties: float) -> list[Molecule]:
    """H2 with bonds that grow by 0.01 from 0.70 angstrom."""
    points = [[[0, 0, 0], [0, 0, 0.70 + 0.01 * k]] for k in range(count)]
    return [Molecule(np.array([1, 1]), p, properties=properties) for p in points]


def npz(path: Path, count: int, **arrays: np.ndarray) -> Path:
    """The hydrogens as a data set with further arrays; the last of them is too close together."""
    builder = StoreBuilder()
    for molecule in hydrogens(count - 1):
        builder.add(molecule)
    builder.add(Molecule(np.array([1, 1]), [[0, 0, 0], [0, 0, 0.1]]))
    builder.build(path.stem).save(path)
    with np.load(path) as found:
        np.savez(path, **found, **arrays)
    return path


def named(values: list[list[float]], names: list[str], units: list[str]) -> dict[str, np.ndarray]:
    return {
        "properties": np.array(values, dtype=np.float32),
        "property_names": np.array(names),
        "property_units": np.array(units),
    }


def test_numbers_of_an_npz_stay_with_their_molecules(tmp_path: Path) -> None:
    path = npz(
        tmp_path / "a.npz",
        5,
        **named([[k, -k] for k in range(5)], ["gap", "mu"], ["eV", "D"]),
        qm9_index=np.arange(5) * 10,
        fingerprint=np.arange(10).reshape(5, 2) % 2 == 0,
        smiles_consistent=np.array([True, False, True, True, True]),
        label=np.array(["a", "b", "c", "d", "e"]),
        all_of_it=np.arange(9),
    )
    report = prepare(path, tmp_path / "out.npz", seed=3)
    store = MoleculeStore.open(tmp_path / "out.npz")
    assert (report.read, report.kept) == (5, 4)
    assert report.carried == ["gap", "mu", "fingerprint", "qm9_index", "smiles_consistent"]
    assert report.not_kept == ["all_of_it", "label"]
    assert (store.property_names, store.property_units) == (("gap", "mu"), ("eV", "D"))
    assert store.extras["qm9_index"].tolist() == [0, 10, 20, 30]
    assert store.extras["fingerprint"].shape == (4, 2)
    assert store.consistent.tolist() == [True, False, True, True]
    # by molecule, in every part of the split
    for part in ("train", "valid", "test"):
        if (store.split == ("train", "valid", "test").index(part)).any():
            chosen = store.subset(part)
            place = np.rint((chosen.positions[1::2, 2] - 0.70) * 100)
            np.testing.assert_array_equal(chosen.properties, np.stack([place, -place], axis=1))
            np.testing.assert_array_equal(chosen.extras["qm9_index"], place * 10)


def test_files_that_know_different_things(tmp_path: Path) -> None:
    one = npz(
        tmp_path / "1.npz", 3, **named([[1, 5]] * 3, ["gap", "mu"], ["eV", "D"]), run=np.arange(3)
    )
    two = npz(
        tmp_path / "2.npz",
        3,
        **named([[2, 7]] * 3, ["mu", "gap"], ["D", "kcal/mol"]),
        split=np.zeros(3, np.int8),
    )
    three = tmp_path / "3.sdf"
    with open_writer(three) as writer:
        for molecule in hydrogens(2, energy=-1.5, index=3):
            writer.write(molecule)
    report = prepare([one, two, three], tmp_path / "out.npz")
    store = MoleculeStore.open(tmp_path / "out.npz")
    # a gap in two units is no column; what the SDF says is named
    assert (store.property_names, store.property_units) == (("mu",), ("D",))
    assert store.properties[:4, 0].tolist() == [5, 5, 2, 2]
    assert np.isnan(store.properties[4:]).all()
    assert (report.carried, report.not_kept) == (["mu"], ["energy", "gap", "index", "run"])
    assert not store.extras


def test_what_the_writer_of_molecules_knows_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with open_writer(path) as writer:
        for molecule in hydrogens(3, energy=-1.5):
            writer.write(molecule)
    assert prepare(path, tmp_path / "out.npz").not_kept == ["records_json"]


@pytest.mark.parametrize("suffix", [".xyz", ".npz"])
def test_nothing_to_tell(tmp_path: Path, suffix: str) -> None:
    path = npz(tmp_path / "a.npz", 3)
    if suffix == ".xyz":
        path = tmp_path / "a.xyz"
        with open_writer(path) as writer:
            for molecule in hydrogens(3):
                writer.write(molecule)
    report = prepare(path, tmp_path / "out.npz")
    assert (report.carried, report.not_kept) == ([], [])
