import pytest
import torch

from molbfn import devices
from molbfn.benchmarks import speed
from molbfn.benchmarks.speed import DefaultLayout, measure_speed, variants
from molbfn.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def without_compiling(monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **__: None)
    monkeypatch.setattr(speed, "compile_problem", lambda device: None)


@pytest.mark.parametrize(
    "name",
    ["mnist", "mnist_small", "cifar10_continuous", "cifar10_16_small", "text8", "text8_small"],
)
def test_every_variant_is_timed(tiny_model, without_compiling, monkeypatch, name):
    model = tiny_model(name, *(["data.length=8"] if name.startswith("text8") else []))
    before, modes = model.fingerprint(), set()

    def watched(job, call):
        def run(model, network, data):
            modes.add((job, network.training))
            call(model, network, data)

        return run

    for job in ("_training_step", "_network_call"):
        monkeypatch.setattr(speed, job, watched(job, getattr(speed, job)))
    rows = measure_speed(model, batch_size=2, rounds=2)
    assert [(row["job"], row["variant"]) for row in rows] == [
        (job, variant.name) for job in speed.JOBS for variant in variants(CPU)
    ]
    for row in rows:
        assert row["samples_per_second"] > 0
        assert row["gain_min"] <= row["gain"] <= row["gain_max"]
        if row["variant"] == "plain":
            assert row["gain"] == 1
    assert model.fingerprint() == before
    assert modes == {("_training_step", True), ("_network_call", False)}


def test_without_a_compiler_there_is_nothing_to_compare(tiny_model, monkeypatch):
    monkeypatch.setattr(speed, "compile_problem", lambda device: "no compiler")
    with pytest.raises(UserError, match=r"bench speed: torch.compile does not work .*no compiler"):
        measure_speed(tiny_model("mnist_small"), batch_size=2, rounds=1)


@pytest.mark.parametrize("capable", [True, False])
def test_ours_is_what_the_hardware_multiplies(monkeypatch, capable):
    monkeypatch.setattr(devices, "multiplies_bf16", lambda device: capable)
    *others, ours = variants(CPU)
    assert ours.compiled
    assert ours.precision == ("bf16" if capable else "fp32")
    assert [v.name for v in others if v.precision == "bf16"] == ["and bf16"] * capable
    assert others[0].plain


def test_plain_means_the_default_layout_and_the_same_result():
    x = torch.randn(2, 5, 6, 3).permute(0, 3, 1, 2)
    weight = torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)
    free = torch.nn.functional.conv2d(x, weight, padding=1)
    with DefaultLayout():
        plain = torch.nn.functional.conv2d(x, weight, padding=1)
    assert free.is_contiguous(memory_format=torch.channels_last)
    assert plain.is_contiguous()
    torch.testing.assert_close(free, plain)


def test_gain_is_the_median_of_paired_ratios():
    seconds = {("network call", v.name): [1.0, 1.0, 1.0] for v in variants(CPU)}
    seconds["network call", "plain"] = [2.0, 3.0, 10.0]
    row = speed._row("network call", variants(CPU)[-1], seconds, 4)
    assert (row["gain"], row["gain_min"], row["gain_max"]) == (3.0, 2.0, 10.0)
    assert row["samples_per_second"] == 4
