import numpy as np
import pytest

from molbfn.chem.molecule import Molecule
from molbfn.chem.trajectory import Frame, trajectory_path, write_trajectories
from molbfn.report.collect import collect
from molbfn.report.trajectories import pack_trajectories


@pytest.fixture
def made(example, write, tmp_path):
    """A file of two molecules, the first with a trajectory of three frames."""
    molecules = [example(n).with_properties(index=k) for k, n in enumerate(["water", "ammonium"])]
    path = write(tmp_path / "a.sdf", molecules)
    water = molecules[0]
    frames = [
        Frame(0, k + 1, 3, k / 2, Molecule(water.atomic_numbers, water.positions * np.float32(k)))
        for k in (0, 0.5, 1)
    ]
    frames = [Frame(0, n, 3, f.t, f.molecule) for n, f in enumerate(frames, 1)]
    write_trajectories(trajectory_path(path), frames)
    return path


def test_a_trajectory_belongs_to_the_molecule_it_ends_in(made):
    (packed,), notes = pack_trajectories(made, list(collect(made, 10)), 3)
    assert notes == []
    assert (packed["f"], packed["i"], packed["t"], packed["calls"]) == (3, 1, "water", 3)
    assert [frame["n"] for frame in packed["frames"]] == [1, 2, 3]
    assert packed["frames"][0]["x"] == [0] * 9
    assert packed["frames"][2]["x"][2] == 117
    assert packed["frames"][2]["b"] == [0, 1, 1, 0, 2, 1]


def test_a_left_over_trajectory_is_not_shown(made, write, example):
    other = example("water").with_properties(index=0)
    moved = Molecule(
        other.atomic_numbers, other.positions * np.float32(1.1), other.formal_charges, other.bonds,
        "x", {"index": 0},
    )  # fmt: skip
    write(made, [moved])
    packed, (note,) = pack_trajectories(made, list(collect(made, 10)), 0)
    assert packed == []
    assert "other molecules" in note


def test_a_broken_trajectory_is_told_and_the_report_goes_on(made):
    path = trajectory_path(made)
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    packed, (note,) = pack_trajectories(made, list(collect(made, 10)), 0)
    assert packed == []
    assert "cut short" in note


def test_no_trajectory_is_nothing_to_tell(made):
    trajectory_path(made).unlink()
    assert pack_trajectories(made, list(collect(made, 10)), 0) == ([], [])
