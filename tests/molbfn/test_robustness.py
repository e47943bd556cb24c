"""Files of any origin and state: no crash, no hang, bounded memory, every bad record named."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molbfn.chem import sdf, xyz
from molbfn.chem.files import read_molecules
from molbfn.chem.molecule import Molecule
from molbfn.chem.perception import BondPerceiver
from molbfn.data.prepare import prepare
from molbfn.errors import UserError
from molbfn.evaluation import bonds, edm
from molbfn.evaluation.run import evaluate

_SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_fuzz_corpus.py"
_SECONDS = 20.0  # for one file; the slowest takes about one


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_fuzz_corpus", _SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def script() -> ModuleType:
    return _load()


@pytest.fixture(scope="session")
def corpus(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    script.write(folder)
    return folder


def count(path: Path) -> tuple[int, int]:
    """Molecules and bad records; -1 bad ones for a file that is refused."""
    try:
        records = list(read_molecules(path))
    except UserError as error:
        message = str(error)
        records = None
    if records is None:
        assert "\n" not in message
        assert path.name in message
        return 0, -1
    for k, record in enumerate(records):
        assert record.index == k
        assert (record.molecule is None) == (record.problem is not None)
        if record.problem is not None:
            assert record.problem.file == str(path)
            assert record.problem.reason
            assert len(str(record.problem)) < 500
            assert "\n" not in str(record.problem)
    good = sum(record.molecule is not None for record in records)
    return good, len(records) - good


def test_every_file_gives_what_is_in_it(corpus: Path) -> None:
    expected = json.loads((corpus / "expected.json").read_text())
    assert len(expected) > 50
    for name, numbers in expected.items():
        start = time.monotonic()
        assert count(corpus / name) == (numbers["good"], numbers["bad"]), name
        assert time.monotonic() - start < _SECONDS, name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated.sdf", "truncated: no 'M  END' line"),
        ("nan.sdf", "a coordinate is not a finite number"),
        ("inf.sdf", "a coordinate is not a finite number"),
        ("counts_high.sdf", "promises 99 atoms"),
        ("counts_low.sdf", "more atoms or bonds than the 3 and 2"),
        ("counts_words.sdf", "the counts line is wrong: 'many atoms'"),
        ("element.sdf", "unknown element 'Qq'"),
        ("no_separator.sdf", "a second molecule without a '$$$$' line"),
        ("v3000_counts.sdf", "99999999 atoms; at most"),
        ("large_v2000.sdf", "more than 999 need V3000"),
        ("endless.sdf", "larger than 64 MiB"),
        ("r_group.sdf", "'R#' is a dummy atom, R group or query atom"),
        ("dummy.sdf", "'*' is a dummy atom"),
        ("any_bond.sdf", "the bond between atoms 1 and 2 is unspecified"),
        ("dummy.xyz", "'X' is a dummy atom"),
        ("drawing.sdf", "2D coordinates"),
        ("zeros.sdf", "2D coordinates"),
        ("one_point.sdf", "all 9 atoms are at one point"),
        ("one_point.xyz", "all 2 atoms are at one point"),
        ("one_point.npz", "all 3 atoms are at one point"),
        ("extended_flat.xyz", "no pos of width 3 in Properties=species:S:1:pos:R:2:forces:R:3"),
        ("underscore.xyz", "not an atom: 'C 1_0 0 0'"),
        ("too_large.xyz", "20000 atoms; at most"),
        ("huge_count.xyz", "truncated: 1 of 999999999 atoms"),
        ("number.xyz", "no element has atomic number 119"),
        ("cut.sdf.gz", "cannot be read after record 7"),
    ],
)
def test_reasons(corpus: Path, name: str, reason: str) -> None:
    (problem,) = (r.problem for r in read_molecules(corpus / name) if r.problem)
    assert reason in problem.reason


def test_what_other_programs_mean(corpus: Path) -> None:
    """Text, isotopes, charges, aromatic bonds and columns arrive as they were meant."""

    def only(name: str) -> Molecule:
        (record,) = read_molecules(corpus / name)
        return record.molecule

    assert only("windows_1252.sdf").title == "Stra\xdfe \xb5\u20ac"
    assert 1 in only("deuterium.sdf").atomic_numbers
    assert sorted(only("aromatic.sdf").bonds[:, 2].tolist()) == [1] * 9 + [2] * 3
    assert only("large_property.sdf").properties["log"].count("\n") == 199_999
    assert only("numbers.xyz").atomic_numbers.tolist() == [6, 8]
    assert only("extended.xyz").properties["energy"] == -1.5
    for name in ("extended_z.xyz", "extended_positions.xyz", "suffix.extxyz"):
        np.testing.assert_array_equal(only(name).positions, [[1, 2, 3]])
    assert len(only("large_v3000.sdf")) == 10_000
    assert only("v3000_continued.sdf").positions[1_099].tolist() == [20, 8, 84]


def test_charges_of_the_property_block_overrule_the_atom_block(script: ModuleType) -> None:
    """CTfile formats: where there is an M  CHG line, the charges of atom lines do not count."""
    acetate = script.molecules()[3]
    text = sdf.format_record(acetate)
    oxygen = 1 + int(np.flatnonzero(acetate.formal_charges)[0])
    lines = text.splitlines()
    lines[4] = lines[4][:36] + "  5" + lines[4][39:]  # -1 on the first atom
    back = sdf.parse_record(lines[:-1])
    assert np.flatnonzero(back.formal_charges).tolist() == [oxygen - 1]
    old = [line for line in lines[:-1] if not line.startswith("M  CHG")]
    assert np.flatnonzero(sdf.parse_record(old).formal_charges).tolist() == [0]


def test_evaluate_and_prepare_take_the_whole_folder(corpus: Path, tmp_path: Path) -> None:
    expected = json.loads((corpus / "expected.json").read_text())
    bad = sum(abs(numbers["bad"]) for numbers in expected.values())
    good = sum(numbers["good"] for numbers in expected.values())
    problems = []
    found = evaluate(corpus, protocols=("edm", "bonds"), on_problem=problems.append)
    assert (found.given, found.unreadable) == (good + bad, bad)
    assert len(problems) == bad
    listed = []
    report = prepare(corpus, tmp_path / "a.npz", on_problem=listed.append)
    assert report.read == len(listed) + report.kept + sum(
        tally.count for reason, tally in report.skipped.items() if reason != "cannot be read"
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("name", ["whole.sdf", "trajectory.xyz", "whole.sdf.gz", "r_group.sdf"])
def test_pipes_are_read_by_what_comes_out(corpus: Path, tmp_path: Path, name: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = (corpus / name).read_bytes()
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    assert count(pipe) == count(corpus / name)
    writer.join()


def test_standard_input(corpus: Path) -> None:
    command = [sys.executable, "-m", "molbfn", "evaluate", "/dev/stdin"]
    if not Path("/dev/stdin").exists():
        pytest.skip("no /dev/stdin here")
    data = (corpus / "whole.sdf").read_bytes()
    piped = subprocess.run(command, input=data, capture_output=True, check=False, timeout=120)
    assert piped.returncode == 0, piped.stderr
    with (corpus / "nan.sdf").open("rb") as stream:
        file = subprocess.run(command, stdin=stream, capture_output=True, check=False, timeout=120)
    assert file.returncode == 3
    assert b"not a finite number" in file.stderr


def test_links_are_followed_and_named_by_what_they_lead_to(corpus: Path, tmp_path: Path) -> None:
    link = tmp_path / "latest"
    link.symlink_to(corpus / "whole.sdf.gz")
    assert count(link) == count(corpus / "whole.sdf.gz")
    (tmp_path / "lost.sdf").symlink_to(tmp_path / "nowhere.sdf")
    with pytest.raises(UserError, match="no such file"):
        read_molecules(tmp_path / "lost.sdf")


def test_a_folder_of_many_files(script: ModuleType, tmp_path: Path) -> None:
    text = sdf.format_record(script.molecules()[0])
    for k in range(2000):
        (tmp_path / f"{k}.sdf").write_text(text if k % 10 else "torn")
    assert evaluate(tmp_path).unreadable == 200


# --- whatever the bytes -------------------------------------------------------------------------

_WORDS = (
    b"-1", b"0", b"999999999", b"1e999", b"nan", b"\n", b"\r", b"\x00", b"\xff", b"$$$$\n",
    b"M  END\n", b"M  CHG  1   1  99\n", b"M  RGP  1   1   1\n", b"V3000", b"V2000", b">  <",
    b"  4  0", b"-\n", b"M  V30 ", b"\xc2\xb2", b'="', b"\\", b"Properties=pos:R:9",
)  # fmt: skip
_EDIT = st.tuples(
    st.floats(0, 1), st.integers(0, 40), st.sampled_from(_WORDS) | st.binary(max_size=9)
)


def mutated(content: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Replace some bytes at some places."""
    for place, length, new in edits:
        start = int(place * len(content))
        content = content[:start] + new + content[start + length :]
    return content


def survives(path: Path) -> None:
    """Read and judge everything; only UserError may come out of it."""
    count(path)
    try:
        molecules = [record.molecule for record in read_molecules(path)]
    except UserError:
        return
    for judge in (edm.judge, bonds.judge):
        assert len(judge(molecules)) == len(molecules)


def _seeds() -> dict[str, bytes]:
    script = _load()
    keep = {"whole.sdf", "aromatic.sdf", "trajectory.xyz", "extended.xyz", "whole.sdf.gz"}
    found = {case.name: case.content for case in script.cases() if case.name in keep}
    made = script.molecules()[:3]
    far = [Molecule(m.atomic_numbers, m.positions + 2e5, m.formal_charges, m.bonds) for m in made]
    found["v3000.sdf"] = "".join(map(sdf.format_record, far)).encode()
    for compressed in (False, True):
        stream = io.BytesIO()
        (np.savez_compressed if compressed else np.savez)(
            stream,
            num_atoms=np.array([len(m) for m in made]),
            atomic_numbers=np.concatenate([m.atomic_numbers for m in made]),
            positions=np.concatenate([m.positions for m in made]),
            num_bonds=np.array([len(m.bonds) for m in made]),
            bonds=np.concatenate([m.bonds for m in made]),
            records_json=np.frombuffer(b'{"known": ["bonds"]}\n{}\n{}', dtype=np.uint8),
        )
        found[f"{compressed}.npz"] = stream.getvalue()
    return found


_SEEDS = (
    "False.npz", "True.npz", "aromatic.sdf", "extended.xyz", "trajectory.xyz", "v3000.sdf",
    "whole.sdf", "whole.sdf.gz",
)  # fmt: skip


@pytest.fixture(scope="session")
def seeds() -> dict[str, bytes]:
    return _seeds()


@pytest.mark.parametrize("name", _SEEDS)
@settings(deadline=None, max_examples=int(os.environ.get("MOLBFN_FUZZ", "60")))
@given(edits=st.lists(_EDIT, min_size=1, max_size=4))
def test_mutated_files_are_read_or_refused(
    seeds: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, name: str, edits
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(mutated(seeds[name], edits))
    survives(path)


@pytest.mark.parametrize("suffix", [".sdf", ".xyz", ".npz", ".sdf.gz", ".pickle"])
@settings(deadline=None, max_examples=25)
@given(content=st.binary(max_size=300))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, suffix: str, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".sdf.gz" else content)
    survives(path)


def test_rdkits_own_files_come_back(tmp_path: Path, script: ModuleType) -> None:
    """Its SDF (both versions) and XYZ writers."""
    from rdkit import Chem

    for made in script.molecules():
        mol = made.to_rdkit()
        for version in (False, True):
            (tmp_path / "a.mol").write_text(Chem.MolToMolBlock(mol, forceV3000=version))
            (record,) = read_molecules(tmp_path / "a.mol")
            back = record.molecule
            assert back.smiles() == made.smiles()
            np.testing.assert_allclose(back.positions, made.positions, atol=1e-3)
            np.testing.assert_array_equal(back.formal_charges, made.formal_charges)
        (tmp_path / "a.xyz").write_text(Chem.MolToXYZBlock(mol))
        (record,) = read_molecules(tmp_path / "a.xyz")
        np.testing.assert_array_equal(record.molecule.atomic_numbers, made.atomic_numbers)
        np.testing.assert_allclose(record.molecule.positions, made.positions, atol=1e-4)


# --- memory and time ----------------------------------------------------------------------------

# in a process of its own, for peak memory is that of a whole process
_CHILD = """
import resource, sys
from molbfn.cli import main
code = main(["evaluate", sys.argv[1], "--protocol", sys.argv[2], "--problems", sys.argv[3]])
print("PEAK", code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_mib(path: Path, problems: Path, protocol: str = "edm") -> tuple[int, float]:
    """Exit code of `molbfn evaluate` and its peak memory in MiB."""
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(path), protocol, str(problems)],
        capture_output=True, text=True, check=False, timeout=3600,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    _, code, peak = child.stdout.splitlines()[-1].split()
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return int(code), int(peak) / unit


def test_memory_does_not_grow_with_the_file(script: ModuleType, tmp_path: Path) -> None:
    small = tmp_path / "small.sdf"
    script.write_big(small, 100_000)
    _, bad = script.write_big(tmp_path / "big.sdf", 6_000_000)
    base = peak_mib(small, tmp_path / "p.csv")[1]
    code, peak = peak_mib(tmp_path / "big.sdf", tmp_path / "p.csv")
    assert code == 3
    assert len((tmp_path / "p.csv").read_text().splitlines()) == bad + 1
    assert peak - base < 40, f"{base:.0f} and {peak:.0f} MiB"


def test_memory_for_records_beyond_all_measure(corpus: Path, tmp_path: Path) -> None:
    base = peak_mib(corpus / "whole.sdf", tmp_path / "p.csv")[1]
    for name, limit in (("endless.sdf", 400), ("large_v3000.sdf", 700), ("too_large.xyz", 100)):
        _, peak = peak_mib(corpus / name, tmp_path / "p.csv")
        assert peak - base < limit, f"{name}: {base:.0f} and {peak:.0f} MiB"


@pytest.mark.slow
def test_a_gigabyte(script: ModuleType, tmp_path: Path) -> None:
    _, bad = script.write_big(tmp_path / "big.sdf", 1 << 30, text=20_000)
    code, peak = peak_mib(tmp_path / "big.sdf", tmp_path / "p.csv")
    assert code == 3
    assert len((tmp_path / "p.csv").read_text().splitlines()) == bad + 1
    assert peak < 1024, f"{peak:.0f} MiB"


def test_thousands_of_atoms_on_top_of_each_other_take_no_minutes() -> None:
    start = time.monotonic()
    (verdict,) = edm.judge([Molecule(np.full(3000, 6), np.zeros((3000, 3)))])
    assert verdict.smiles is None
    assert verdict.stable_atoms == 0
    assert time.monotonic() - start < _SECONDS


def test_metals_all_bonded_to_each_other_take_no_minutes() -> None:
    pairs = np.array([(i, j, 1) for i in range(60) for j in range(i + 1, 60)])
    start = time.monotonic()
    points = np.random.default_rng(0).normal(size=(60, 3))
    assert Molecule(np.full(60, 26), points, bonds=pairs).smiles() is None
    assert time.monotonic() - start < _SECONDS


def test_long_words_take_linear_time() -> None:
    """Megabytes that regular expressions would go over again and again."""
    start = time.monotonic()
    xyz.comment_pairs("a" * 2_000_000)
    xyz.comment_pairs('a="' * 500_000)
    xyz.comment_pairs('a="' + '\\"a="' * 300_000)
    sdf.parse_record([*sdf.format_record(Molecule([2], [[0, 0, 0]])).splitlines()[:-1],
                      ">" + "<" * 1_000_000])  # fmt: skip
    assert time.monotonic() - start < _SECONDS


def test_a_molecule_that_rdkit_does_not_finish_costs_its_timeout_only() -> None:
    """Sulphur on a grid of 2 angstrom: too many ways to bond it."""
    grid = np.stack(np.meshgrid(*[np.arange(12)] * 3), axis=-1).reshape(-1, 3)[:120] * 2.0
    noise = np.random.default_rng(0).normal(scale=0.02, size=grid.shape)
    water = Molecule([8, 1, 1], [[0, 0, 0.1173], [0, 0.7572, -0.4692], [0, -0.7572, -0.4692]])
    with BondPerceiver(timeout=1.0) as perceiver:
        perceiver.perceive(water)  # the worker has started
        start = time.monotonic()
        slow = perceiver.perceive(Molecule(np.full(120, 16), grid + noise))
        took = time.monotonic() - start
        after = perceiver.perceive(water)
    assert slow.status == "timeout"
    assert slow.route == "table"
    assert took < 5.0
    assert after.status == "ok"
