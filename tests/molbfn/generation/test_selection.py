"""Only molecules that pass: which they are, how many are made for them, and what the file says."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from molbfn.chem.files import read_molecules
from molbfn.chem.molecule import Molecule
from molbfn.chem.records import PROBLEM
from molbfn.chem.trajectory import read_trajectories, trajectory_path
from molbfn.errors import UserError
from molbfn.evaluation.compare import compare
from molbfn.evaluation.run import evaluate
from molbfn.generation import GenerationOptions, generate, selection
from molbfn.generation import sampling as sampling_module
from molbfn.generation.job import Interrupted, Part, generate_file
from molbfn.generation.processes import DevicePool
from molbfn.generation.selection import meets, select

OPTIONS = GenerationOptions(steps=3, precision="fp32")

WATER = Molecule(
    atomic_numbers=np.array([8, 1, 1]),
    positions=np.array([[0, 0, 0.1173], [0, 0.7572, -0.4692], [0, -0.7572, -0.4692]]),
    bonds=np.array([[0, 1, 1], [0, 2, 1]]),
    formal_charges=np.zeros(3, dtype=np.int64),
)


def changed(**fields) -> Molecule:
    values = {
        name: getattr(WATER, name)
        for name in ("atomic_numbers", "positions", "bonds", "formal_charges")
    }
    return Molecule(**{**values, **fields})


def numbered(indices: range):
    for index in indices:
        yield WATER.with_properties(index=index)


def indices_of(molecules) -> list[int]:
    return [int(molecule.properties["index"]) for molecule in molecules]


@pytest.fixture
def two_of_three(monkeypatch):
    """Molecules whose index is a multiple of three do not pass."""
    monkeypatch.setattr(
        selection, "meets", lambda molecule, requirement: molecule.properties["index"] % 3 != 0
    )


def test_what_is_valid_and_what_is_stable():
    assert meets(WATER, "valid")
    assert meets(WATER, "stable")
    apart = changed(bonds=np.array([[0, 1, 1]]))  # OH and a lone H: two pieces
    assert not meets(apart, "valid")
    crowded = changed(  # oxygen with four bonds
        bonds=np.array([[0, 1, 2], [0, 2, 2]])
    )
    assert not meets(crowded, "valid")
    # RDKit gives CH2 two unpaired electrons and accepts it; its carbon lacks two bonds
    carbene = changed(atomic_numbers=np.array([6, 1, 1]))
    assert meets(carbene, "valid")
    assert not meets(carbene, "stable")


def test_an_ion_is_valid_and_not_stable():
    hydroxide = changed(
        atomic_numbers=np.array([8, 1]),
        positions=np.array([[0, 0, 0], [0, 0, 0.96]]),
        bonds=np.array([[0, 1, 1]]),
        formal_charges=np.array([-1, 0]),
    )
    assert meets(hydroxide, "valid")
    assert not meets(hydroxide, "stable")
    # charges that add up to 0 are no fault
    monoxide = changed(
        atomic_numbers=np.array([6, 8]),
        positions=np.array([[0, 0, 0], [0, 0, 1.128]]),
        bonds=np.array([[0, 1, 3]]),
        formal_charges=np.array([-1, 1]),
    )
    assert meets(monoxide, "stable")


@pytest.mark.parametrize("route", ["model", "rdkit"])
def test_bonds_that_the_distances_deny_are_not_stable(route):
    longer = changed(positions=1.5 * WATER.positions).with_properties(bond_route=route)
    assert meets(longer, "valid")
    assert not meets(longer, "stable")
    # EDM's rule knows no carbon monoxide with three bonds as anything else than bonded
    other = Molecule(
        atomic_numbers=np.array([6, 8]),
        positions=np.array([[0, 0, 0], [0, 0, 1.2]]),
        bonds=np.array([[0, 1, 3]]),
        formal_charges=np.array([-1, 1]),
    )
    assert meets(other, "stable")


def test_coordinates_that_were_not_finite_never_pass():
    for requirement in ("valid", "stable"):
        assert not meets(WATER.with_properties(**{PROBLEM: "coordinates not finite"}), requirement)


def test_without_bonds_the_distances_decide():
    assert meets(changed(bonds=None, formal_charges=None), "stable")
    far = WATER.positions + np.array([[0, 0, 0], [0, 0, 9], [0, 0, 0]])
    assert not meets(changed(bonds=None, formal_charges=None, positions=far), "valid")


@pytest.mark.parametrize("wanted", [1, 2, 7, 40])
@pytest.mark.parametrize("start", [0, 5])
def test_the_first_that_pass_are_taken(two_of_three, wanted, start):
    asked = []

    def make(indices):
        asked.append(indices)
        return numbered(indices)

    rejected = []
    made = list(
        select(make, "valid", wanted=wanted, start=start, on_rejected=lambda: rejected.append(1))
    )
    expected = [index for index in range(start, 999) if index % 3][:wanted]
    assert indices_of(made) == expected
    assert len(rejected) == expected[-1] + 1 - start - wanted
    assert all(molecule.properties["required"] == "valid" for molecule in made)
    assert asked[0] == range(start, start + wanted)  # no more than what may be enough
    assert all(before.stop == after.start for before, after in itertools.pairwise(asked))
    assert asked[-1].stop - start < 2 * wanted + 10


def test_rounds_grow_until_one_passes(monkeypatch):
    """Each round begins anew what makes molecules: there must not be hundreds of them."""
    monkeypatch.setattr(selection, "meets", lambda molecule, _: molecule.properties["index"] > 300)
    rounds = []

    def make(indices):
        rounds.append(indices)
        return numbered(indices)

    assert indices_of(select(make, "valid", wanted=1, start=0)) == [301]
    assert len(rounds) < 10


def test_it_gives_up_where_hardly_any_passes(monkeypatch):
    monkeypatch.setattr(selection, "meets", lambda molecule, requirement: False)
    with pytest.raises(UserError, match="--require valid: only 0 of 500 molecules are; leave it"):
        list(select(numbered, "valid", wanted=3, start=0))


def test_python_selects_too(tiny_model, two_of_three):
    made = list(generate(tiny_model, 4, require="stable", options=OPTIONS, bonds=False))
    plain = tiny_model.generate(6, options=OPTIONS, bonds=False)
    assert indices_of(made) == [1, 2, 4, 5]
    for molecule in made:
        twin = plain[int(molecule.properties["index"])]
        np.testing.assert_allclose(molecule.positions, twin.positions, atol=1e-4)
        assert molecule.properties == {**twin.properties, "required": "stable"}


def test_the_file_and_its_record(tiny_model, tmp_path, two_of_three):
    output = tmp_path / "out.sdf"
    progress = []
    tally = generate_file(
        tiny_model,
        4,
        output,
        options=OPTIONS,
        require="valid",
        on_progress=lambda tally: progress.append(tally.work),
    )
    made = [record.molecule for record in read_molecules(output)]
    assert indices_of(made) == [1, 2, 4, 5]
    assert (tally.made, tally.rejected) == (4, 2)
    assert progress[-1] == 1.0
    assert max(progress) <= 1.0
    record = json.loads((tmp_path / "out.sdf.json").read_text())
    assert record["settings"]["require"] == "valid"
    assert (record["complete"], record["written"]) == (True, 4)
    assert (record["runs"][0]["made"], record["runs"][0]["rejected"]) == (4, 2)
    (note,) = [note for note in evaluate(output).notes if "selected" in note]
    assert note.startswith("4 of 4 molecules were selected from others")
    plain = tmp_path / "plain.sdf"
    generate_file(tiny_model, 4, plain, options=OPTIONS)
    (note,) = [note for note in compare(plain, output).notes if "selected" in note]
    assert note.startswith("B: 4 of 4 molecules were selected from others")


def test_the_bar_does_not_end_before_the_work(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(selection, "meets", lambda molecule, _: molecule.properties["index"] > 20)
    done = []
    generate_file(
        tiny_model,
        1,
        tmp_path / "out.sdf",
        options=OPTIONS,
        require="valid",
        on_progress=lambda tally: done.append((tally.rejected, tally.work)),
    )
    late = [work for rejected, work in done if 3 <= rejected < 20]
    assert late
    assert max(late) < 1
    assert done[-1][1] == 1


@pytest.mark.parametrize("value", ["yes", "no", ""])
def test_another_programs_field_of_that_name_means_nothing(value):
    given = [WATER.with_properties(required=value)]
    assert not any("selected" in note for note in evaluate(given).notes)


def test_figures_of_plain_molecules_carry_no_such_note(tiny_model, tmp_path):
    generate_file(tiny_model, 3, tmp_path / "out.sdf", options=OPTIONS)
    assert not any("selected" in note for note in evaluate(tmp_path / "out.sdf").notes)


@pytest.mark.parametrize("suffix", [".sdf", ".xyz", ".csv", ".npz"])
def test_a_selection_is_resumed_where_it_stopped(
    tiny_model, tmp_path, two_of_three, monkeypatch, suffix
):
    monkeypatch.setitem(sampling_module._AHEAD, "cpu", 2)
    output = tmp_path / f"out{suffix}"

    def stop(tally):
        if tally.made == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        generate_file(tiny_model, 5, output, options=OPTIONS, require="valid", on_progress=stop)
    tally = generate_file(tiny_model, 5, output, options=OPTIONS, require="valid", resume=True)
    assert (tally.before, tally.made) == (3, 2)
    if suffix != ".csv":
        made = [record.molecule for record in read_molecules(output)]
        assert indices_of(made) == [1, 2, 4, 5, 7]
    longer = generate_file(tiny_model, 6, output, options=OPTIONS, require="valid", resume=True)
    assert (longer.before, longer.made, longer.rejected) == (5, 1, 0)


def test_a_selection_in_smi_is_resumed_by_its_record(tiny_model, tmp_path, two_of_three):
    output, record = tmp_path / "out.smi", tmp_path / "out.smi.json"
    generate_file(tiny_model, 2, output, options=OPTIONS, require="valid")
    generate_file(tiny_model, 4, output, options=OPTIONS, require="valid", resume=True)
    titles = [line.split("\t")[1] for line in output.read_text().splitlines()]
    assert titles == [f"tiny-0-{k}" for k in (1, 2, 4, 5)]
    killed = {**json.loads(record.read_text()), "written": 0}
    record.write_text(json.dumps(killed))
    with pytest.raises(UserError, match="does not say which molecules were selected"):
        generate_file(tiny_model, 6, output, options=OPTIONS, require="valid", resume=True)


def test_another_requirement_is_not_resumed(tiny_model, tmp_path, two_of_three):
    output = tmp_path / "out.sdf"
    generate_file(tiny_model, 2, output, options=OPTIONS, require="valid")
    with pytest.raises(UserError, match="made with require = valid, now it is None"):
        generate_file(tiny_model, 4, output, options=OPTIONS, resume=True)


def test_what_is_impossible_is_refused(tiny_model, tmp_path):
    with pytest.raises(UserError, match="--require vaild: unknown; did you mean 'valid'"):
        generate_file(tiny_model, 2, tmp_path / "out.sdf", require="vaild")
    with pytest.raises(UserError, match="--require vaild: unknown"):
        generate(tiny_model, 2, require="vaild")
    with pytest.raises(UserError, match="--require valid: goes with one machine only"):
        generate_file(tiny_model, 4, tmp_path / "out.sdf", require="valid", part=Part(0, 2))
    assert not list(tmp_path.iterdir())


def test_two_processes_select_what_one_does(tiny_model, tmp_path, two_of_three, monkeypatch):
    pools, start = [], DevicePool._started

    def started(self):
        pool = start(self)
        assert len(pool._processes) == 2  # all of them while Ctrl-C is ignored
        pools.append(pool)
        return pool

    monkeypatch.setattr(DevicePool, "_started", started)
    for name, devices in (("one.sdf", ("",)), ("two.sdf", ("cpu", "cpu"))):
        generate_file(
            tiny_model, 5, tmp_path / name, options=OPTIONS, require="valid", devices=devices
        )
    one, two = (
        [record.molecule for record in read_molecules(tmp_path / name)]
        for name in ("one.sdf", "two.sdf")
    )
    assert indices_of(one) == indices_of(two) == [1, 2, 4, 5, 7]
    assert len(pools) == 1  # for two rounds
    for first, second in zip(one, two, strict=True):
        np.testing.assert_allclose(first.positions, second.positions, atol=2e-4)


def test_trajectories_follow_what_is_made(tiny_model, tmp_path, two_of_three):
    output = tmp_path / "out.sdf"
    generate_file(tiny_model, 3, output, options=OPTIONS, require="valid", trajectories=2)
    # of the first that are made: number 0 is not in the file, and is written as soon as it failed
    assert read_trajectories(trajectory_path(output)).keys() == {0, 1}
