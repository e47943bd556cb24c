from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from molbfn.chem.files import count_complete, open_writer, read_molecules
from molbfn.chem.molecule import Molecule


def test_the_data_store_reads_the_file(tmp_path: Path, embed) -> None:
    from molbfn.data.store import MoleculeStore

    given = [embed("CCO"), embed("C[NH3+]")]
    with open_writer(tmp_path / "a.npz") as writer:
        for molecule in given:
            writer.write(molecule)
    store = MoleculeStore.open(tmp_path / "a.npz")
    assert list(store.sizes) == [9, 8]
    assert store.smiles == ["CCO", "C[NH3+]"]
    for k, molecule in enumerate(given):
        np.testing.assert_array_equal(store.molecule(k).positions, molecule.positions)
        np.testing.assert_array_equal(store.molecule(k).bonds, molecule.bonds)
        np.testing.assert_array_equal(store.molecule(k).formal_charges, molecule.formal_charges)


def test_members_are_stored_uncompressed(tmp_path: Path, water: Molecule) -> None:
    import zipfile

    with open_writer(tmp_path / "a.npz") as writer:
        writer.write(water)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {m.compress_type for m in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.testzip() is None


COLUMNS = ["num_atoms", "num_bonds", "positions", "bonds", "smiles", "names", "records_json"]


@pytest.mark.parametrize("column", COLUMNS)
def test_any_column_may_be_behind_the_others(tmp_path: Path, water, column: str) -> None:
    """A killed process leaves the columns at different lengths: the shortest counts."""
    path = tmp_path / "a.npz"
    folder = tmp_path / "a.npz.partial"
    given = [water.with_properties(index=k) for k in range(5)]
    writer = open_writer(path)
    for molecule in given:
        writer.write(molecule)
    writer.flush()  # and then the process is killed
    assert count_complete(path).records == 5
    file = folder / column
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * 0.7)])
    point = count_complete(path)
    assert 2 <= point.records <= 4
    assert point.highest_index == point.records - 1
    with open_writer(path, append=True) as writer:
        for molecule in given[point.records :]:
            writer.write(molecule)
    back = [r.molecule for r in read_molecules(path)]
    assert [m.properties["index"] for m in back] == [0, 1, 2, 3, 4]
    for molecule in back:
        np.testing.assert_array_equal(molecule.positions, water.positions)
        np.testing.assert_array_equal(molecule.bonds, water.bonds)
    assert not folder.exists()


def test_what_is_not_known_stays_unknown(tmp_path: Path, water: Molecule) -> None:
    bare = Molecule(water.atomic_numbers, water.positions)
    with open_writer(tmp_path / "a.npz") as writer:
        writer.write(bare)
        writer.write(water)
    first, second = (r.molecule for r in read_molecules(tmp_path / "a.npz"))
    assert first.bonds is None
    assert first.formal_charges is None
    assert second.bonds.tolist() == water.bonds.tolist()
