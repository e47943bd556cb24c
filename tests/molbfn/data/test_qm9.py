"""QM9: the exclusions, EDM's split, the raw files, PyTorch Geometric."""

from __future__ import annotations

import lzma
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric import data

from molbfn.data.download import EXCLUDED, SDF, TABLE
from molbfn.data.qm9 import (
    REMAINING,
    edm_split,
    prepare_qm9,
    read_uncharacterized,
    remaining_numbers,
    store_from_pyg,
    store_from_raw,
)
from molbfn.data.store import MoleculeStore
from molbfn.errors import UserError

HEADER = """
List of molecules among the 133885 GDB9 molecules for which the geometries disagree.

=====================================================================================
#   Index     GDB17 SMILES        SMILES for B3LYP XYZ      SMILES for Corina XYZ    D_IJ
=====================================================================================
"""
COLUMNS = "mol_id,A,B,C,mu,alpha,homo,lumo,gap,r2,zpve,u0,u298,h298,g298,cv,u0_atom"


def shared() -> Path:
    """The folder of the real data, outside the repository."""
    root = Path(__file__).resolve().parents[3]
    folder = Path(os.environ.get("MOLBFN_DATA") or root.parent / "shared" / "data") / "qm9"
    if not (folder / "uncharacterized.txt.xz").is_file():
        pytest.skip("no qm9/uncharacterized.txt.xz in $MOLBFN_DATA or ../shared/data")
    return folder


def unpacked(path: Path) -> str:
    return lzma.decompress(path.read_bytes()).decode()


def write_list(path: Path, numbers: list[int], *, blank: int = 0) -> Path:
    rows = [
        f"{n:8d}      NC(=N)C#N     NC(=N)C#N    [NH]C(=[NH2])C#N     6.036217" for n in numbers
    ]
    path.write_text("\n" * blank + HEADER + "\n".join(rows) + "\n" + "=" * 85 + "\n")
    return path


def record(number: int, atoms: list[tuple[str, float, float, float]], bonds: str) -> str:
    lines = [f"gdb_{number}", "  -OEChem-03231823243D", ""]
    lines.append(f"{len(atoms):3d}{len(bonds.split()):3d}  0     0  0  0  0  0  0999 V2000")
    lines += [f"{x:10.4f}{y:10.4f}{z:10.4f} {s:<3} 0  0" for s, x, y, z in atoms]
    for bond in bonds.split():
        i, j, order = bond.split("-")
        lines.append(f"{i:>3}{j:>3}{order:>3}  0  0  0  0")
    return "\n".join([*lines, "M  END", "$$$$", ""])


def raw_folder(folder: Path, *, total: int = 4, excluded: tuple[int, ...] = (2,)) -> Path:
    """Water, water, ... each a little wider than the last, so that every record is known."""
    folder.mkdir(parents=True, exist_ok=True)
    records, rows = [], [COLUMNS]
    for n in range(1, total + 1):
        far = 0.9 + n / 100
        atoms = [("O", 0.0, 0.0, 0.1), ("H", far, 0.0, 0.1), ("H", -0.24, 0.93, 0.1)]
        records.append(record(n, atoms, "1-2-1 1-3-1"))
        rows.append(f"gdb_{n}," + ",".join(str(n + k / 100) for k in range(16)))
    (folder / SDF).write_text("".join(records))
    (folder / TABLE).write_text("\n".join(rows) + "\n")
    write_list(folder / EXCLUDED, list(excluded))
    return folder


@pytest.mark.parametrize("blank", [0, 3, 7])
def test_the_list_is_read_by_form_whatever_the_header(tmp_path: Path, blank: int):
    numbers = read_uncharacterized(
        write_list(tmp_path / "u.txt", [58, 61, 80], blank=blank), expected=3
    )
    assert numbers.tolist() == [58, 61, 80]


def test_a_list_of_the_wrong_length_is_refused(tmp_path: Path):
    path = write_list(tmp_path / "u.txt", [58, 61, 80])
    with pytest.raises(UserError, match=r"u\.txt lists 3 molecules, expected 3054"):
        read_uncharacterized(path)
    with pytest.raises(UserError, match=r"cannot read .*none\.txt"):
        read_uncharacterized(tmp_path / "none.txt")


def test_exclusions_count_from_one():
    assert remaining_numbers(np.array([1, 3]), total=4).tolist() == [2, 4]
    with pytest.raises(ValueError, match=r"1\.\.4"):
        remaining_numbers(np.array([0, 3]), total=4)  # numbers that count from 0
    with pytest.raises(ValueError, match=r"1\.\.4"):
        remaining_numbers(np.array([5]), total=4)


def test_the_real_list_leaves_130831_and_the_right_ones():
    excluded = read_uncharacterized(shared() / "uncharacterized.txt.xz")
    assert len(excluded) == 3_054
    numbers = remaining_numbers(excluded)
    assert len(numbers) == 130_831 == REMAINING
    # The list carries its own proof: line k of the GDB SMILES is the SMILES it gives for index k.
    smiles = unpacked(shared() / "qm9_smiles_all133885.txt.xz").split()
    lines = unpacked(shared() / "uncharacterized.txt.xz").splitlines()
    listed = {int(w[0]): w[1] for w in map(str.split, lines) if w and w[0].isdigit()}
    assert set(listed) == set(excluded.tolist())
    assert sum(smiles[n - 1] == text for n, text in listed.items()) == 3_054
    assert sum(smiles[n] == text for n, text in listed.items()) == 0  # one off: none fits
    assert 58 not in numbers
    assert 57 in numbers


def test_edm_split_has_the_published_sizes_and_leaves_the_global_generator_alone():
    np.random.seed(123)
    before = np.random.get_state()[1].copy()
    split = edm_split()
    assert np.bincount(split).tolist() == [100_000, 17_748, 13_083]
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_edm_split_is_that_of_the_shared_file_molecule_by_molecule():
    folder = shared()
    store = MoleculeStore.open(folder / "qm9.npz")
    numbers = remaining_numbers(read_uncharacterized(folder / "uncharacterized.txt.xz"))
    rank = np.searchsorted(numbers, store.extras["qm9_index"])
    np.testing.assert_array_equal(numbers[rank], store.extras["qm9_index"])
    np.testing.assert_array_equal(edm_split()[rank], store.split)


def test_raw_files_become_a_store(tmp_path: Path):
    seen: list[int] = []
    store = store_from_raw(raw_folder(tmp_path / "r"), total=4, excluded=1, on_molecule=seen.append)
    assert seen == [1, 2, 3, 4]
    assert store.extras["qm9_index"].tolist() == [1, 3, 4]
    assert store.titles == ["gdb_1", "gdb_3", "gdb_4"]
    assert store.atomic_numbers.tolist() == [8, 1, 1] * 3
    np.testing.assert_allclose(store.positions[1::3, 0], [0.91, 0.93, 0.94], atol=1e-6)
    assert store.smiles == ["O", "O", "O"]
    # mu is the fifth column: number + 0.03; twelve columns from there
    np.testing.assert_allclose(store.properties[:, 0], [1.03, 3.03, 4.03], rtol=1e-6)
    np.testing.assert_allclose(store.properties[1], 3 + np.arange(3, 15) / 100, rtol=1e-6)
    np.testing.assert_array_equal(store.split, edm_split(3))


def test_raw_files_that_are_not_qm9_are_refused(tmp_path: Path):
    folder = raw_folder(tmp_path / "r")
    with pytest.raises(UserError, match="has 4 records, expected 5"):
        store_from_raw(folder, total=5, excluded=1)
    (folder / SDF).write_text((folder / SDF).read_text().replace("gdb_3", "gdb_4"))
    with pytest.raises(UserError, match="record 3 is 'gdb_4'"):
        store_from_raw(folder, total=4, excluded=1)
    raw_folder(folder)
    (folder / TABLE).write_text((folder / TABLE).read_text().replace("homo", "lomo"))
    with pytest.raises(UserError, match="no column 'homo'"):
        store_from_raw(folder, total=4, excluded=1)
    raw_folder(folder)
    (folder / SDF).write_text((folder / SDF).read_text().replace("H  ", "Xx ", 1))
    with pytest.raises(UserError, match="record 1 is unreadable"):
        store_from_raw(folder, total=4, excluded=1)


def pyg_items() -> list:
    edges = torch.tensor([[0, 0, 1, 2], [1, 2, 0, 0]])
    return [
        data.Data(
            z=torch.tensor([8, 1, 1]),
            pos=torch.tensor([[0.0, 0, 0.1], [0.9 + n / 100, 0, 0.1], [-0.24, 0.93, 0.1]]),
            edge_index=edges,
            edge_attr=torch.eye(4)[[0, 0, 0, 0]],
            y=torch.arange(19.0)[None] * 27.211386246,
            smiles="[H]O[H]",
            name=f"gdb_{n + 1}",
            idx=n,
        )
        for n in (0, 2, 3)
    ]


def check_pyg_store(store: MoleculeStore) -> None:
    assert store.extras["qm9_index"].tolist() == [1, 3, 4]  # PyTorch Geometric counts from 0
    assert store.titles == ["gdb_1", "gdb_3", "gdb_4"]
    assert store.smiles == ["O", "O", "O"]
    np.testing.assert_allclose(store.positions[1::3, 0], [0.9, 0.92, 0.93], rtol=1e-6)
    assert store.molecule(0).bonds.tolist() == [[0, 1, 1], [0, 2, 1]]
    mu, homo, u0 = (store.property_names.index(key) for key in ("mu", "homo", "U0"))
    assert store.properties[0, homo] == pytest.approx(2.0)  # eV back to Hartree
    assert store.properties[0, u0] == pytest.approx(7.0)
    assert store.properties[0, mu + 1] == pytest.approx(27.211386246)  # alpha has no energy unit
    assert store.split is None  # three molecules are not EDM's set


def test_pyg_data_become_a_store():
    check_pyg_store(store_from_pyg(pyg_items()))
    with pytest.raises(UserError, match="empty"):
        store_from_pyg([])


def test_a_processed_root_is_read_without_a_download(tmp_path: Path):
    from torch_geometric.data import InMemoryDataset

    (tmp_path / "processed").mkdir()
    InMemoryDataset.save(pyg_items(), str(tmp_path / "processed" / "data_v3.pt"))
    check_pyg_store(store_from_pyg(tmp_path))
    report = prepare_qm9(tmp_path / "out" / "q.npz", from_dir=tmp_path)
    assert report.molecules == 3
    check_pyg_store(MoleculeStore.open(report.output))


def test_a_bad_folder_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"holds neither gdb9\.sdf"):
        prepare_qm9(tmp_path / "q.npz", from_dir=tmp_path)
    (tmp_path / "processed").mkdir()
    (tmp_path / "processed" / "data_v3.pt").write_bytes(b"not a file of torch")
    with pytest.raises(UserError, match=r"cannot read .*data_v3\.pt"):
        prepare_qm9(tmp_path / "q.npz", from_dir=tmp_path)
    raw_folder(tmp_path / "raw")
    with pytest.raises(UserError, match="lists 1 molecules, expected 3054"):
        prepare_qm9(tmp_path / "q.npz", from_dir=tmp_path)
    assert not (tmp_path / "q.npz").exists()
