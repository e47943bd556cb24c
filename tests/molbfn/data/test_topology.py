"""Bonds and charges of whole data sets: kept, derived, cached; what does not fit is left out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from molbfn.data import topology
from molbfn.data.locate import available_datasets
from molbfn.data.store import MoleculeStore
from molbfn.data.topology import with_topology
from molbfn.errors import UserError

DEMO = Path(__file__).parents[3] / "data" / "demo.npz"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(topology, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def demo() -> MoleculeStore:
    return MoleculeStore.open(DEMO).subset(np.arange(40))


def test_derived_bonds_give_back_the_smiles(demo):
    store, report = with_topology(demo)
    assert report.dropped == 0
    assert len(store) == 40
    for k in range(40):
        molecule = store.molecule(k)
        assert molecule.smiles() == demo.smiles[k]
        assert molecule.formal_charges.sum() == 0


def test_what_does_not_fit_is_left_out_and_counted(demo):
    smiles = list(demo.smiles)
    smiles[3], smiles[7] = "CCCCCCCCCCC", "nonsense"
    flags = np.ones(40, dtype=bool)
    flags[11] = False
    broken = dataclasses.replace(demo, smiles=smiles, consistent=flags)
    store, report = with_topology(broken)
    assert report.dropped == 3
    assert report.examples[0].startswith("molecule 4: ")
    assert report.examples[1] == "molecule 8: SMILES 'nonsense' cannot be read"
    kept = [k for k in range(40) if k not in (3, 7, 11)]
    assert store.smiles == [smiles[k] for k in kept]
    for row, k in enumerate(kept):
        assert store.molecule(row).smiles() == demo.smiles[k]


def test_bonds_that_a_store_has_are_kept_and_kekulised(demo):
    derived, _ = with_topology(demo)
    again, report = with_topology(dataclasses.replace(derived, smiles=None))
    assert report.dropped == 0
    np.testing.assert_array_equal(again.bonds, derived.bonds)
    benzene = np.array([(k, (k + 1) % 6, 4) for k in range(6)], dtype=np.int32)
    corners = np.stack([np.cos(np.arange(6) * np.pi / 3), np.sin(np.arange(6) * np.pi / 3)], 1)
    rings = MoleculeStore(
        atomic_numbers=np.array([6] * 6 + [1] * 6, dtype=np.int8),
        positions=np.concatenate([1.39 * corners, 2.48 * corners]).repeat([1] * 12, 0)
        @ np.eye(2, 3, dtype=np.float32),
        offsets=np.array([0, 12]),
        formal_charges=np.zeros(12, dtype=np.int8),
        bonds=np.concatenate([benzene, np.array([(k, k + 6, 1) for k in range(6)])]),
        bond_offsets=np.array([0, 12]),
    )
    store, _ = with_topology(rings)
    assert sorted(store.bonds[:, 2].tolist()) == [1] * 9 + [2] * 3


def test_the_second_time_comes_from_the_cache(demo, cache, tmp_path, monkeypatch):
    demo.save(tmp_path / "some.npz")
    store = MoleculeStore.open(tmp_path / "some.npz")
    calls = []
    first, _ = with_topology(store, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (40, 40)
    assert len(list(cache.rglob("*.npz"))) == 1

    def never(*_):
        raise AssertionError("derived again")

    monkeypatch.setattr(topology, "topology_from_smiles", never)
    second, _ = with_topology(store)
    np.testing.assert_array_equal(first.bonds, second.bonds)
    np.testing.assert_array_equal(first.bond_offsets, second.bond_offsets)
    np.testing.assert_array_equal(first.formal_charges, second.formal_charges)
    monkeypatch.undo()
    monkeypatch.setattr(topology, "cache_dir", lambda: cache)
    next(cache.rglob("*.npz")).write_bytes(b"damaged")
    third, _ = with_topology(store)
    np.testing.assert_array_equal(first.bonds, third.bonds)


def test_other_molecules_of_a_file_are_not_taken_from_its_cache(demo, tmp_path):
    demo.save(tmp_path / "some.npz")
    store = MoleculeStore.open(tmp_path / "some.npz")
    size = store.sizes[0]
    alike = np.flatnonzero(store.sizes == size)[:4]
    assert len(alike) == 4  # arrays of the same shapes
    for chosen in (alike[:2], alike[2:], alike[1::-1]):
        found, _ = with_topology(store.subset(chosen))
        assert [found.molecule(k).smiles() for k in range(2)] == [store.smiles[k] for k in chosen]


def test_neither_bonds_nor_smiles(demo):
    with pytest.raises(UserError, match=r"neither bonds and formal charges nor SMILES"):
        with_topology(dataclasses.replace(demo, smiles=None))


def test_nothing_that_fits(demo):
    with pytest.raises(UserError, match=r"no molecule has bonds that fit .*cannot be read"):
        with_topology(dataclasses.replace(demo, smiles=["nonsense"] * 40))


@pytest.mark.slow
def test_all_of_qm9_but_eleven():
    if "qm9" not in available_datasets():
        pytest.skip("no QM9 data here (set MOLBFN_DATA)")
    store = MoleculeStore.open("qm9")
    found, report = with_topology(store)
    assert report.dropped == 11
    assert np.unique(found.formal_charges).tolist() == [-1, 0, 1]
