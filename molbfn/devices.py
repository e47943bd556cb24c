"""Where to compute, and in which precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from molbfn.errors import UserError

Precision = Literal["auto", "fp32", "bf16"]


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called ``name`` ("auto", "cpu", "cuda", "cuda:1", "mps").

    Raises:
        UserError: an unknown name, or a device this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device {name}: unknown; use auto, cpu, cuda, cuda:N or mps") from None
    if device.type not in {"cpu", "cuda", "mps"}:
        raise UserError(f"--device {name}: not supported; use auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda":
        _check_cuda(name, (device.index or 0) + 1)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"--device {name}: this machine has no usable Apple GPU; use --device cpu")
    return device


def several_devices(device: torch.device, count: int) -> tuple[str, ...]:
    """Return the names of ``count`` devices of a kind: GPUs, or as many processes on a CPU.

    Raises:
        UserError: count below 1, or more than this machine has.
    """
    if count < 1:
        raise UserError(f"--devices {count}: must be at least 1")
    if count == 1:
        return (str(device),)
    if device.index is not None:
        raise UserError(f"--devices {count}: does not go with --device {device}, a single one")
    choose_accelerator(device.type, count=count)
    if device.type == "cuda":
        return tuple(f"cuda:{k}" for k in range(count))
    return (device.type,) * count


def choose_accelerator(name: str = "auto", *, count: int = 1) -> str:
    """Return the kind of device to train on: "cpu", "cuda" or "mps".

    Args:
        name: "auto" or one of these.
        count: devices (processes on a CPU) wanted on this machine.

    Raises:
        UserError: an unknown name, or more devices than this machine has.
    """
    if name not in {"auto", "cpu", "cuda", "mps"}:
        raise UserError(f"--device {name}: use auto, cpu, cuda or mps (and --devices for how many)")
    kind = choose_device(name).type
    if kind == "cuda":
        _check_cuda(name, count)
    if kind == "mps" and count > 1:
        raise UserError(f"--devices {count}: there is one Apple GPU only")
    return kind


def _check_cuda(name: str, count: int) -> None:
    if not torch.cuda.is_available():
        raise UserError(
            f"--device {name}: this machine has no usable CUDA GPU; use --device cpu, or install "
            f"a torch build with CUDA"
        )
    found = torch.cuda.device_count()
    if count > found:
        raise UserError(f"--device {name}: needs {count} CUDA GPUs, this machine has {found}")


def choose_precision(name: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """Return the precision of network calls: "auto" is bf16 where the hardware multiplies it.

    Raises:
        UserError: an unknown name.
    """
    if name not in {"auto", "fp32", "bf16"}:
        raise UserError(f"--precision {name}: use auto, fp32 or bf16")
    if name != "auto":
        return name
    return "bf16" if multiplies_bf16(device) else "fp32"


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16; emulated, it is many times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return False


def lacks_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory ran out; torch's CPU allocator raises a plain one."""
    return isinstance(error, torch.OutOfMemoryError) or "t allocate memory" in str(error)


def compile_problem(device: torch.device) -> str | None:
    """Return why torch.compile does not work on a device, or None if it does."""
    try:
        torch.compile(lambda x: 2 * x + 1)(torch.ones(8, device=device))
    except Exception as error:  # whatever the compiler's parts raise, the answer is the same
        return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
    return None


def autocast(precision: Literal["fp32", "bf16"], device: torch.device) -> AbstractContextManager:
    """Return the context in which to call a network."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
