import csv
import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
from rdkit import Chem

from molbfn.chem import writers
from molbfn.chem.files import count_complete, read_molecules
from molbfn.errors import UserError
from molbfn.evaluation.edm import judge
from molbfn.generation import GenerationOptions, job, processes
from molbfn.generation import sampling as sampling_module
from molbfn.generation.job import Interrupted, Part, generate_file
from molbfn.generation.tally import Judged

OPTIONS = GenerationOptions(steps=3, precision="fp32")
READABLE = (".sdf", ".sdf.gz", ".xyz", ".npz")


def run(model, n, output, *, resume=False, stop_after=None, options=OPTIONS, seed=0):
    """Generate; with ``stop_after``, Ctrl-C comes after that many molecules."""

    def stop(tally):
        if tally.made == stop_after:
            raise KeyboardInterrupt

    return generate_file(
        model, n, output, seed=seed, options=options, resume=resume, on_progress=stop
    )


def records(path):
    molecules = [record.molecule for record in read_molecules(path)]
    assert all(molecule is not None for molecule in molecules)
    return molecules


def assert_same_records(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.atomic_numbers, b.atomic_numbers)
        np.testing.assert_allclose(a.positions, b.positions, atol=2e-4)  # 4 decimals in a file
        assert a.title == b.title
        assert a.properties == b.properties
        assert (a.bonds is None) == (b.bonds is None)
        if a.bonds is not None:
            np.testing.assert_array_equal(a.bonds, b.bonds)
            np.testing.assert_array_equal(a.formal_charges, b.formal_charges)


@pytest.fixture
def small_groups(monkeypatch):
    """Molecules come four at a time, so that a run can be stopped between them."""
    monkeypatch.setitem(sampling_module._AHEAD, "cpu", 4)


@pytest.mark.parametrize("suffix", READABLE)
def test_files_that_can_be_read_hold_the_molecules_of_python(tiny_model, tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    tally = run(tiny_model, 5, output)
    bonds = suffix.startswith(".sdf")
    assert_same_records(
        records(output), tiny_model.generate(5, seed=0, bonds=bonds, options=OPTIONS)
    )
    assert (tally.written, tally.made, tally.called) == (5, 5, 5 * 4)
    assert sum(tally.routes.values()) == (5 if bonds else 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == [output.name, f"{output.name}.json"]


def test_numbers_of_numpy_are_numbers(tiny_model, tmp_path):
    one, two = tmp_path / "one.sdf", tmp_path / "two.sdf"
    options = dataclasses.replace(OPTIONS, batch_size=2, temperature=0.5)
    of_numpy = dataclasses.replace(
        OPTIONS, steps=np.int32(3), batch_size=np.int64(2), temperature=np.float32(0.5)
    )
    run(tiny_model, 3, one, seed=7, options=options)
    run(tiny_model, np.int64(3), two, seed=np.int64(7), options=of_numpy)
    assert one.read_bytes() == two.read_bytes()
    first, second = (json.loads(Path(f"{path}.json").read_text()) for path in (one, two))
    assert first["settings"] == second["settings"]
    made = tiny_model.generate(
        np.int64(3), seed=np.int64(7), steps=np.int64(3), num_atoms=np.int8(6)
    )
    assert len(made) == 3


def test_sdf_is_what_rdkit_reads(tiny_model, tmp_path):
    run(tiny_model, 4, tmp_path / "out.sdf", seed=2)
    supplier = Chem.SDMolSupplier(str(tmp_path / "out.sdf"), removeHs=False, sanitize=False)
    for index, mol in enumerate(supplier):
        assert mol.GetProp("_Name") == f"tiny-2-{index}"
        assert mol.GetConformer().Is3D()
        assert mol.GetIntProp("index") == index
        assert mol.GetIntProp("seed") == 2
        assert mol.GetIntProp("steps") == 3
        assert mol.GetProp("model") == "tiny"
        assert mol.GetProp("bond_route") in {"rdkit", "table", "single"}


def test_smiles_and_csv_have_one_row_a_molecule(tiny_model, tmp_path):
    run(tiny_model, 5, tmp_path / "out.smi")
    rows = [line.split("\t") for line in (tmp_path / "out.smi").read_text().splitlines()]
    assert [title for _, title in rows] == [f"tiny-0-{k}" for k in range(5)]
    run(tiny_model, 5, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [row["title"] for row in table] == [f"tiny-0-{k}" for k in range(5)]
    assert {row["bond_route"] for row in table} <= {"rdkit", "table", "single"}


def test_counts_are_those_of_the_evaluation(tiny_model, tmp_path):
    tally = run(tiny_model, 20, tmp_path / "out.xyz")
    verdicts = judge(records(tmp_path / "out.xyz"))
    assert tally.stable == sum(v.stable for v in verdicts)
    assert tally.valid == sum(v.connected for v in verdicts)


def test_the_record_says_what_was_asked_and_what_came(tiny_model, tmp_path):
    options = GenerationOptions(steps=3, num_atoms="6-9", sampler="bayesian", precision="fp32")
    run(tiny_model, 4, tmp_path / "out.sdf", options=options, seed=9)
    record = json.loads((tmp_path / "out.sdf.json").read_text())
    assert (record["complete"], record["wanted"], record["written"]) == (True, 4, 4)
    settings = record["settings"]
    assert settings["num_atoms"] == "6-9"
    assert (settings["seed"], settings["steps"], settings["sampler"]) == (9, 3, "bayesian")
    assert settings["weights"] == tiny_model.fingerprint()
    (made,) = record["runs"]
    assert (made["made"], made["device"]) == (4, "cpu")
    run(tiny_model, 2, tmp_path / "all.xyz")
    assert json.loads((tmp_path / "all.xyz.json").read_text())["settings"]["num_atoms"] == (
        "as trained"
    )


def test_progress_moves_before_the_first_molecule_and_ends_at_one(tiny_model, tmp_path):
    seen = []
    generate_file(
        tiny_model,
        6,
        tmp_path / "out.xyz",
        options=OPTIONS,
        on_progress=lambda tally: seen.append((tally.work, tally.written)),
    )
    shares = [work for work, _ in seen]
    assert shares == sorted(shares)
    assert any(0 < work < 1 and written == 0 for work, written in seen)
    assert seen[-1] == (1.0, 6)


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("suffix", [*READABLE, ".smi", ".csv"])
def test_ctrl_c_leaves_a_valid_file_that_resume_completes(tiny_model, tmp_path, suffix):
    whole, output = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    run(tiny_model, 9, whole)
    with pytest.raises(Interrupted) as caught:
        run(tiny_model, 9, output, stop_after=5)
    assert caught.value.tally.written == 5
    record = json.loads((tmp_path / f"{output.name}.json").read_text())
    assert (record["complete"], record["written"], record["wanted"]) == (False, 5, 9)
    if suffix in READABLE:
        assert len(records(output)) == 5
    tally = run(tiny_model, 9, output, resume=True)
    assert (tally.before, tally.made, tally.written) == (5, 4, 9)
    if suffix in READABLE:
        assert_same_records(records(output), records(whole))
    else:
        assert output.read_text() == whole.read_text()
    record = json.loads((tmp_path / f"{output.name}.json").read_text())
    assert record["complete"]
    assert [made["made"] for made in record["runs"]] == [5, 4]
    assert not list(tmp_path.glob("*.partial*"))


def test_ctrl_c_loses_no_finished_molecule_of_single_ones(tiny_model, tmp_path):
    """Nine tenths of the calls are done: eight molecules are finished, the ninth nearly."""
    options = GenerationOptions(steps=3, precision="fp32", batch_size=1)

    def stop(tally):
        if tally.called == 9 * tally.calls - 1:
            raise KeyboardInterrupt

    output = tmp_path / "out.npz"
    with pytest.raises(Interrupted) as caught:
        generate_file(tiny_model, 10, output, options=options, on_progress=stop)
    assert caught.value.tally.written == len(records(output)) == 8
    run(tiny_model, 10, output, resume=True, options=options)
    run(tiny_model, 10, tmp_path / "whole.npz", options=options)
    assert_same_records(records(output), records(tmp_path / "whole.npz"))


def test_ctrl_c_while_a_molecule_is_judged_leaves_file_and_record_alike(
    tiny_model, tmp_path, monkeypatch
):
    output, judged = tmp_path / "out.smi", []

    def judge(molecule):
        judged.append(molecule)
        if len(judged) == 4:
            raise KeyboardInterrupt
        return Judged.of(molecule)

    with monkeypatch.context() as patch:
        patch.setattr("molbfn.generation.job.Judged", SimpleNamespace(of=judge))
        with pytest.raises(Interrupted) as caught:
            run(tiny_model, 6, output)
    assert caught.value.tally.written == len(output.read_text().splitlines()) == 3
    assert run(tiny_model, 6, output, resume=True).before == 3


def test_two_processes_share_the_work_and_write_what_one_does(tiny_model, tmp_path):
    options = GenerationOptions(steps=3, precision="fp32")
    tallies, called = [], set()
    for name, devices in (("one.sdf", ["cpu"]), ("two.sdf", ["cpu", "cpu"])):
        called.clear()
        tallies.append(
            generate_file(
                tiny_model,
                101,
                tmp_path / name,
                options=options,
                devices=devices,
                on_progress=lambda tally: called.add(tally.called),
            )
        )
    one, two = (records(tmp_path / name) for name in ("one.sdf", "two.sdf"))
    assert_same_records(one, two)
    assert [m.properties["index"] for m in two] == list(range(101))
    counts = [(tally.written, tally.called, tally.stable) for tally in tallies]
    assert counts[0] == counts[1]
    assert counts[0][0] == 101
    assert called - {0} == {
        51 * 4,
        101 * 4,
    }  # a process tells of its calls when all its share is made


def test_parts_together_are_the_whole(tiny_model, tmp_path):
    run(tiny_model, 10, tmp_path / "whole.xyz")
    found = []
    for rank in range(3):
        part = Part(rank, 3)
        output = part.name(tmp_path / "out.xyz")
        assert output.name == f"out.{rank + 1}-of-3.xyz"
        tally = generate_file(tiny_model, 10, output, options=OPTIONS, part=part)
        assert tally.written == tally.wanted == len(part.of(10))
        record = json.loads((tmp_path / f"{output.name}.json").read_text())
        assert record["settings"]["first_index"] == part.of(10).start
        found += records(output)
    assert_same_records(found, records(tmp_path / "whole.xyz"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.sdf", "a.2-of-3.sdf"),
        ("a.sdf.gz", "a.2-of-3.sdf.gz"),
        ("run.v2.npz", "run.v2.2-of-3.npz"),
    ],
)
def test_a_part_has_a_file_of_its_own(name, expected):
    assert Part(1, 3).name(Path("x") / name) == Path("x") / expected


@pytest.mark.usefixtures("small_groups")
def test_a_part_can_be_resumed(tiny_model, tmp_path):
    part, output = Part(1, 2), tmp_path / "out.xyz"

    def stop(tally):
        if tally.made == 5:
            raise KeyboardInterrupt

    options = {"options": OPTIONS, "part": part}
    with pytest.raises(Interrupted):
        generate_file(tiny_model, 20, output, on_progress=stop, **options)
    tally = generate_file(tiny_model, 20, output, resume=True, **options)
    assert (tally.before, tally.made) == (5, 5)
    assert [m.properties["index"] for m in records(output)] == list(range(10, 20))
    with pytest.raises(UserError, match="first_index = 10, now it is 0"):
        generate_file(tiny_model, 20, output, resume=True, options=OPTIONS, part=Part(0, 2))


@pytest.mark.parametrize(
    ("rank", "count", "message"),
    [(0, 0, "--num-nodes 0"), (2, 2, "--node-rank 2: .* 0 and 1"), (-1, 2, "--node-rank -1")],
)
def test_impossible_parts(rank, count, message):
    with pytest.raises(UserError, match=message):
        Part(rank, count)
    with pytest.raises(UserError, match="-n 3: fewer molecules than --num-nodes 4"):
        Part(0, 4).of(3)


def test_parts_keep_double_suffixes():
    assert Part(1, 4).name(Path("a/out.sdf.gz")) == Path("a/out.2-of-4.sdf.gz")
    assert Part().name(Path("a/out.sdf.gz")) == Path("a/out.sdf.gz")


def test_ctrl_c_before_the_first_molecule_leaves_nothing(tiny_model, tmp_path):
    def stop(_):
        raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        generate_file(tiny_model, 3, tmp_path / "out.sdf", options=OPTIONS, on_progress=stop)
    assert caught.value.tally.written == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_polite_kill_leaves_what_ctrl_c_leaves(tiny_model, tmp_path, monkeypatch, name):
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip("no such signal here")
    before = signal.signal(number, signal.SIG_DFL)

    def stop(tally):
        if tally.made == 2:
            os.kill(os.getpid(), number)

    try:
        with pytest.raises(Interrupted) as caught:
            generate_file(tiny_model, 5, tmp_path / "a.sdf", options=OPTIONS, on_progress=stop)
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert (caught.value.tally.written, caught.value.placed) == (2, True)
    assert len(records(tmp_path / "a.sdf")) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.sdf", "a.sdf.json"]


@pytest.mark.parametrize("suffix", READABLE)
def test_a_kill_finds_nearly_all_on_the_disk(tiny_model, tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(job, "_FLUSH_SECONDS", 0)
    output, found = tmp_path / f"out{suffix}", []

    def look(tally):
        if tally.made:
            found.append((count_complete(output).records, tally.made))

    generate_file(tiny_model, 3, output, options=OPTIONS, on_progress=look)
    assert found[-1] == (3, 3)
    assert all(there == made for there, made in found)


@pytest.mark.usefixtures("small_groups")
def test_the_molecules_of_a_batch_do_not_wait_for_the_next(tiny_model, tmp_path, monkeypatch):
    clock, found, output = SimpleNamespace(now=0.0), [], tmp_path / "out.sdf"
    monkeypatch.setattr(job.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(job, "with_bonds", lambda molecules: molecules)

    def look(tally):
        if tally.made == 4:
            clock.now += 10.0
            found.append((tally.called, count_complete(output).records))

    generate_file(tiny_model, 8, output, options=OPTIONS, on_progress=look)
    assert [there for _, there in found] == [0, *[4] * (len(found) - 1)]
    assert len(found) > 1


@pytest.mark.usefixtures("small_groups")
def test_what_a_killed_process_left_is_completed(tiny_model, tmp_path):
    run(tiny_model, 6, tmp_path / "whole.sdf")
    with pytest.raises(Interrupted):
        run(tiny_model, 6, tmp_path / "out.sdf", stop_after=4)
    (tmp_path / "out.sdf.json").rename(tmp_path / "out.sdf.partial.json")
    text = (tmp_path / "out.sdf").read_bytes()
    (tmp_path / "out.sdf").unlink()
    (tmp_path / "out.sdf.partial").write_bytes(text[:-100])  # half a record
    tally = run(tiny_model, 6, tmp_path / "out.sdf", resume=True)
    assert tally.before == 3
    assert_same_records(records(tmp_path / "out.sdf"), records(tmp_path / "whole.sdf"))
    assert not list(tmp_path.glob("*.partial*"))


def test_resuming_a_finished_file_adds_nothing_or_more(tiny_model, tmp_path):
    output = tmp_path / "out.sdf"
    run(tiny_model, 4, output)
    before = output.read_bytes()
    assert run(tiny_model, 4, output, resume=True).made == 0
    assert output.read_bytes() == before
    tally = run(tiny_model, 6, output, resume=True)
    assert (tally.before, tally.made) == (4, 2)
    assert output.read_bytes().startswith(before)
    assert json.loads((tmp_path / "out.sdf.json").read_text())["wanted"] == 6


def test_resuming_where_there_is_nothing_starts(tiny_model, tmp_path):
    assert run(tiny_model, 2, tmp_path / "out.sdf", resume=True).made == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed = 0, now it is 1"),
        ({"options": GenerationOptions(steps=4, precision="fp32")}, "steps = 3, now it is 4"),
        ({"n": 2}, "more than -n 2"),
    ],
)
def test_resuming_otherwise_is_refused_and_changes_nothing(tiny_model, tmp_path, change, message):
    output = tmp_path / "out.sdf"
    run(tiny_model, 3, output)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=message):
        run(tiny_model, **{"n": 5, "output": output, "resume": True, **change})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_is_not_made_in_part_by_a_compiled_network(tiny_model, tmp_path, monkeypatch):
    output = tmp_path / "out.sdf"
    run(tiny_model, 3, output)
    monkeypatch.setattr("molbfn.generation.plan.compile_problem", lambda device: None)
    options = GenerationOptions(steps=3, precision="fp32", compile=True)
    with pytest.raises(UserError, match="compile = False, now it is True"):
        run(tiny_model, 5, output, resume=True, options=options)


def test_records_from_before_compile_was_a_setting_are_resumed(tiny_model, tmp_path):
    output, record = tmp_path / "out.sdf", tmp_path / "out.sdf.json"
    run(tiny_model, 3, output)
    content = json.loads(record.read_text())
    del content["settings"]["compile"]
    record.write_text(json.dumps(content))
    assert run(tiny_model, 5, output, resume=True).made == 2


def test_resuming_on_someone_elses_file_is_refused(tiny_model, tmp_path):
    (tmp_path / "out.sdf").write_text("shopping list")
    with pytest.raises(UserError, match="no complete record"):
        run(tiny_model, 3, tmp_path / "out.sdf", resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.sdf"]
    assert (tmp_path / "out.sdf").read_text() == "shopping list"


def fill_disk_after(monkeypatch, count):
    """Let the n-th and later writes of molecules fail as on a full disk."""
    monkeypatch.setattr(writers, "_BUFFER", 1)
    flush, calls = writers._TextWriter.flush, []

    class Full:
        def __init__(self, file):
            self._file = file

        def __getattr__(self, name):
            return getattr(self._file, name)

        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    def flush_until_full(writer):
        calls.append(1)
        if len(calls) == count + 1:
            writer._file = Full(writer._file)
        flush(writer)

    monkeypatch.setattr(writers._TextWriter, "flush", flush_until_full)


def test_a_full_disk_keeps_what_is_written_and_the_old_file(tiny_model, tmp_path, monkeypatch):
    output = tmp_path / "out.sdf"
    run(tiny_model, 2, output, seed=5)
    old = {path: path.read_bytes() for path in tmp_path.iterdir()}
    run(tiny_model, 6, tmp_path / "whole.sdf")
    with monkeypatch.context() as patch:
        fill_disk_after(patch, 4)
        with pytest.raises(UserError, match=r"No space left .* \(4 molecules are kept: --resume\)"):
            run(tiny_model, 6, output)
    assert {path: path.read_bytes() for path in old} == old
    assert json.loads((tmp_path / "out.sdf.partial.json").read_text())["written"] == 4
    assert run(tiny_model, 6, output, resume=True).before == 4
    assert_same_records(records(output), records(tmp_path / "whole.sdf"))


def test_a_disk_full_from_the_start_leaves_nothing_new(tiny_model, tmp_path, monkeypatch):
    fill_disk_after(monkeypatch, 0)
    with pytest.raises(UserError, match="No space left") as caught:
        run(tiny_model, 6, tmp_path / "out.sdf")
    assert "kept" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_molecules_are_made_as_they_are_written(tiny_model, tmp_path, small_groups):
    """Memory does not grow: no more than one group is ahead of the file."""
    ahead = []
    generate_file(
        tiny_model,
        40,
        tmp_path / "out.xyz",
        options=OPTIONS,
        on_progress=lambda tally: ahead.append(tally.called / tally.calls - tally.written),
    )
    assert max(ahead) <= 4


def test_impossible_requests_leave_nothing(tiny_model, tmp_path):
    for n, name, message in (
        (0, "out.sdf", "-n 0"),
        (3, "out.pdb", "cannot write this kind of file"),
        (3, "missing/out.sdf", "does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            run(tiny_model, n, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_while_processes_work_the_time_is_told(monkeypatch):
    monkeypatch.setattr(processes, "_PATIENCE", 0.001)
    future, calls = Future(), []

    def on_call(count):
        calls.append(count)
        if len(calls) == 3:
            future.set_result(processes._Made([object()] * 5, []))

    made = processes._finished(future, SimpleNamespace(calls=4), on_call, None)
    assert len(made) == 5
    assert calls == [0, 0, 0, 20]


# Without the guard, each process that is started begins the same again.
SCRIPT = """
from molbfn import generate_file, load_model
from molbfn.generation import GenerationOptions
{guard}generate_file(load_model({model!r}), 4, "a.xyz", devices=("cpu", "cpu"),
    options=GenerationOptions(steps=2))
"""


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_of_it(tiny_model_folder, tmp_path):
    def script(guard):
        (tmp_path / "a.py").write_text(SCRIPT.format(guard=guard, model=str(tiny_model_folder)))
        return subprocess.run(
            [sys.executable, "a.py"], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )  # fmt: skip

    done = script("")
    assert done.returncode != 0
    assert done.stderr.rstrip().endswith(
        "a script of your own that gives generate_file several devices must do so below "
        '`if __name__ == "__main__":`, for each process imports it'
    )
    done = script('if __name__ == "__main__": ')
    assert (done.returncode, done.stderr) == (0, "")
    assert len(records(tmp_path / "a.xyz")) == 4


def test_a_process_that_died_at_work_lacked_memory(tiny_model):
    pool = processes.DevicePool(tiny_model, None, ("cpu", "cpu"))
    assert "for lack of memory" in str(pool._died())
    pool._up = Event()
    assert "no process came up" in str(pool._died())
    pool._up.set()
    assert "for lack of memory" in str(pool._died())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks into /proc")
def test_processes_end_with_the_one_that_writes(tmp_path):
    """Killed, it can tell them nothing."""
    command = [sys.executable, "-m", "molbfn", "generate", "-n", "5000", "--devices", "2",
               "--device", "cpu", "-o", str(tmp_path / "a.sdf")]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        children = _wait_for(lambda: len(found := _children(process.pid)) >= 2 and found)
        process.kill()
    _wait_for(lambda: not any(_runs(child) for child in children))


def _runs(pid: int) -> bool:
    """Whether a process is there, and not merely waiting to be told of."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _children(parent: int) -> list[int]:
    """Process ids of workers that have begun: they hold the weights."""
    listing = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in listing if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


def _wait_for(condition, seconds: float = 60.0):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return value
