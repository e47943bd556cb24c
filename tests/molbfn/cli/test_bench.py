"""The whole of `molbfn bench` on synthetic digits: data in, tables out."""

import gzip
import struct

import numpy as np
import pytest

from molbfn.benchmarks.data import files, mnist

TINY = [
    "network.width=8", "network.inner_width=8", "network.blocks=1", "network.inner_blocks=1",
    "network.condition_width=8", "training.steps=2", "training.batch_size=4",
    "training.precision=fp32", "training.compile=false", "training.validate_samples=4",
]  # fmt: skip
SET = [part for value in TINY for part in ("--set", value)]


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """Noise in the form of MNIST, the only data on this machine."""
    folder, rng = tmp_path / "data" / "mnist", np.random.default_rng(0)
    folder.mkdir(parents=True)
    for name, count in ((mnist.TRAIN_IMAGES, 400), (mnist.TEST_IMAGES, 8)):
        grey = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        header = struct.pack(">BBBB3I", 0, 0, 8, 3, *grey.shape)
        (folder / f"{name}.gz").write_bytes(gzip.compress(header + grey.tobytes()))
    monkeypatch.setattr(files, "data_dirs", lambda: iter([tmp_path / "data"]))
    monkeypatch.chdir(tmp_path)
    return folder


def test_from_data_to_tables(molbfn, digits, tmp_path):
    for package in ("matplotlib", "PIL"):
        pytest.importorskip(package)
    trained = molbfn("bench", "train", "mnist_small", "--device", "cpu", *SET)
    assert trained.code == 0, trained.err
    assert "2 of 2 steps" in trained.out
    assert "next: molbfn bench eval mnist_small" in trained.out
    # Without --model, the run's own is found.
    cpu = ("--device", "cpu", "--precision", "fp32")
    measured = molbfn(
        "bench", "eval", "mnist_small", "--steps", "inf, 5,5", "--passes", 2, "--repeats", 1, *cpu
    )
    assert measured.code == 0, measured.err
    first = measured.out.splitlines()[0]
    assert first.startswith("model: mnist_small (runs/bench/mnist_small/model, ")
    assert "n =   inf" in measured.out
    assert "n =     5" in measured.out
    assert "the curve of its training in docs/benchmarks/mnist_small_training.json" in measured.out
    judged = molbfn(
        "bench", "eval", "mnist_small", "--quality", "--calls", "2,3", "--samplers", "sde2",
        "-n", 4, *cpu,
    )  # fmt: skip
    assert judged.code == 0, judged.err
    assert "frechet" in judged.out
    kept = tmp_path / "docs" / "benchmarks" / "mnist_small_training.json"
    kept.unlink()
    curve = molbfn("bench", "curve", "runs/bench/mnist_small")
    assert curve.code == 0, curve.err
    assert kept.is_file()
    dense = molbfn(
        "bench", "eval", "mnist_small", "--flow-bound", "--samples", 2, "--steps", "1,2",
        "--eta", 0.1, "--probes", 2, *cpu,
    )  # fmt: skip
    assert dense.code == 0, dense.err
    assert "2 steps (9 calls)" in dense.out
    tables = molbfn("bench", "table")
    assert tables.code == 0, tables.err
    text = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert "mnist_small (ours)" in text
    assert "| sde2 |" in text
    assert "### Through the probability-flow ODE" in text
    assert "## Training of mnist_small" in text
    drawn = molbfn("bench", "sample", "mnist_small", "-n", 4, "--calls", 3, *cpu)
    assert drawn.code == 0, drawn.err
    assert (tmp_path / "mnist_small.png").is_file()


def test_a_model_that_stands_in_is_named(molbfn, digits):
    """Of cifar10_256 a _small model is bundled alone: it is not said to be the paper's."""
    pytest.importorskip("PIL")
    options = ("-n", 1, "--calls", 2, "--device", "cpu", "--precision", "fp32", "-o", "a.png")
    drawn = molbfn("bench", "sample", "cifar10_256", *options)
    assert drawn.code == 0, drawn.err
    assert drawn.out.splitlines()[-1] == (
        "a.png: 1 samples of cifar10_256_small (bundled, 3,138,712 parameters), 2 calls of sde2, "
        "seed 0"
    )


def test_list_names_benchmarks_and_data(molbfn, digits):
    result = molbfn("bench", "list")
    assert result.code == 0, result.err
    assert "mnist_small" in result.out
    assert str(digits) in result.out
    assert "not here: molbfn bench data text8" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "mnits_small"), "did you mean 'mnist_small'"),
        (("train", "mnist_small", "--set", "training.stesp=3"), "did you mean 'steps'"),
        (("train", "mnist_small", "--set", "training.time_knots=[[0.9,0.2],[0.5,0.4]]"), "rise"),
        (("train", "mnist_small", "--set", "flow={kind: continuous}"), "takes a discrete flow"),
        (("eval", "nothing"), "no benchmark model 'nothing'"),
        (("data", "imagenet"), "no data set 'imagenet'"),
        (("sample", "mnist", "-o", "gone/x.png"), "gone"),
        (("sample", "mnist", "-o", "x.pdf"), "a PNG image; its name must end in .png"),
        (("sample", "text8_small", "-o", "x.png"), "text; its name must not end in .png"),
        (("sample", "text8_small", "-o", "data"), "data: is a folder; give the name of a file"),
        (("curve", "nowhere"), "no benchmark model 'nowhere/model'"),
        (("table",), "no figures; run 'molbfn bench eval' first"),
    ],
)
def test_mistakes_are_one_line(refused, digits, arguments, message):
    assert message in refused("bench", *arguments)


def test_mistakes_about_a_model(molbfn, refused, digits):
    assert molbfn("bench", "train", "mnist_small", "--device", "cpu", *SET).code == 0
    run = digits.parents[1] / "runs" / "bench" / "mnist_small"
    (run / "metrics.csv").write_text("step,train/loss\n")
    assert "has no log of 'molbfn bench train'" in refused("bench", "curve", run)
    cases = [
        (("eval", "--steps", "many"), "--steps many: expected whole numbers and inf, such as inf,"),
        (("eval", "--steps", "0"), "--steps 0: expected whole numbers"),
        (("eval", "--split", "tset"), "use one of train, valid, test"),
        (("eval", "--quality", "--samplers", "eular"), "no sampler 'eular'"),
        (("eval", "--quality", "--fid"), "for colour images only"),
        (("eval", "--quality", "--passes", 3), "--passes: counts without --quality only"),
        (("eval", "--calls", "10"), "--calls: counts with --quality only"),
        (("eval", "-n", 10), "-n: counts with --quality only"),
        (("eval", "--probes", 2), "--probes: counts with --flow-bound only"),
        (("eval", "--flow-bound", "--repeats", 2), "--repeats: counts without --flow-bound only"),
        (("eval", "--flow-bound", "--quality"), "--quality and --flow-bound: give one of them"),
        (("eval", "--flow-bound", "--steps", "inf"), "--steps inf"),
        (("eval", "--flow-bound", "--eta", 2), "--eta 2: a time between 0 and 1"),
        (("sample", "--sampler", "ode2s", "--calls", 4), "so 3 or 5"),
        (("sample", "--sampler", "ode3"), "no sampler 'ode3'"),
    ]
    for (command, *options), message in cases:
        assert message in refused("bench", command, "mnist_small", "--device", "cpu", *options)


def test_a_benchmark_of_ones_own(molbfn, refused, digits, tmp_path):
    """Its run is found by the name in the file, whatever the file is called."""
    text = "name: mine\nnetwork: {width: 8, inner_width: 8, blocks: 1, inner_blocks: 1}\n"
    (tmp_path / "file.yaml").write_text(text)
    settings = [part for value in TINY if "network" not in value for part in ("--set", value)]
    trained = molbfn("bench", "train", "file.yaml", "--device", "cpu", *settings)
    assert trained.code == 0, trained.err
    pytest.importorskip("PIL")
    drawn = molbfn("bench", "sample", "file.yaml", "-n", 1, "--calls", 2)
    assert drawn.code == 0, drawn.err
    assert (tmp_path / "mine.png").is_file()
    measured = molbfn("bench", "eval", "file.yaml", "--steps", "inf", "--passes", 2)
    assert measured.code == 0, measured.err
    model = "runs/bench/mine/model"
    message = refused("bench", "eval", "mnist_small", "--model", model)
    assert "a model of 'mine', not 'mnist_small'; give mine as the name" in message


def test_published_weights_become_a_model(molbfn, refused, digits, tmp_path, monkeypatch):
    import torch

    from molbfn.benchmarks import official
    from molbfn.benchmarks.config import BenchConfig
    from molbfn.benchmarks.model import build_network
    from molbfn.config_file import parse_config

    small = {"name": "mnist", "network": {"kind": "binary_unet", "width": 32}}
    config = parse_config(BenchConfig, small, where="x")
    weights = {f"net.{key}": w for key, w in build_network(config).state_dict().items()}
    torch.save(weights, tmp_path / "mnist_ema.pt")
    # The bundled config has the paper's width: weights of a smaller network do not fit.
    assert "needs (" in refused("bench", "import", "mnist", tmp_path / "mnist_ema.pt")
    plain = official.import_checkpoint
    monkeypatch.setattr(official, "import_checkpoint", lambda _, path: plain(config, path))
    result = molbfn("bench", "import", "mnist", tmp_path / "mnist_ema.pt")
    assert result.code == 0, result.err
    assert "next: molbfn bench eval mnist --model mnist_published" in result.out
    assert "mnist_published: holds a model already" in refused(
        "bench", "import", "mnist", tmp_path / "mnist_ema.pt"
    )
    drawn = molbfn("bench", "sample", "mnist", "-m", "mnist_published", "-n", 1, "--calls", 2)
    assert drawn.code == 0, drawn.err
