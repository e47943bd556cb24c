import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from molbfn.chem.files import read_molecules


@pytest.fixture
def tiny(tiny_model_folder):
    return ("generate", "--model", tiny_model_folder, "--precision", "fp32")


def test_summary_names_file_counts_and_record(molbfn, tiny, tmp_path):
    output = tmp_path / "out.sdf"
    result = molbfn(*tiny, "-n", 5, "-o", output, "--num-atoms", "6-9", "--steps", 2)
    assert result.code == 0
    first, *rest = result.out.splitlines()
    assert first == f"{output}: 5 molecules"
    facts = dict(line.split(maxsplit=1) for line in rest)
    assert facts["model"] == "tiny on cpu"
    assert facts["time"].endswith("3 network calls a molecule")
    assert facts["valid"].split(" (")[0].endswith("of 5")
    assert facts["stable"].split(" (")[0].endswith("of 5")
    assert sum(int(part.rsplit(" ", 1)[1]) for part in facts["bonds"].split(", ")) == 5
    assert facts["record"] == f"{output}.json"
    assert json.loads((tmp_path / "out.sdf.json").read_text())["settings"]["num_atoms"] == "6-9"
    assert result.err.splitlines()[-1].startswith("100 %  ")
    assert sum(record.molecule is not None for record in read_molecules(output)) == 5


def test_trajectories_come_beside_the_file(molbfn, tiny, tmp_path):
    output = tmp_path / "out.sdf"
    result = molbfn(
        *tiny, "-n", 3, "-o", output, "--steps", 2, "--trajectory", "--trajectory-molecules", 2
    )
    assert result.code == 0
    assert result.out.splitlines()[-1].split() == ["frames", f"{output}.traj.extxyz"]
    text = (tmp_path / "out.sdf.traj.extxyz").read_text()
    assert text.count("calls=3") == 2 * 3


def test_options_reach_the_sampler(molbfn, tiny, tmp_path):
    result = molbfn(
        *tiny, "-n", 2, "-o", tmp_path / "out.xyz", "--sampler", "window", "--window", 2,
        "--temperature", 0.5, "--seed", 4, "--steps", 3, "--batch-size", 1, "--device", "cpu",
        "--grid", "0.3333:0.5",
    )  # fmt: skip
    assert result.code == 0
    settings = json.loads((tmp_path / "out.xyz.json").read_text())["settings"]
    assert [settings[key] for key in ("sampler", "window", "temperature", "seed", "steps")] == [
        *("window", 2, 0.5, 4, 3),
    ]
    assert settings["grid"] == pytest.approx([0, 0.5, 0.75, 1], abs=1e-3)
    even = molbfn(*tiny, "-n", 1, "-o", tmp_path / "e.xyz", "--steps", 2, "--grid", "even")
    assert even.code == 0
    assert json.loads((tmp_path / "e.xyz.json").read_text())["settings"]["grid"] == [0, 0.5, 1]


def test_only_molecules_that_pass_are_kept_and_the_summary_says_so(
    molbfn, tiny, tmp_path, monkeypatch
):
    from molbfn.generation import selection

    monkeypatch.setattr(selection, "meets", lambda molecule, _: molecule.properties["index"] != 1)
    output = tmp_path / "out.xyz"
    result = molbfn(*tiny, "-n", 3, "-o", output, "--steps", 2, "--require", "valid")
    assert result.code == 0
    assert "kept    3 of 4 made; the figures below are of those kept" in result.out
    made = [record.molecule for record in read_molecules(output)]
    assert [molecule.properties["index"] for molecule in made] == [0, 2, 3]
    refused = molbfn(*tiny, "-n", 3, "-o", output, "--require", "good")
    assert refused.code == 2
    assert refused.err.startswith("molbfn: --require good: unknown; use valid or stable")


def test_the_summary_counts_net_charges_where_there_are_some(molbfn, tiny, tmp_path, monkeypatch):
    from molbfn.generation import tally

    assert "charge" not in molbfn(*tiny, "-n", 3, "-o", tmp_path / "a.xyz", "--steps", 2).out
    monkeypatch.setattr(tally.Molecule, "charge", property(lambda molecule: -1))
    result = molbfn(*tiny, "-n", 3, "-o", tmp_path / "b.xyz", "--steps", 2)
    assert "charge  3 of 3 have formal charges that do not add up to 0" in result.out
    record = json.loads((tmp_path / "b.xyz.json").read_text())
    assert record["runs"][0]["charged"] == 3


def test_resume_from_the_command_line(molbfn, tiny, tmp_path):
    output = tmp_path / "out.xyz"
    assert molbfn(*tiny, "-n", 3, "-o", output).code == 0
    result = molbfn(*tiny, "-n", 5, "-o", output, "--resume")
    assert result.out.splitlines()[0] == f"{output}: 5 molecules, 3 of them from before"
    result = molbfn(*tiny, "-n", 5, "-o", output, "--resume")
    assert result.out == f"{output}: holds all 5 molecules already\n"


def test_ctrl_c_at_once_says_that_nothing_was_written(molbfn, tiny, tmp_path, monkeypatch):
    from molbfn.generation import job

    def interrupt(*_, **__):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(job.DevicePool, "generate", interrupt)
    result = molbfn(*tiny, "-n", 3, "-o", tmp_path / "out.xyz")
    assert result.code == 130
    assert "nothing was written" in result.err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to a process group on Windows")
@pytest.mark.parametrize("pause", [0.0, 6.0], ids=["as they start", "at work"])
def test_ctrl_c_ends_all_processes(tiny, tmp_path, pause):
    """Without waiting for the molecules they are at, which would take hours here."""
    output = tmp_path / "out.sdf"
    command = [sys.executable, "-m", "molbfn", *map(str, tiny), "-n", "1000", "-o", str(output)]
    with subprocess.Popen(
        [*command, "--steps", "1000000", "--devices", "2"], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        growing = tmp_path / "out.sdf.partial.json"
        while process.poll() is None and not growing.exists():
            time.sleep(0.05)
        time.sleep(pause)
        for _ in range(5):  # while processes are started it is not heard
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                out, err = process.communicate(timeout=20)
                break
        process.kill()
    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    assert "nothing was written" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to a process group on Windows")
def test_ctrl_c_on_a_terminal(molbfn, tiny, tmp_path):
    """SIGINT reaches the whole process group, bond perception's workers included."""
    output = tmp_path / "out.sdf"
    command = [sys.executable, "-m", "molbfn", *map(str, tiny), "-n", "100000", "-o", str(output)]
    growing = tmp_path / "out.sdf.partial"
    with subprocess.Popen(
        [*command, "--steps", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        while process.poll() is None and not (growing.exists() and growing.stat().st_size > 0):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    assert "the same command with --resume" in err
    made = [record.molecule for record in read_molecules(output)]
    assert [m.properties["index"] for m in made] == list(range(len(made)))
    result = molbfn(*tiny, "-n", len(made) + 2, "-o", output, "--steps", 1, "--resume")
    assert result.code == 0
    whole = tmp_path / "whole.xyz"
    assert molbfn(*tiny, "-n", len(made) + 2, "-o", whole, "--steps", 1).code == 0
    resumed, uninterrupted = (
        [record.molecule for record in read_molecules(path)] for path in (output, whole)
    )
    assert len(resumed) == len(uninterrupted)
    for a, b in zip(resumed, uninterrupted, strict=True):
        np.testing.assert_array_equal(a.atomic_numbers, b.atomic_numbers)
        np.testing.assert_allclose(a.positions, b.positions, atol=2e-4)
