"""What a measurement depends on: processor, threads, versions, and how fast a GEMM runs now."""

from __future__ import annotations

import os
import platform
import time

import torch

from molbfn.hardware import device_name, processor_name

GEMM_ROWS, GEMM_WIDTH = 20_000, 256
PEAK_SIZE = 2048
_REPEATS = 5
_ALLOCATOR = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")


def describe_machine(device: str = "cpu") -> dict[str, object]:
    """Return the hardware and software of this process, as JSON types."""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {
        "processor": processor_name(),
        "device": device_name(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "allocator": {name: os.environ[name] for name in _ALLOCATOR if name in os.environ},
        "load average before": load,
    }


def wait(device: str) -> None:
    """Block until the device has finished what it was given."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def gemm_gflops(
    dtype: torch.dtype, device: str = "cpu", *, rows: int = GEMM_ROWS, width: int = GEMM_WIDTH
) -> float:
    """Return the best GFLOP/s of a few products [rows, width] x [width, width].

    Of ``PEAK_SIZE`` rows and columns it is about the most that the machine gives now.
    """
    x = torch.randn(rows, width, device=device).to(dtype)
    weight = torch.randn(width, width, device=device).to(dtype)
    seconds = []
    for _ in range(_REPEATS):
        wait(device)
        start = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        wait(device)
        seconds.append(time.perf_counter() - start)
    return 2 * rows * width**2 / min(seconds) / 1e9
