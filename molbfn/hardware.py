"""What the hardware is called, for records."""

from __future__ import annotations

import platform
from pathlib import Path

import torch


def describe_device(device: torch.device | str) -> str:
    """Return the name of a GPU, or of the processor with the threads that it computes with."""
    device = torch.device(device)
    if device.type != "cpu":
        return device_name(device)
    threads = torch.get_num_threads()
    return f"{processor_name()}, {threads} thread{'s' if threads > 1 else ''}"


def processor_name() -> str:
    """Model of the CPU as the system names it, with family and model number where known."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine()
    first = info.read_text().split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in pairs}
    name = fields.get("model name", platform.machine())
    if "cpu family" not in fields:
        return name
    return f"{name} (family {fields['cpu family']}, model {fields.get('model', '?')})"


def device_name(device: torch.device | str) -> str:
    """Name of the accelerator, or the device itself."""
    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
