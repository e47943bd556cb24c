import numpy as np
import pytest

from molbfn.chem.files import read_molecules
from molbfn.chem.molecule import Molecule
from molbfn.chem.records import partial_path
from molbfn.chem.trajectory import (
    Frame,
    read_trajectories,
    trajectory_path,
    write_trajectories,
)
from molbfn.errors import UserError
from molbfn.generation import GenerationOptions
from molbfn.generation.job import Interrupted, generate_file
from molbfn.generation.record import record_path

OPTIONS = GenerationOptions(steps=3, precision="fp32")


def molecules(path):
    return [record.molecule for record in read_molecules(path)]


def frame(index=0, call=1, t=0.25, scale=1.0):
    return Frame(index, call, 2, t, Molecule([6, 8], np.eye(2, 3) * scale))


def test_what_is_written_is_read(tmp_path):
    frames = [frame(4, 2), frame(4, 1, t=0.0), frame(1, 1), frame(1, 2, scale=-2.5)]
    write_trajectories(tmp_path / "a", frames)
    found = read_trajectories(tmp_path / "a")
    assert list(found) == [1, 4]
    assert [(f.call, f.calls, f.t) for f in found[4]] == [(1, 2, 0.0), (2, 2, 0.25)]
    np.testing.assert_array_equal(found[1][1].molecule.positions, np.eye(2, 3) * -2.5)
    assert found[1][1].molecule.atomic_numbers.tolist() == [6, 8]


def test_others_read_it_as_extended_xyz(tmp_path):
    ase_io = pytest.importorskip("ase.io", reason="ASE is not installed")
    write_trajectories(tmp_path / "a.extxyz", [frame(0, 1), frame(0, 2, scale=3.0)])
    first, second = ase_io.read(tmp_path / "a.extxyz", index=":")
    assert first.get_chemical_symbols() == ["C", "O"]
    assert (second.info["call"], second.info["t"]) == (2, 0.25)
    np.testing.assert_allclose(second.positions, np.eye(2, 3) * 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no frames"),
        ("x\n", "line 1"),
        ("2\nindex=0 call=1 calls=1 t=0\nC 0 0 0\n", "cut short"),
        ("1\nindex=0 call=1 calls=1 t=0\nC 0 0 nix\n", "line 1"),
        ("1\nhello\nC 0 0 0\n", "not a frame"),
        ("1\nindex=0 call=1 calls=1\nC 0 0 0\n", "time t"),
        (
            "1\nindex=0 call=1 calls=2 t=0\nC 0 0 0\n"
            "2\nindex=0 call=2 calls=2 t=1\nC 0 0 0\nC 0 0 1\n",
            "differ in their atoms",
        ),
    ],
)
def test_what_is_not_a_trajectory_is_refused(tmp_path, text, message):
    (tmp_path / "a").write_text(text)
    with pytest.raises(UserError, match=message):
        read_trajectories(tmp_path / "a")


@pytest.mark.parametrize("suffix", [".sdf", ".xyz"])
def test_molecules_do_not_depend_on_it(tiny_model, tmp_path, suffix):
    plain, watched = tmp_path / f"plain{suffix}", tmp_path / f"watched{suffix}"
    generate_file(tiny_model, 5, plain, options=OPTIONS)
    generate_file(tiny_model, 5, watched, options=OPTIONS, trajectories=3)
    assert plain.read_bytes() == watched.read_bytes()
    assert not trajectory_path(plain).exists()
    assert trajectory_path(watched).exists()


def test_there_is_a_frame_for_each_call_and_the_last_is_the_molecule(tiny_model, tmp_path):
    output = tmp_path / "out.sdf"
    generate_file(tiny_model, 5, output, options=OPTIONS, trajectories=3)
    found, made = read_trajectories(trajectory_path(output)), molecules(output)
    assert list(found) == [0, 1, 2]
    for index, frames in found.items():
        assert [f.call for f in frames] == [1, 2, 3, 4]
        assert [f.t for f in frames] == sorted(f.t for f in frames)
        assert (frames[0].t, frames[-1].t) == (0.0, 1.0)
        last = frames[-1].molecule
        np.testing.assert_array_equal(last.atomic_numbers, made[index].atomic_numbers)
        np.testing.assert_allclose(last.positions, made[index].positions, atol=1e-4)
        assert np.abs(frames[1].molecule.positions - last.positions).max() > 1e-3


def test_fewer_molecules_than_watched_are_all_followed(tiny_model, tmp_path):
    output = tmp_path / "out.sdf"
    generate_file(tiny_model, 2, output, options=OPTIONS, trajectories=8)
    assert list(read_trajectories(trajectory_path(output))) == [0, 1]


def test_several_processes_bring_the_same_frames(tiny_model, tmp_path, monkeypatch):
    one, two = tmp_path / "one.xyz", tmp_path / "two.xyz"
    generate_file(tiny_model, 3, one, options=OPTIONS, trajectories=2)
    generate_file(tiny_model, 3, two, options=OPTIONS, trajectories=2, devices=("cpu", "cpu"))
    first, second = (read_trajectories(trajectory_path(path)) for path in (one, two))
    assert list(first) == list(second) == [0, 1]
    for index in first:
        for a, b in zip(first[index], second[index], strict=True):
            np.testing.assert_allclose(a.molecule.positions, b.molecule.positions, atol=1e-4)


def test_a_resumed_run_keeps_what_is_there(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("molbfn.generation.sampling._AHEAD", {"cpu": 2})
    output = tmp_path / "out.sdf"

    def stop(tally):
        if tally.made == 4:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        generate_file(tiny_model, 6, output, options=OPTIONS, trajectories=2, on_progress=stop)
    before = trajectory_path(output).read_bytes()
    generate_file(tiny_model, 6, output, options=OPTIONS, trajectories=2, resume=True)
    assert trajectory_path(output).read_bytes() == before
    trajectory_path(output).unlink()
    generate_file(tiny_model, 8, output, options=OPTIONS, trajectories=2, resume=True)
    assert list(read_trajectories(trajectory_path(output))) == [6, 7]


def test_frames_stay_beside_their_own_molecules(tiny_model, tmp_path, monkeypatch):
    """An interrupted run neither replaces those of an older file nor leaves them to a new one."""
    monkeypatch.setattr("molbfn.generation.sampling._AHEAD", {"cpu": 2})
    output = tmp_path / "out.sdf"
    generate_file(tiny_model, 6, output, options=OPTIONS, trajectories=1)
    old = output.read_bytes(), trajectory_path(output).read_bytes()

    def stop(tally):
        if tally.made == 4:
            raise KeyboardInterrupt

    for followed in (2, 0):
        with pytest.raises(Interrupted) as interrupted:
            generate_file(
                tiny_model,
                6,
                output,
                seed=1,
                options=OPTIONS,
                trajectories=followed,
                on_progress=stop,
            )
        assert not interrupted.value.placed
        assert (output.read_bytes(), trajectory_path(output).read_bytes()) == old
        if followed:
            partial_path(output).unlink()
            record_path(output, partial=True).unlink()
    generate_file(tiny_model, 6, output, seed=1, options=OPTIONS, resume=True)
    assert output.read_bytes() != old[0]
    assert not trajectory_path(output).exists()
    generate_file(tiny_model, 6, output, options=OPTIONS, trajectories=1)
    with pytest.raises(Interrupted):
        generate_file(
            tiny_model, 6, output, seed=1, options=OPTIONS, trajectories=2, on_progress=stop
        )
    generate_file(tiny_model, 6, output, seed=1, options=OPTIONS, trajectories=2, resume=True)
    found = read_trajectories(trajectory_path(output))
    assert list(found) == [0, 1]
    for frames, molecule in zip(found.values(), molecules(output), strict=False):
        np.testing.assert_allclose(frames[-1].molecule.positions, molecule.positions, atol=1e-3)
    assert {path.name for path in tmp_path.iterdir()} == {
        "out.sdf", "out.sdf.json", trajectory_path(output).name
    }  # fmt: skip


def test_a_folder_with_a_trajectory_holds_no_more_molecules(tiny_model, tmp_path):
    generate_file(tiny_model, 2, tmp_path / "out.sdf", options=OPTIONS, trajectories=2)
    assert len(molecules(tmp_path)) == 2
