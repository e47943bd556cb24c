from __future__ import annotations

import csv
import gzip
import signal
import subprocess
import sys
import time
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from molbfn.chem.files import count_complete, open_writer, read_molecules
from molbfn.chem.molecule import Molecule
from molbfn.chem.writers import WRITABLE
from molbfn.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
READ_BACK = (".sdf", ".sdf.gz", ".xyz", ".npz")
every_kind = pytest.mark.parametrize("suffix", WRITABLE)


def numbered(water: Molecule, count: int, start: int = 0) -> list[Molecule]:
    return [water.with_properties(index=k) for k in range(start, start + count)]


def write(path: Path, molecules: list[Molecule], *, append: bool = False) -> None:
    with open_writer(path, append=append) as writer:
        for molecule in molecules:
            writer.write(molecule)


def records(path: Path) -> int:
    """Complete records, counted in another way than by our scanner."""
    name = path.name.removesuffix(".partial")
    data = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    if name.endswith((".sdf", ".sdf.gz")):
        assert data == b"" or data.endswith(b"\n$$$$\n")
        return data.count(b"\n$$$$\n")
    if name.endswith(".npz"):
        return len(np.load(path)["num_atoms"])
    lines = data.decode().splitlines()
    counts = sum(line.isdigit() for line in lines)
    return {".xyz": counts, ".smi": len(lines), ".csv": len(lines) - 1}[Path(name).suffix]


def fail(path: Path, molecules: list[Molecule], error: type[BaseException]) -> None:
    """Write, then end with an exception inside the block."""
    with open_writer(path) as writer:
        for molecule in molecules:
            writer.write(molecule)
        raise error


@pytest.mark.parametrize("suffix", READ_BACK)
@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_round_trip(tmp_path, any_molecules, same, suffix: str, data) -> None:
    known = suffix != ".xyz"
    given_ = [data.draw(any_molecules(known=known, max_atoms=5)) for _ in range(3)]
    path = tmp_path / f"out{suffix}"
    write(path, given_)
    back = [record.molecule for record in read_molecules(path)]
    for molecule, other in zip(given_, back, strict=True):
        same(molecule, other, decimals=5.1e-5)


@every_kind
def test_nothing_has_the_final_name_before_the_end(tmp_path: Path, water, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    with open_writer(path) as writer:
        writer.write(water)
        writer.flush()
        assert not path.exists()
        assert writer.resumed.records == 0
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert records(path) == 1


@every_kind
@pytest.mark.parametrize("count", [1, 700])  # below and above one block
def test_ctrl_c_keeps_all_so_far(tmp_path: Path, water, suffix: str, count: int) -> None:
    path = tmp_path / f"out{suffix}"
    with pytest.raises(KeyboardInterrupt):
        fail(path, numbered(water, count), KeyboardInterrupt)
    assert records(path) == count
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("count", [1, 700])
@every_kind
def test_ctrl_c_does_not_replace_an_older_file(tmp_path: Path, water, suffix, count) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fail(path, numbered(water, count), KeyboardInterrupt)
    assert path.read_text() == "old"
    assert count_complete(path).records == count
    assert count_complete(path).path != path
    with open_writer(path, append=True) as writer:
        assert writer.resumed.records == count
    assert writer.placed
    assert records(path) == count
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@every_kind
def test_ctrl_c_before_the_first_molecule_replaces_nothing(tmp_path, water, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fail(path, [], KeyboardInterrupt)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@every_kind
def test_an_exception_keeps_the_old_file_and_the_new_part(tmp_path, water, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        fail(path, numbered(water, 300), RuntimeError)
    assert path.read_text() == "old"
    point = count_complete(path)
    assert point.records == 300
    assert point.highest_index == (None if suffix == ".smi" else 299)
    if suffix != ".npz":
        assert records(point.path) == 300
    write(path, numbered(water, 2, 300), append=True)
    assert records(path) == 302
    assert count_complete(path).highest_index == (None if suffix == ".smi" else 301)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@every_kind
def test_append_equals_writing_at_once(tmp_path: Path, water, suffix: str) -> None:
    whole, parts = tmp_path / f"whole{suffix}", tmp_path / f"parts{suffix}"
    write(whole, numbered(water, 7))
    for start, count in ((0, 3), (3, 0), (3, 4)):
        with open_writer(parts, append=True) as writer:
            assert writer.resumed.records == start
            for molecule in numbered(water, count, start):
                writer.write(molecule)
    unpack = gzip.decompress if suffix.endswith(".gz") else bytes
    assert unpack(parts.read_bytes()) == unpack(whole.read_bytes())


@pytest.mark.parametrize("suffix", [".sdf", ".xyz", ".csv", ".sdf.gz", ".smi"])
def test_half_a_record_is_cut_off_wherever_it_was_cut(tmp_path: Path, water, suffix: str) -> None:
    path, partial = tmp_path / f"out{suffix}", tmp_path / f"out{suffix}.partial"
    for k in range(4):  # each is a block of its own, as in a long run
        write(path, numbered(water, 1, k), append=True)
    whole = path.read_bytes()
    path.unlink()
    for cut in range(0, len(whole) + 1, 7):
        partial.write_bytes(whole[:cut])
        before = count_complete(path)
        assert partial.read_bytes() == whole[:cut]  # counting changes nothing
        with open_writer(path, append=True) as writer:
            assert writer.resumed == before
            start = before.records
            for molecule in numbered(water, 4 - start, start):
                writer.write(molecule)
        assert records(path) == 4
        if suffix in READ_BACK:
            found = [r.molecule.properties["index"] for r in read_molecules(path)]
            assert found == [0, 1, 2, 3]
        path.unlink()


@pytest.mark.parametrize("suffix", [".sdf", ".sdf.gz", ".npz", ".csv"])
def test_a_killed_process_can_be_gone_on_from(tmp_path: Path, water, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    script = f"""
import numpy as np, sys, time
from molbfn.chem.files import open_writer
from molbfn.chem.molecule import Molecule
w = open_writer({str(path)!r})
for k in range(100000):
    w.write(Molecule([2], np.zeros((1, 3)), bonds=np.empty((0, 3)), properties={{"index": k}}))
    if k == 2000:
        w.flush()
        print("go", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE)
    process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not path.exists()
    with open_writer(path, append=True) as writer:
        records_before = writer.resumed.records
        assert records_before >= 2001
        assert writer.resumed.highest_index == records_before - 1
        writer.write(water.with_properties(index=records_before))
    assert records(path) == records_before + 1


@pytest.mark.skipif(sys.platform == "win32", reason="file-size limits are of POSIX systems")
@every_kind
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, suffix: str) -> None:
    """A limit on file size stands for the full disk: the write fails in the middle of a block."""
    path = tmp_path / f"out{suffix}"
    path.write_text("old")
    script = f"""
import numpy as np, resource
from molbfn.chem.files import open_writer
from molbfn.chem.molecule import Molecule
from molbfn.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
rng = np.random.default_rng(0)
try:
    with open_writer({str(path)!r}) as writer:
        for k in range(20000):
            x = rng.normal(size=(1, 3))
            writer.write(Molecule([2], x, bonds=np.empty((0, 3)), title=rng.bytes(40).hex()))
except UserError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "File too large; free some space" in done.stdout
    assert str(path) in done.stdout
    assert done.stdout.count("\n") == 1
    assert path.read_text() == "old"
    point = count_complete(path)
    with open_writer(path, append=True) as writer:
        assert writer.resumed.records == point.records > 0
        writer.write(Molecule(np.array([2]), np.zeros((1, 3)), bonds=np.empty((0, 3))))
    assert records(path) == point.records + 1


def test_wrong_targets(tmp_path: Path, water: Molecule) -> None:
    with pytest.raises(UserError, match=r"did you mean '\.sdf'\?"):
        open_writer(tmp_path / "a.sdff")
    with pytest.raises(UserError, match="use one of"):
        open_writer(tmp_path / "noext")
    with pytest.raises(UserError, match="does not exist"):
        open_writer(tmp_path / "nowhere" / "a.sdf")
    (tmp_path / "folder.sdf").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        open_writer(tmp_path / "folder.sdf")
    assert count_complete(tmp_path / "new.sdf").path is None


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.sdf", "hello\n"), ("a.xyz", "hello\n"), ("a.csv", "a,b\n1,2\n"), ("a.sdf.gz", "plain")],
)
def test_files_of_others_are_not_cut_to_go_on(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=name):
        open_writer(tmp_path / name, append=True)
    assert (tmp_path / name).read_text() == content


def test_molecules_without_valid_smiles_are_still_written(tmp_path: Path, water: Molecule) -> None:
    points = np.random.default_rng(0).normal(size=(6, 3))
    bonds = np.array([(0, k, 1) for k in range(1, 6)])
    wrong = Molecule(np.array([6, 1, 1, 1, 1, 1]), points, bonds=bonds, title="wrong")
    for suffix in WRITABLE:
        write(tmp_path / f"a{suffix}", [wrong, water])
        assert count_complete(tmp_path / f"a{suffix}").records == 2
    first, second = (tmp_path / "a.smi").read_text().splitlines()
    assert first.endswith("\twrong")
    assert first.count("[H]") == 5
    assert second == "O\twater"


def test_csv_columns(tmp_path: Path, water: Molecule) -> None:
    later = water.with_properties(index=4, odd="x, y")
    write(tmp_path / "a.csv", [water, later])
    write(tmp_path / "a.csv", [later], append=True)
    with (tmp_path / "a.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [r["index"] for r in rows] == ["3", "4", "4"]
    assert rows[0] == {
        "smiles": "O", "title": "water", "formula": "H2O", "num_atoms": "3", "charge": "0",
        "model": "test", "seed": "0", "index": "3", "score": "0.5", "other_properties": "",
    }  # fmt: skip
    assert rows[1]["other_properties"] == rows[2]["other_properties"] == '{"odd": "x, y"}'


def test_interrupted_write_is_finished_not_repeated(tmp_path, water, monkeypatch) -> None:
    """Ctrl-C in the middle of a block: closing writes the block again over its own beginning."""
    path = tmp_path / "out.sdf"
    writer = open_writer(path)
    writer.write(water.with_properties(index=0))
    real = writer._file

    class Interrupting:
        def __getattr__(self, name: str):
            return getattr(real, name)

        def write(self, data) -> int:
            real.write(data[:10])
            writer._file = real
            raise KeyboardInterrupt

    writer._file = Interrupting()
    with pytest.raises(KeyboardInterrupt), writer:
        writer.flush()
    assert [r.molecule.properties["index"] for r in read_molecules(path)] == [0]
