"""The flat store: layout, memory maps, checks, subsets."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from molbfn.data.store import MoleculeStore
from molbfn.errors import UserError


def arrays_of(sizes: list[int], seed: int = 0) -> dict[str, np.ndarray]:
    """A full set of arrays in the file layout for molecules of the given sizes."""
    rng = np.random.default_rng(seed)
    atoms, count = sum(sizes), len(sizes)
    bonds = np.array(
        [(i, i + 1, 1 + i % 3) for n in sizes for i in range(n - 1)], dtype=np.int32
    ).reshape(-1, 3)
    smiles = "\n".join(f"C{i}" for i in range(count))
    return {
        "num_atoms": np.array(sizes, dtype=np.int16),
        "atomic_numbers": rng.choice([1, 6, 7, 8, 9], atoms).astype(np.int8),
        "positions": rng.normal(size=(atoms, 3)).astype(np.float32),
        "smiles": np.frombuffer(smiles.encode(), dtype=np.uint8),
        "split": (np.arange(count) % 3).astype(np.int8),
        "formal_charges": rng.integers(-1, 2, atoms).astype(np.int8),
        "num_bonds": np.array([n - 1 for n in sizes], dtype=np.int16),
        "bonds": bonds,
        "smiles_consistent": np.arange(count) % 2 == 0,
        "properties": rng.normal(size=(count, 2)).astype(np.float32),
        "property_names": np.array(["mu", "gap"]),
        "property_units": np.array(["Debye", "Hartree"]),
        "qm9_index": np.arange(count, dtype=np.int32) + 100,
    }


def write(path: Path, *, compressed: bool = False, drop: tuple[str, ...] = (), **changes) -> Path:
    """Write the arrays of four molecules, some changed or dropped."""
    arrays = {**arrays_of([3, 1, 5, 2]), **changes}
    arrays = {key: value for key, value in arrays.items() if key not in drop}
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_open_reads_every_array_of_the_layout(tmp_path: Path, compressed: bool):
    store = MoleculeStore.open(write(tmp_path / "four.npz", compressed=compressed))
    expected = arrays_of([3, 1, 5, 2])
    assert len(store) == 4
    assert store.offsets.tolist() == [0, 3, 4, 9, 11]
    assert store.sizes.tolist() == [3, 1, 5, 2]
    np.testing.assert_array_equal(store.positions, expected["positions"])
    np.testing.assert_array_equal(store.atomic_numbers, expected["atomic_numbers"])
    np.testing.assert_array_equal(store.bonds, expected["bonds"])
    assert store.smiles == ["C0", "C1", "C2", "C3"]
    assert store.consistent.tolist() == [True, False, True, False]
    assert store.property_names == ("mu", "gap")
    assert store.property_units == ("Debye", "Hartree")
    assert store.extras["qm9_index"].tolist() == [100, 101, 102, 103]
    assert store.name == "four"
    assert store.size_histogram() == {1: 1, 2: 1, 3: 1, 5: 1}
    assert sum(store.element_counts().values()) == 11
    assert isinstance(store.positions, np.memmap) is not compressed


def test_mapped_arrays_lie_at_the_right_bytes_for_every_dtype_and_order(tmp_path: Path):
    rng = np.random.default_rng(1)
    positions = np.asfortranarray(rng.normal(size=(11, 3)).astype(np.float32))
    store = MoleculeStore.open(write(tmp_path / "f.npz", positions=positions))
    assert isinstance(store.positions, np.memmap)
    np.testing.assert_array_equal(store.positions, positions)


def test_edm_split_is_read_as_the_split(tmp_path: Path):
    path = write(tmp_path / "q.npz", drop=("split",), edm_split=np.array([2, 0, 1, 0], np.int8))
    assert MoleculeStore.open(path).split.tolist() == [2, 0, 1, 0]


def test_optional_arrays_may_be_absent(tmp_path: Path):
    optional = set(arrays_of([1])) - {"num_atoms", "atomic_numbers", "positions"}
    store = MoleculeStore.open(write(tmp_path / "bare.npz", drop=tuple(optional)))
    assert (store.smiles, store.split, store.bonds, store.properties) == (None,) * 4
    assert store.subset(np.array([2, 0])).sizes.tolist() == [5, 3]
    with pytest.raises(UserError, match="no array 'split'"):
        store.subset("train")


BAD = {
    "missing": ({"drop": ("positions",)}, "'positions' is missing"),
    "shape": ({"positions": np.zeros((11, 2), np.float32)}, r"'positions' has shape \[11, 2\]"),
    "lengths": ({"num_atoms": np.array([3, 1, 5, 3])}, r"'atomic_numbers'.*expected \[12\]"),
    "floats": ({"num_atoms": np.array([3.0, 1, 5, 2])}, "'num_atoms' is float64"),
    "integers": ({"positions": np.zeros((11, 3), int)}, "'positions' is int64"),
    "element": ({"atomic_numbers": np.full(11, 119)}, "'atomic_numbers' holds 119"),
    "zero": ({"atomic_numbers": np.zeros(11, np.int8)}, "'atomic_numbers' holds 0"),
    "empty molecule": ({"num_atoms": np.array([3, 0, 6, 2])}, "'num_atoms' holds 0"),
    "no molecules": (
        {
            "num_atoms": np.zeros(0, np.int64),
            "atomic_numbers": np.zeros(0, np.int8),
            "positions": np.zeros((0, 3), np.float32),
        },
        "no molecules",
    ),
    "nan": ({"positions": np.full((11, 3), np.nan, np.float32)}, "'positions' holds a value"),
    "smiles": ({"smiles": np.frombuffer(b"C\nC", np.uint8)}, "'smiles' has 2 lines, expected 4"),
    "split": ({"split": np.array([0, 1, 2, 3])}, "'split' holds 3"),
    "bond": ({"bonds": np.tile([0, 5, 1], (7, 1))}, "'bonds' names an atom"),
    "self-bond": ({"bonds": np.tile([0, 0, 1], (7, 1))}, "to itself"),
    "twice": ({"bonds": [[0, 1, 1], [1, 0, 1], *[[0, 1, 1]] * 5]}, "same two atoms twice"),
    "order": ({"bonds": np.tile([0, 0, 5], (7, 1))}, "'bonds' holds an order"),
    "pickle": ({"positions": np.array([None] * 11, dtype=object)}, "object|Object"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_bad_array_is_a_one_line_error_with_file_and_key(
    tmp_path: Path, name: str, compressed: bool
):
    changes, message = BAD[name]
    path = write(tmp_path / "bad.npz", compressed=compressed, **changes)
    with pytest.raises(UserError, match=message) as caught:
        MoleculeStore.open(path)
    assert "bad.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_cut_short_or_of_another_kind_is_a_user_error(tmp_path: Path, compressed: bool):
    path = write(tmp_path / "cut.npz", compressed=compressed)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match=r"cut\.npz is not a readable npz"):
        MoleculeStore.open(path)
    (tmp_path / "text.npz").write_text("not a zip")
    with pytest.raises(UserError, match=r"text\.npz is not a readable npz"):
        MoleculeStore.open(tmp_path / "text.npz")
    with pytest.raises(UserError, match="no such data file"):
        MoleculeStore.open(tmp_path / "none.npz")


def test_flipped_bytes_in_a_compressed_file_are_noticed(tmp_path: Path):
    path = write(tmp_path / "flip.npz", compressed=True)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("positions.npy").header_offset
    content = bytearray(path.read_bytes())
    content[start + 120] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"flip\.npz"):
        MoleculeStore.open(path)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(0, 5), st.data())
def test_subset_equals_the_molecules_taken_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seed: int, data: st.DataObject
):
    path = tmp_path_factory.mktemp("subset") / "s.npz"
    np.savez(path, **arrays_of(sizes, seed))
    store = MoleculeStore.open(path)
    count = len(sizes)
    index = np.array(data.draw(st.lists(st.integers(-count, count - 1), max_size=12)), dtype=int)
    part = store.subset(index)
    assert len(part) == len(index)
    for new, old in enumerate(index.tolist()):
        old %= count
        mine, theirs = (
            slice(part.offsets[new], part.offsets[new + 1]),
            slice(store.offsets[old], store.offsets[old + 1]),
        )
        np.testing.assert_array_equal(part.positions[mine], store.positions[theirs])
        np.testing.assert_array_equal(part.atomic_numbers[mine], store.atomic_numbers[theirs])
        np.testing.assert_array_equal(part.formal_charges[mine], store.formal_charges[theirs])
        my_bonds = slice(part.bond_offsets[new], part.bond_offsets[new + 1])
        their_bonds = slice(store.bond_offsets[old], store.bond_offsets[old + 1])
        np.testing.assert_array_equal(part.bonds[my_bonds], store.bonds[their_bonds])
        assert part.smiles[new] == store.smiles[old]
        assert part.extras["qm9_index"][new] == store.extras["qm9_index"][old]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.booleans())
def test_save_and_open_round_trip(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], compressed: bool
):
    folder = tmp_path_factory.mktemp("trip")
    np.savez(folder / "a.npz", **arrays_of(sizes))
    first = MoleculeStore.open(folder / "a.npz")
    first.save(folder / "b.npz", compressed=compressed)
    second = MoleculeStore.open(folder / "b.npz")
    with np.load(folder / "b.npz") as written:
        assert {key: value.tolist() for key, value in written.items()} == {
            key: value.tolist() for key, value in arrays_of(sizes).items()
        }
    assert isinstance(second.positions, np.memmap) is not compressed
    assert second.smiles == first.smiles


def test_subset_by_name_mask_and_bad_arguments(tmp_path: Path):
    store = MoleculeStore.open(write(tmp_path / "four.npz"))
    assert store.subset("all") is store
    assert store.subset("train").smiles == ["C0", "C3"]
    assert store.subset("valid").smiles == ["C1"]
    assert store.subset("test").smiles == ["C2"]
    assert store.subset(np.array([False, True, True, False])).smiles == ["C1", "C2"]
    with pytest.raises(UserError, match="did you mean 'train'"):
        store.subset("trian")
    with pytest.raises(UserError, match="no molecule is in the split 'test'"):
        store.subset(np.array([0, 1])).subset("test")
    with pytest.raises(IndexError):
        store.subset(np.array([4]))
    with pytest.raises(IndexError):
        store.subset(np.array([True]))
    with pytest.raises(TypeError):
        store.subset(np.array([0.5]))


def test_molecules_made_of_some_elements_only():
    numbers = [[1, 8, 1], [9], [], [6, 9, 1], [118, 1], [6, 1]]
    store = MoleculeStore(
        atomic_numbers=np.array([z for molecule in numbers for z in molecule], dtype=np.int8),
        positions=np.zeros((11, 3), dtype=np.float32),
        offsets=np.cumsum([0, *map(len, numbers)]),
    )
    for known in ([1, 6, 8], [9], [1, 118], [], [1, 6, 8, 9, 118]):
        expected = [set(molecule) <= set(known) for molecule in numbers]
        assert store.made_of(known).tolist() == expected


def test_a_failed_save_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write(tmp_path / "old.npz")
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(UserError, match=r"cannot write .*No space left"):
        MoleculeStore.open(path).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["old.npz"]
    with pytest.raises(UserError, match="cannot write"):
        MoleculeStore.open(path).save(tmp_path / "none" / "new.npz")


def test_save_over_the_mapped_file_itself(tmp_path: Path):
    path = write(tmp_path / "own.npz")
    store = MoleculeStore.open(path)
    store.subset("train").save(path)
    assert len(MoleculeStore.open(path)) == 2
    assert store.positions.shape == (11, 3)  # the old map stays valid


def test_molecule_carries_charges_bonds_and_properties(tmp_path: Path):
    arrays = arrays_of([3, 1, 5, 2])
    arrays["bonds"][1] = [2, 1, 2]  # i > j is put right
    arrays["bonds"][6] = [0, 1, 4]  # an aromatic pair has no Kekule structure
    arrays["properties"][2, 1] = np.nan
    store = MoleculeStore.open(write(tmp_path / "four.npz", **arrays))
    molecule = store.molecule(0)
    np.testing.assert_array_equal(molecule.positions, arrays["positions"][:3])
    assert molecule.atomic_numbers.dtype == np.int64
    assert molecule.bonds.tolist() == [[0, 1, 1], [1, 2, 2]]
    assert molecule.formal_charges.tolist() == arrays["formal_charges"][:3].tolist()
    assert molecule.properties["smiles"] == "C0"
    assert molecule.title == "four-0"
    assert "gap" not in store.molecule(2).properties
    assert "mu" in store.molecule(2).properties
    assert store.molecule(-1).bonds is None
    with pytest.raises(IndexError):
        store.molecule(4)


def test_aromatic_bonds_are_kekulised(tmp_path: Path):
    ring = np.array([(i, (i + 1) % 6, 4) for i in range(6)])
    np.savez(
        tmp_path / "benzene.npz",
        num_atoms=[6],
        atomic_numbers=np.full(6, 6),
        positions=np.random.default_rng(0).normal(size=(6, 3)),
        num_bonds=[6],
        bonds=ring,
    )
    bonds = MoleculeStore.open(tmp_path / "benzene.npz").molecule(0).bonds
    assert sorted(bonds[:, 2].tolist()) == [1, 1, 1, 2, 2, 2]
    assert np.bincount(bonds[bonds[:, 2] == 2, :2].ravel()).tolist() == [1] * 6


def qm9_file() -> Path:
    """The real data set, outside the repository."""
    root = Path(__file__).resolve().parents[3]
    folder = Path(os.environ.get("MOLBFN_DATA") or root.parent / "shared" / "data")
    if not (folder / "qm9" / "qm9.npz").is_file():
        pytest.skip("no qm9/qm9.npz in $MOLBFN_DATA or ../shared/data")
    return folder / "qm9" / "qm9.npz"


def test_real_qm9():
    store = MoleculeStore.open(qm9_file())
    assert len(store) == 128_744
    assert set(store.element_counts()) == {1, 6, 7, 8}
    assert store.consistent.sum() == 128_744 - 11
    assert np.bincount(store.split).tolist() == [98_412, 17_473, 12_859]
    train = store.subset("train")
    assert len(train) == 98_412
    assert train.smiles[5] == store.smiles[int(np.flatnonzero(store.split == 0)[5])]
