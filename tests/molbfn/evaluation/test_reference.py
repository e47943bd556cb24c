"""Reference SMILES by both routes, splits, and the cache."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from molbfn.data.builder import StoreBuilder
from molbfn.data.store import MoleculeStore
from molbfn.errors import UserError
from molbfn.evaluation import reference as module
from molbfn.evaluation.reference import Reference, open_reference

#: name of the example, SMILES that the data states (that of methyl differs from its geometry)
CONTENT = [("methane", "[H]C"), ("methyl", "C(C)"), ("ammonium", "[NH4+]"), ("water", "")]


@pytest.fixture
def store(example) -> MoleculeStore:
    """Four molecules: two train, one valid, one test; the last without SMILES."""
    builder = StoreBuilder()
    for name, smiles in CONTENT:
        builder.add(example(name), smiles)
    return dataclasses.replace(builder.build("four"), split=np.array([0, 0, 1, 2], np.int8))


@pytest.fixture
def file(store: MoleculeStore, tmp_path: Path) -> Path:
    store.save(tmp_path / "four.npz")
    return tmp_path / "four.npz"


def test_own_smiles_are_made_canonical(store: MoleculeStore):
    known = open_reference(store, split="all").known("smiles")
    assert known.smiles == {"C", "CC", "[NH4+]"}
    assert (known.missing, known.composition.molecules) == (1, 4)
    assert known.description == "four (4 molecules, data's own SMILES, 1 of them without)"


def test_distance_rule_takes_the_geometry(store: MoleculeStore):
    known = open_reference(store, split="all").known("distances")
    assert known.smiles == {"C", "[CH3]", "O"}
    assert known.missing == 1  # ammonium is not valid without charges
    assert known.composition.elements == {1: 4 + 3 + 4 + 2, 6: 2, 7: 1, 8: 1}


def test_training_part_is_the_default(store: MoleculeStore):
    chosen = open_reference(store)
    assert (chosen.name, chosen.split) == ("four train", "train")
    assert chosen.known("smiles").smiles == {"C", "CC"}
    assert open_reference(store, split="valid").known("smiles").smiles == {"[NH4+]"}
    whole = open_reference(dataclasses.replace(store, split=None))
    assert (whole.name, whole.split) == ("four", "all")


@pytest.mark.parametrize("suffix", [".sdf", ".sdf.gz", ".xyz"])
def test_files_of_molecules(named, write, suffix: str):
    bonded = [
        dataclasses.replace(m, bonds=np.array([(0, k, 1) for k in range(1, len(m))]))
        for m in named("methane", "water")
    ]
    chosen = open_reference(write(f"some{suffix}", bonded))
    assert chosen.name == f"some{suffix}"
    assert chosen.has_smiles() is (suffix != ".xyz")
    for route in ("smiles", "distances") if chosen.has_smiles() else ("distances",):
        assert chosen.known(route).smiles == {"C", "O"}


def test_unreadable_records_of_a_reference_are_left_out(named, write):
    path = write("some.xyz", named("methane", "water"))
    path.write_text(path.read_text().replace("O ", "Qq "))
    known = open_reference(path).known("distances")
    assert known.smiles == {"C"}
    assert known.composition.molecules == 1


@pytest.mark.parametrize("route", ["smiles", "distances"])
def test_second_time_comes_from_the_cache(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, route: str
):
    first = open_reference(file).known(route)
    assert len(list(cache.rglob("*.npz"))) == 1

    def refuse(*_: object) -> None:
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(Reference, "_compute", refuse)
        assert open_reference(file).known(route) == first
        with pytest.raises(AssertionError, match="computed again"):
            open_reference(file, split="all").known(route)
    assert open_reference(file, split="all").known(route) != first


def test_changed_file_is_not_taken_from_the_cache(file: Path, store: MoleculeStore):
    assert open_reference(file).known("smiles").smiles == {"C", "CC"}
    dataclasses.replace(store, smiles=["CO", "CN", "", ""]).save(file)
    assert open_reference(file).known("smiles").smiles == {"CO", "CN"}


@pytest.mark.parametrize("damage", [b"", b"not a zip", None])
def test_damaged_cache_is_made_again(file: Path, cache: Path, damage: bytes | None):
    first = open_reference(file).known("smiles")
    (cached,) = cache.rglob("*.npz")
    cached.write_bytes(cached.read_bytes()[:-40] if damage is None else damage)
    assert open_reference(file).known("smiles") == first
    assert len(cached.read_bytes()) > 100


def test_cache_that_cannot_be_written_does_not_matter(file: Path, cache: Path):
    cache.write_text("a file where the folder should be")
    assert open_reference(file).known("smiles").smiles == {"C", "CC"}


def test_progress_reaches_the_total(store: MoleculeStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_CHUNK", 2)
    calls = []
    open_reference(store, split="all").known("distances", progress=lambda *x: calls.append(x))
    assert calls == [("reference four", 2, 4), ("reference four", 4, 4)]


def test_mistakes_are_named(file: Path, named, write):
    with pytest.raises(UserError, match="no split 'trian': did you mean 'train'"):
        open_reference(file, split="trian")
    with pytest.raises(UserError, match="no such data file"):
        open_reference("missing.npz")
    with pytest.raises(UserError, match="did you mean 'qm9'"):
        open_reference("qm99")
    with pytest.raises(UserError, match="has no splits"):
        open_reference(write("a.xyz", named("water")), split="train")


def test_a_reference_without_readable_records_is_refused(tmp_path: Path):
    (tmp_path / "a.sdf").write_text("no molecule\n")
    with pytest.raises(UserError, match=r"a\.sdf: none of its 1 records can be read"):
        open_reference(tmp_path / "a.sdf").known("distances")


def test_what_a_reference_lacks_is_said(named, write, cache):
    text = write("two.sdf", named("methane", "water")).read_text()
    file = cache / "part.sdf"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text + "cut off\n")
    for known in (open_reference(file).known("distances") for _ in range(2)):  # computed, cached
        assert known.unreadable == 1
        assert known.notes == [
            "reference part.sdf: 1 of its 3 records could not be read and are not compared with"
        ]


def test_carbon_without_hydrogen_is_noticed(example):
    molecule = example("ethane")
    heavy = molecule.atomic_numbers > 1
    builder = StoreBuilder()
    builder.add(
        dataclasses.replace(
            molecule,
            atomic_numbers=molecule.atomic_numbers[heavy],
            positions=molecule.positions[heavy],
        ),
        "CC",
    )
    (note,) = open_reference(builder.build("heavy")).known("smiles").notes
    assert "no hydrogen atoms" in note


def test_a_file_that_states_no_bonds_has_no_structures_of_its_own(example, write):
    bare = dataclasses.replace(example("methane"), bonds=np.empty((0, 3), dtype=np.int64))
    reference = open_reference(write("bare.sdf", [bare]))
    assert not reference.has_smiles()
    assert reference.known("distances").smiles == {"C"}


def test_one_molecule_without_bonds_does_not_decide_for_a_file(example, named, write):
    bare = dataclasses.replace(example("methane"), bonds=np.empty((0, 3), dtype=np.int64))
    bonded = dataclasses.replace(example("water"), bonds=np.array([[0, 1, 1], [0, 2, 1]]))
    reference = open_reference(write("mixed.sdf", [bare, bonded]))
    assert reference.has_smiles()
    known = reference.known("smiles")
    assert (known.smiles, known.missing) == ({"O"}, 1)
    assert "1 of its 2 molecules give no structure" in known.notes[0]
