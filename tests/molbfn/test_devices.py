import pytest
import torch

from molbfn.devices import (
    autocast,
    choose_accelerator,
    choose_device,
    choose_precision,
    compile_problem,
    several_devices,
)
from molbfn.errors import UserError


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that this machine has so many CUDA GPUs."""

    def set_count(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return set_count


def test_auto_takes_a_gpu_where_there_is_one(gpus):
    gpus(0)
    assert choose_device() == torch.device("cpu")
    assert choose_accelerator() == "cpu"
    gpus(1)
    assert choose_device() == torch.device("cuda")
    assert choose_accelerator() == "cuda"


def test_devices_by_name(gpus):
    gpus(2)
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_accelerator("cuda", count=2) == "cuda"
    assert choose_accelerator("cpu", count=64) == "cpu"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda", "no usable CUDA GPU; use --device cpu"),
        ("cuda:1", "no usable CUDA GPU"),
        ("gpu", "--device gpu: unknown; use auto, cpu, cuda"),
        ("", "--device : unknown"),
        ("cuda:-1", "--device cuda:-1: unknown"),
        ("meta", "--device meta: not supported"),
        ("mps", "no usable Apple GPU"),
    ],
)
def test_what_is_not_there_is_refused(gpus, monkeypatch, name, message):
    gpus(0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        choose_device(name)


def test_more_gpus_than_there_are_is_refused(gpus):
    gpus(2)
    with pytest.raises(UserError, match="cuda:2: needs 3 CUDA GPUs, this machine has 2"):
        choose_device("cuda:2")
    with pytest.raises(UserError, match="cuda: needs 3 CUDA GPUs, this machine has 2"):
        choose_accelerator("cuda", count=3)
    with pytest.raises(UserError, match="auto: needs 3 CUDA GPUs"):
        choose_accelerator("auto", count=3)


@pytest.mark.parametrize("name", ["cuda:0", "gpu", "tpu"])
def test_accelerators_are_kinds_of_devices(name):
    with pytest.raises(UserError, match=f"--device {name}: use auto, cpu, cuda or mps"):
        choose_accelerator(name)


def test_there_is_one_apple_gpu(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_accelerator("mps") == "mps"
    with pytest.raises(UserError, match="--devices 2"):
        choose_accelerator("mps", count=2)


@pytest.mark.parametrize("capable", [True, False])
def test_automatic_precision_follows_the_hardware(monkeypatch, capable):
    expected = "bf16" if capable else "fp32"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: capable)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: capable)
    assert choose_precision("auto", torch.device("cpu")) == expected
    assert choose_precision("auto", torch.device("cuda")) == expected
    assert choose_precision("auto", torch.device("mps")) == "fp32"


def test_precision_by_name():
    cpu = torch.device("cpu")
    assert choose_precision("bf16", cpu) == "bf16"
    assert choose_precision("fp32", cpu) == "fp32"
    with pytest.raises(UserError, match="--precision fp16: use auto, fp32 or bf16"):
        choose_precision("fp16", cpu)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_autocast_sets_what_a_linear_layer_computes_in(precision, dtype):
    with autocast(precision, torch.device("cpu")):
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("InvalidCxxCompiler: none found.\nand much more"),
         "InvalidCxxCompiler: none found"),
        (AssertionError(), "AssertionError"),
    ],
)  # fmt: skip
def test_a_problem_of_the_compiler_is_one_line(monkeypatch, error, reason):
    def broken(function):
        raise error

    monkeypatch.setattr(torch, "compile", broken)
    assert compile_problem(torch.device("cpu")) == reason


def test_several_devices():
    assert several_devices(torch.device("cpu"), 1) == ("cpu",)
    assert several_devices(torch.device("cpu"), 3) == ("cpu", "cpu", "cpu")
    with pytest.raises(UserError, match="--devices 0: must be at least 1"):
        several_devices(torch.device("cpu"), 0)
    with pytest.raises(UserError, match="--devices 2: does not go with --device cuda:1"):
        several_devices(torch.device("cuda:1"), 2)


def test_several_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert several_devices(torch.device("cuda"), 2) == ("cuda:0", "cuda:1")
    with pytest.raises(UserError, match="needs 3 CUDA GPUs, this machine has 2"):
        several_devices(torch.device("cuda"), 3)
