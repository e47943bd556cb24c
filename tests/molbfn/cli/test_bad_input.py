"""Section by section, what a user can get wrong: one line that names the thing, nothing touched."""

import contextlib
import json
import os
import re
import shutil

import pytest
import torch

from molbfn.model import bundled_models

READERS = [
    ("evaluate",),
    ("data", "prepare", "-o", "out.npz"),
    ("report", "-o", "out.html"),
    ("view",),
    ("draw", "-o", "out.png"),
]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def generate(tiny_model_folder):
    return ("generate", "-m", tiny_model_folder, "-o", "out.sdf", "-n", 2)


def assert_says(message, *parts):
    for part in parts:
        assert re.search(part, message), (part, message)


# Files to read ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", READERS)
def test_a_missing_file(refused, command):
    assert_says(refused(*command, "gone.sdf"), r"gone\.sdf", "no such")


@pytest.mark.parametrize("command", READERS)
def test_a_file_of_an_unknown_kind(refused, command, tmp_path):
    (tmp_path / "a.pdb").write_text("HEADER")
    assert_says(refused(*command, "a.pdb"), r"a\.pdb", r"\.sdf")


@pytest.mark.parametrize("command", READERS)
def test_an_unreadable_file(refused, command, tmp_path):
    (tmp_path / "a.sdf.gz").write_bytes(b"\x1f\x8b and no gzip")
    (tmp_path / "a.npz").write_bytes(b"this is not a zip archive")
    assert_says(refused(*command, "a.sdf.gz"), r"a\.sdf\.gz")
    assert_says(refused(*command, "a.npz"), r"a\.npz")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("command", READERS)
def test_a_file_without_permission(refused, command, water):
    water.chmod(0)
    assert_says(refused(*command, water), r"water\.sdf", "ermission")


@pytest.mark.parametrize("command", READERS)
def test_an_empty_file(refused, command, tmp_path):
    (tmp_path / "empty.sdf").touch()
    assert_says(refused(*command, "empty.sdf"), r"empty\.sdf", "empty")


@pytest.mark.parametrize("command", READERS)
def test_a_folder_without_molecules(refused, command, tmp_path):
    (tmp_path / "folder").mkdir()
    assert_says(refused(*command, "folder"), "folder", r"\.sdf")


def test_a_truncated_record_is_named_and_counted(molbfn, refused, water, tmp_path):
    text = water.read_text()
    cut = tmp_path / "cut.sdf"
    cut.write_text(text[:200])
    assert_says(
        refused("data", "prepare", cut, "-o", "out.npz"), r"cut\.sdf: record 1", "truncated"
    )
    cut.write_text(text + text[:200])
    result = molbfn("data", "prepare", cut, "-o", "out.npz")
    assert result.code == 3
    assert_says(result.out, "1 of 2 molecules kept", r"cut\.sdf: record 2", "truncated")
    result = molbfn("evaluate", cut)
    assert result.code == 3
    assert_says(result.out, "1 could not be read")


def test_an_unknown_element_is_named(refused, water, tmp_path):
    (tmp_path / "odd.sdf").write_text(water.read_text().replace(" O ", " Qq"))
    message = refused("data", "prepare", "odd.sdf", "-o", "out.npz")
    assert_says(message, r"odd\.sdf: record 1 \(line 5\)", "Qq")
    assert_says(refused("data", "prepare", water, "-o", "out.npz", "--elements", "H,Qq"), "Qq")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fractions", "0.8,0.3,0.1"), "add up to 1"),
        (("--fractions", "most"), "--fractions most: expected three numbers"),
        (("--max-atoms", "0"), "--max-atoms"),
        (("--max-atoms", "2"), "not one of 1 molecules can be used: 1 more than 2 atoms"),
        (("-o", "out.txt"), r"\.npz"),
        (("-o", "gone/out.npz"), "gone"),
    ],
)
def test_unusable_options_of_prepare(refused, water, tmp_path, options, message):
    (tmp_path / "out.npz").write_text("old")
    assert_says(refused("data", "prepare", water, "-o", "out.npz", *options), message)
    assert (tmp_path / "out.npz").read_text() == "old"


def test_a_folder_that_is_not_qm9(refused, tmp_path):
    assert_says(refused("data", "qm9", "--from-dir", tmp_path, "-o", "q.npz"), "gdb9.sdf")
    assert not (tmp_path / "q.npz").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--reference", "qm99"), "qm99.*did you mean 'qm9'"),
        (("--reference", "gone.npz"), r"gone\.npz"),
        (("--novelty", "smile"), "smile.*did you mean 'smiles'"),
        (("--json", "gone/a.json"), "the folder gone does not exist"),
        (("--csv", "gone/a.csv"), "the folder gone does not exist"),
        (("--reference", "water.sdf", "--split", "trian"), "trian"),
    ],
)
def test_unusable_options_of_evaluate(refused, water, options, message):
    assert_says(refused("evaluate", water, *options), message)


# Generation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-n", "0"), "-n 0: the number of molecules must be at least 1"),
        (("-n", "-5"), "-n -5"),
        (("--num-atoms", "40"), "--num-atoms 40: the model was trained on 4 to 12 atoms"),
        (("--num-atoms", "7-8"), "--num-atoms 7-8: the model never saw"),
        (("--num-atoms", "some"), "--num-atoms some: expected a number"),
        (("--steps", "0"), "--steps 0: must be at least 1"),
        (("--sampler", "renoised"), "--sampler renoised: unknown; did you mean 'renoise'"),
        (("--sampler", "window"), "needs --window"),
        (("--grid", "0.8"), "--grid 0.8: expected even, or share:time corners"),
        (("--grid", "0.8:1.2"), "--grid 0.8:1.2: expected even, or share:time corners"),
        (("--window", "2"), "goes with --sampler window"),
        (("--churn", "2"), "--churn 2.0: goes with --sampler sde only, not renoise"),
        (("--devices", "0"), "--devices 0: must be at least 1"),
        (("--num-nodes", "0"), "--num-nodes 0: must be at least 1"),
        (("--node-rank", "1"), "--node-rank 1: must lie between 0 and 0"),
        (("--temperature", "-1"), "--temperature -1.0"),
        (("--temperature", "nan"), "--temperature nan"),
        (("--precision", "half"), "--precision half: use auto, fp32 or bf16"),
        (("--batch-size", "0"), "--batch-size 0"),
        (("--trajectory", "--trajectory-molecules", "0"), "--trajectory-molecules 0"),
        (("--trajectory-molecules", "2"), "--trajectory-molecules: goes with --trajectory"),
        (("--batch-size", "many"), "--batch-size many: expected a whole number"),
        (("--device", "gpu"), "--device gpu: unknown; use auto, cpu"),
        (("-o", "gone/out.sdf"), "the folder gone does not exist; make it first"),
        (("-o", "out.pdb"), r"out\.pdb: cannot write this kind of file"),
        (("-o", "."), "cannot write this kind of file"),
        (("-m", "gone"), "no model named 'gone'"),
    ],
)
def test_unusable_options_of_generate(refused, generate, tmp_path, snapshot, options, message):
    (tmp_path / "out.sdf").write_text("old")
    assert_says(refused(*generate, *options), message)
    assert snapshot(tmp_path) == {tmp_path / "out.sdf": b"old"}


@pytest.mark.parametrize("command", [("generate", "-o", "out.sdf"), ("train", "a.yaml")])
def test_no_gpu_where_one_was_asked_for(refused, command, tmp_path, monkeypatch):
    (tmp_path / "a.yaml").write_text("data: {source: demo}\n")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = refused(*command, "--device", "cuda")
    assert_says(message, "--device cuda: this machine has no usable CUDA GPU; use --device cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


def test_an_unknown_model_name_lists_those_that_exist(refused, tmp_path, monkeypatch):
    bundled = {"qm9": tmp_path, "qm9_small": tmp_path}
    monkeypatch.setattr("molbfn.model.bundled_models", lambda: bundled)
    assert_says(
        refused("generate", "-m", "qm9_smal"), "no model named 'qm9_smal'",
        "did you mean 'qm9_small'", "bundled models: qm9, qm9_small",
    )  # fmt: skip


def test_the_bundled_models_exist_by_their_names():
    for name, folder in bundled_models().items():
        assert folder.name == name


@pytest.fixture
def broken_model(tiny_model_folder, tmp_path):
    return shutil.copytree(tiny_model_folder, tmp_path / "broken")


def change_config(folder, change):
    path = folder / "config.json"
    header = json.loads(path.read_text())
    change(header)
    path.write_text(json.dumps(header))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h["config"]["network"].update(width=24), "weight '.*' has shape .*config.json"),
        (lambda h: h["config"]["network"].update(blocks=3), "weight '.*' of the config is missing"),
        (lambda h: h["config"]["network"].update(blocks=1), "weight '.*' is not part of"),
        (lambda h: h["config"]["network"].update(widht=1), "'?network.widht'?.* 'width'"),
        (lambda h: h["config"]["sampling"].update(steps=0), "sampling.steps"),
        (lambda h: h["config"]["data"].update(elements=["H", "Qq"]), "Qq"),
        (lambda h: h.update(format=99), "'format' is 99"),
        (lambda h: h.pop("sizes"), "'sizes'"),
        (lambda h: h.update(sizes={}), "'sizes'"),
        (lambda h: h.update(buckets=["a"]), "'buckets'"),
    ],
)
def test_a_model_whose_config_is_another(refused, broken_model, change, message):
    change_config(broken_model, change)
    assert_says(refused("generate", "-m", broken_model), "broken", message)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "missing"])
def test_a_model_with_corrupted_bytes(refused, broken_model, tmp_path, name, damage):
    path = broken_model / name
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        data[-100] ^= 0xFF
        path.write_bytes(data)
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    assert_says(refused("generate", "-m", broken_model, "-o", "out.sdf"), "broken")
    assert not (tmp_path / "out.sdf").exists()


def test_a_folder_that_is_not_a_model(refused, tmp_path):
    assert_says(refused("generate", "-m", tmp_path), "not a model folder")


@pytest.fixture
def little_space():
    """Return a context in which no file may grow beyond so many bytes, as on a full disk."""
    resource = pytest.importorskip("resource", reason="no limits on file sizes on this system")

    @contextlib.contextmanager
    def limit(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


@pytest.mark.parametrize("suffix", [".sdf", ".xyz", ".npz"])
def test_a_disk_full_of_molecules(molbfn, generate, tmp_path, little_space, suffix):
    old = tmp_path / f"out{suffix}"
    old.write_text("old")
    with little_space(16_000):
        result = molbfn(*generate, "-o", old, "-n", 100)
    assert (result.code, result.out) == (2, "")
    *progress, message = result.err.splitlines()
    assert all(" %  " in line for line in progress)
    assert_says(message, f"^molbfn: .*out{suffix}.*: File too large; free some space")
    assert old.read_text() == "old"


def test_a_disk_full_of_data_and_figures(refused, molbfn, water, tmp_path, little_space):
    for name in ("out.npz", "a.json"):
        (tmp_path / name).write_text("old")
    with little_space(100):
        message = refused("data", "prepare", water, "-o", "out.npz")
        assert_says(message, r"cannot write out\.npz: File too large")
        result = molbfn("evaluate", water, "--json", "a.json")
        assert result.code == 2
        assert_says(result.err, r"^molbfn: cannot write a\.json: File too large\n$")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "water.sdf": water.read_text(), "out.npz": "old", "a.json": "old",
    }  # fmt: skip


def test_resuming_with_other_settings(refused, molbfn, generate, tmp_path, snapshot):
    assert molbfn(*generate).code == 0
    before = snapshot(tmp_path)
    assert_says(refused(*generate, "--resume", "--seed", 1), "seed = 0, now it is 1")
    assert_says(refused(*generate, "--resume", "-n", 1), "holds 2 molecules already")
    assert snapshot(tmp_path) == before


# Training -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainig: {steps: 5}", r"a\.yaml:1: .*trainig.* did you mean 'training'"),
        ("name: a\ntraining:\n  step: 5", r"a\.yaml:3: .*training\.step.* did you mean 'steps'"),
        ("training: {steps: many}", r"training\.steps"),
        ("training: {steps: 0}", r"training\.steps"),
        ("training: {ema: 1.5}", r"training\.ema"),
        ("network: {kind: egnn, hiden: 3}", r"network\.hiden.* did you mean 'hidden'"),
        ("network: {kind: gnn}", r"network"),
        ("data: {elements: [H, Qq]}", "Qq"),
        ("training: [", r"a\.yaml:\d"),
        ("just text", r"a\.yaml"),
        ("data: {source: gone}", "gone"),
        ("data: {source: gone.npz}", r"gone\.npz"),
    ],
)
def test_an_unusable_config(refused, tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    assert_says(refused("train", "a.yaml", "-o", "run"), message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.stepps=5", r"training\.stepps.* did you mean 'steps'"),
        ("training.steps=few", r"training\.steps"),
        ("training.steps", "expected key=value"),
    ],
)
def test_an_unusable_override(refused, tmp_path, override, message):
    (tmp_path / "a.yaml").write_text("name: a")
    assert_says(refused("train", "a.yaml", "--set", override), message)


def test_a_missing_config(refused):
    assert_says(refused("train", "gone.yaml"), r"gone\.yaml", "no such")


@pytest.fixture
def run(tmp_path, molbfn, water):
    """A finished run of two steps, and the config it came from."""
    (tmp_path / "many.sdf").write_text(20 * water.read_text())
    assert molbfn("data", "prepare", "many.sdf", "-o", "water.npz").code == 0
    (tmp_path / "a.yaml").write_text(
        "data: {source: water.npz, elements: [H, O], buckets: 1}\n"
        "network: {width: 8, vectors: 2, pair_width: 2, message_width: 4, dots: 2, heads: 2, "
        "blocks: 1, distances: 4, time_features: 2, condition_width: 4}\n"
        "training: {steps: 2, batch_size: 4, warmup_steps: 0}\n"
    )
    command = ("train", "a.yaml", "-o", "run", "--device", "cpu")
    assert molbfn(*command).code == 0
    return command


def test_a_run_is_neither_overwritten_nor_mixed_with_another(refused, run, tmp_path, snapshot):
    before = snapshot(tmp_path)
    assert_says(refused(*run), "holds a run already; add --resume")
    message = refused(*run, "--resume", "--set", "network.blocks=2")
    assert_says(message, r"network\.blocks = 1, this config has 2")
    assert snapshot(tmp_path) == before


def test_a_checkpoint_with_corrupted_bytes(refused, run, tmp_path, snapshot):
    path = tmp_path / "run" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    before = snapshot(tmp_path)
    assert_says(refused(*run, "--resume"), r"last\.ckpt: corrupted")
    assert snapshot(tmp_path) == before
    path.unlink()
    assert_says(refused(*run, "--resume"), "no checkpoint to resume")


def test_data_with_elements_that_the_config_does_not_name(refused, run, tmp_path):
    message = refused(*run[:2], "-o", "other", "--set", "data.elements=[H, C]")
    assert_says(message, "elements the model does not know: O")
    assert not (tmp_path / "other" / "model").exists()
