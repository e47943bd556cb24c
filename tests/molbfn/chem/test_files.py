from __future__ import annotations

import dataclasses
import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from molbfn.chem import sdf, xyz
from molbfn.chem.files import count_complete, once, open_writer, read_molecules
from molbfn.chem.molecule import Molecule
from molbfn.errors import UserError


def titles(path: Path) -> list[str]:
    """The titles of good records, and 'BAD' in the place of the others."""
    records = list(read_molecules(path))
    assert [r.index for r in records] == list(range(len(records)))
    assert all((r.molecule is None) == (r.reason is not None) for r in records)
    return [r.molecule.title if r.molecule else "BAD" for r in records]


@pytest.fixture
def text(water: Molecule) -> str:
    return sdf.format_record(water)


def test_bad_records_are_reported_in_place(tmp_path: Path, text: str) -> None:
    broken = text.replace(" O  ", " Xx ")
    cut = "\n".join(text.splitlines()[:7])
    file = tmp_path / "a.sdf"
    file.write_text(text + broken + text + cut)
    assert titles(file) == ["water", "BAD", "water", "BAD"]
    reasons = [r.reason for r in read_molecules(file) if r.reason]
    lines = len(text.splitlines())
    where = f"{file}: record 2 (line {lines + 5})"
    assert reasons[0] == f"{where}: unknown element 'Xx'; did you mean 'Xe'?"
    assert reasons[1].startswith(f"{file}: record 4 (line {3 * lines + 7}): truncated")


@pytest.mark.parametrize("junk", [b"hello\n", b"\x00\xff\xfe" * 50, b"$$$$\n", b"\n\n\n\n\n$$$$\n"])
def test_junk_is_a_bad_record_not_a_crash(tmp_path: Path, junk: bytes) -> None:
    for name in ("a.sdf", "a.xyz"):
        (tmp_path / name).write_bytes(junk)
        assert set(titles(tmp_path / name)) == {"BAD"}


def test_windows_line_ends_and_other_encodings(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.SDF"
    file.write_bytes(text.replace("\n", "\r\n").replace("water", "e\xe9").encode("latin-1"))
    assert titles(file) == ["e\xe9"]  # Windows-1252, which Latin-1 is a part of


def test_compressed_files(tmp_path: Path, text: str, water: Molecule) -> None:
    (tmp_path / "a.sdf.gz").write_bytes(gzip.compress((text * 3).encode()))
    assert titles(tmp_path / "a.sdf.gz") == ["water"] * 3
    (tmp_path / "a.xyz.gz").write_bytes(gzip.compress(xyz.format_record(water).encode()))
    assert titles(tmp_path / "a.xyz.gz") == ["water"]


def test_cut_compressed_file(tmp_path: Path, text: str) -> None:
    packed = gzip.compress(text.encode()) + gzip.compress(text.encode())[:-20]
    file = tmp_path / "a.sdf.gz"
    file.write_bytes(packed)
    *good, last = read_molecules(file)
    assert [r.molecule.title for r in good] == ["water"]
    assert "cannot be read after record 1" in last.reason


def test_single_mol_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.mol").write_text(text[: text.index("M  END")] + "M  END\n")
    assert titles(tmp_path / "a.mol") == ["water"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.sdf", b"", "empty"),
        ("a.xyz", b"\n \n", "no molecules"),
        ("a.sdf", b"\n\n", "no molecules"),
        ("a.pdb", b"x", "cannot read this kind of file"),
        ("a.sdf.gz", b"\x1f\x8bnot gzip", "cannot be read"),
        ("a.npz", b"not zip", "npz"),
        ("missing.sdf", None, "no such file"),
    ],
)
def test_a_file_of_no_use_is_one_line(tmp_path: Path, name, content, message) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        list(read_molecules(file))
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_errors_that_can_be_seen_at_once_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        read_molecules(tmp_path / "missing.sdf")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.sdf"
    file.write_text(text)
    file.chmod(0)
    with pytest.raises(UserError, match="Permission denied"):
        read_molecules(file)


def test_folder_in_name_order_with_its_bad_files(tmp_path: Path, text: str, water) -> None:
    (tmp_path / "2.sdf").write_text(text * 2)
    (tmp_path / "1.xyz").write_text(xyz.format_record(water))
    (tmp_path / "3.sdf").write_text("")
    (tmp_path / "readme.txt").write_text("no molecules here")
    assert titles(tmp_path) == ["water"] * 3 + ["BAD"]
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="in this folder"):
        read_molecules(tmp_path / "none")


def test_a_file_that_a_folder_links_to_is_read_once(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "run.sdf").write_text(text * 2)
    (folder / "a_link.sdf").symlink_to("run.sdf")
    os.link(folder / "run.sdf", folder / "z_hard.sdf")
    assert titles(folder) == ["water"] * 2
    (folder / "copy.sdf").write_text(text)  # equal molecules in another file are others
    assert titles(folder) == ["water"] * 3


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Folders one (a, b, and a link to a) and two (c, and a link to b of one), and a file alone."""
    for name in ("one/a.sdf", "one/b.sdf", "two/c.sdf", "alone.sdf", "two/note.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "one" / "la.sdf").symlink_to("a.sdf")
    (tmp_path / "two" / "lb.sdf").symlink_to("../one/b.sdf")
    (tmp_path / "three").symlink_to("one")
    (tmp_path / "none").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("named", "kept", "repeated"),
    [
        ("one", "one", "one/la.sdf"),
        ("one one/a.sdf alone.sdf", "one alone.sdf", "one/la.sdf one/a.sdf"),
        ("one/a.sdf alone.sdf one", "alone.sdf one", "one/la.sdf one/a.sdf"),
        ("one/la.sdf one/a.sdf", "one/la.sdf", "one/a.sdf"),
        ("one two", "one two/c.sdf", "one/la.sdf two/lb.sdf"),
        ("two one", "two one/a.sdf", "one/b.sdf one/la.sdf"),
        ("two two/lb.sdf one/b.sdf", "two", "two/lb.sdf one/b.sdf"),
        ("one three", "one", "one/la.sdf three"),
        ("none gone.sdf none/gone.sdf gone.sdf", "none gone.sdf none/gone.sdf gone.sdf", ""),
    ],
)
def test_what_would_be_read_again(
    tree: Path, monkeypatch, named: str, kept: str, repeated: str
) -> None:
    monkeypatch.chdir(tree)
    found = once(Path(name) for name in named.split())
    assert [str(path) for path in found[0]] == kept.split()
    assert [str(path) for path in found[1]] == repeated.split()


def test_npz_of_the_data_layout(tmp_path: Path) -> None:
    """Plain arrays, aromatic bonds, and records that cannot be."""
    np.savez(
        tmp_path / "a.npz",
        num_atoms=np.array([6, 1, 1, 0], dtype=np.int8),
        atomic_numbers=np.array([6] * 6 + [2, 0], dtype=np.int8),
        positions=np.concatenate([np.random.randn(7, 3), [[0, 0, 0]]]).astype(np.float32),
        num_bonds=np.array([6, 0, 0, 0], dtype=np.int16),
        bonds=np.array([(k, (k + 1) % 6, 4) for k in range(6)], dtype=np.int16),
        formal_charges=np.zeros(8, dtype=np.int8),
    )
    ring, helium, dummy, nothing = read_molecules(tmp_path / "a.npz")
    assert sorted(ring.molecule.bonds[:, 2].tolist()) == [1, 1, 1, 2, 2, 2]
    assert helium.molecule.atomic_numbers.tolist() == [2]
    assert "record 3" in dummy.reason
    assert "record 4" in nothing.reason


@pytest.mark.parametrize("left_out", ["num_atoms", "atomic_numbers", "positions"])
def test_npz_without_an_array(tmp_path: Path, left_out: str) -> None:
    arrays = {"num_atoms": np.array([1]), "atomic_numbers": np.array([2]),
              "positions": np.zeros((1, 3))}  # fmt: skip
    del arrays[left_out]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=left_out):
        list(read_molecules(tmp_path / "a.npz"))


def test_reading_is_streaming(tmp_path: Path, water: Molecule) -> None:
    """The first record of a pipe comes before its end is written."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    with open_writer(tmp_path / "b.sdf") as writer:
        for _ in range(2000):
            writer.write(water)
    stream = read_molecules(tmp_path / "b.sdf")
    assert next(stream).molecule.title == "water"
    (tmp_path / "b.sdf").write_text("")  # what has not been read yet is gone
    assert len(list(stream)) < 1000


def test_the_content_says_whether_a_file_is_packed(tmp_path: Path, water: Molecule) -> None:
    with open_writer(tmp_path / "a.sdf") as stream:
        stream.write(water)
    (tmp_path / "0a1b").write_bytes(gzip.compress((tmp_path / "a.sdf").read_bytes()))
    (tmp_path / "link.sdf.gz").symlink_to(tmp_path / "0a1b")
    (tmp_path / "misnamed.sdf").write_bytes((tmp_path / "0a1b").read_bytes())
    (tmp_path / "plain.sdf.gz").write_bytes((tmp_path / "a.sdf").read_bytes())
    for name in ("link.sdf.gz", "misnamed.sdf", "plain.sdf.gz"):
        (record,) = read_molecules(tmp_path / name)
        assert record.molecule is not None
        assert record.molecule.atomic_numbers.tolist() == water.atomic_numbers.tolist()


@pytest.mark.parametrize("suffix", [".sdf", ".xyz", ".npz"])
def test_all_atoms_on_one_point_are_no_molecule(tmp_path: Path, water, suffix: str) -> None:
    """As molbfn writes molecules whose coordinates were not finite; an atom alone is one."""
    path = tmp_path / f"a{suffix}"
    zero = dataclasses.replace(water, positions=np.zeros((3, 3)))
    helium = Molecule(np.array([2]), np.zeros((1, 3)))
    with open_writer(path) as writer:
        for molecule in (
            helium,
            zero.with_properties(problem="coordinates not finite", index=7),
            water,
        ):
            writer.write(molecule)
    first, broken, last = read_molecules(path)
    assert first.molecule is not None
    assert len(last.molecule) == 3
    reason = "all 3 atoms are at one point (coordinates not finite)"
    assert (broken.molecule, broken.problem.reason) == (None, reason)
    # going on after such a record keeps it, and its number
    found = count_complete(path)
    assert (found.records, found.highest_index) == (3, 7)
    with open_writer(path, append=True) as writer:
        assert writer.resumed.records == 3
        writer.write(water)
    assert [r.molecule is None for r in read_molecules(path)] == [False, True, False, False]


def test_extended_xyz_by_its_suffix_but_no_trajectory_of_molbfn(tmp_path: Path, water) -> None:
    text = xyz.format_record(water)
    (tmp_path / "a.extxyz").write_text(text)
    (tmp_path / "b.EXTXYZ.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "a.sdf.traj.extxyz").write_text(text)
    assert titles(tmp_path) == ["water"] * 2
    with pytest.raises(UserError, match=r"a\.sdf\.traj\.extxyz: .* frame by frame"):
        read_molecules(tmp_path / "a.sdf.traj.extxyz")
