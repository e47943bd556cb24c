"""`molbfn doctor`."""

from __future__ import annotations


def doctor() -> None:
    """Show versions, devices, bundled models and the data that was found."""
    import os
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from molbfn.data.locate import available_datasets
    from molbfn.devices import choose_device, choose_precision
    from molbfn.model import bundled_models

    print(f"Python {platform.python_version()} on {platform.platform()}")
    for name in ("molbfn", "torch", "lightning", "torch_geometric", "rdkit", "numpy", "e3nn"):
        try:
            print(f"  {name} {version(name)}")
        except PackageNotFoundError:
            print(f"  {name} not installed")
    print("Devices")
    cpu = torch.device("cpu")
    print(
        f"  cpu: {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{choose_precision('auto', cpu)} by default"
    )
    for index in range(torch.cuda.device_count()):
        print(f"  cuda:{index}: {torch.cuda.get_device_name(index)}")
    if torch.backends.mps.is_available():
        print("  mps: Apple GPU")
    print(f"  --device auto takes: {choose_device('auto')}")
    print("Bundled models")
    for name, folder in bundled_models().items():
        print(f"  {name}: {folder}")
    print("Data sets")
    found = available_datasets()
    for name, path in found.items():
        print(f"  {name}: {path}")
    if "qm9" not in found:
        print("  qm9: not found; `molbfn data qm9` downloads it")
