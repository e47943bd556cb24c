"""`molbfn doctor`."""

from __future__ import annotations

from collections.abc import Iterator

_PACKAGES = (
    "molbfn",
    "torch",
    "lightning",
    "torch_geometric",
    "rdkit",
    "numpy",
    "pandas",
    "e3nn",
)
#: Extra -> its packages; one that several have stands at the first.
OPTIONAL = {
    "eval": ("posebusters", "tblite", "fcd_torch"),
    "bench": ("matplotlib", "pillow", "spylls"),
    "fid": ("torch-fidelity", "torchvision"),
    "dev": ("hypothesis", "mypy", "playwright", "pytest", "ruff"),
}


def doctor() -> None:
    """Show versions, optional packages, devices, bundled models and the data that was found."""
    for part in (_versions, _optional, _devices, _models, _data):
        for line in part():
            print(line, flush=True)


def _versions() -> Iterator[str]:
    import platform

    from molbfn.versions import installed_version

    yield f"Python {platform.python_version()} on {platform.platform()}"
    for name in _PACKAGES:
        yield f"  {name} {installed_version(name) or 'not installed'}"


def _optional() -> Iterator[str]:
    from molbfn.versions import installed_version

    yield "Optional packages"
    for extra, packages in OPTIONAL.items():
        for name in packages:
            version = installed_version(name)
            if version:
                yield f"  {name} {version} (molbfn[{extra}])"
            else:
                yield f"  {name} not installed: pip install 'molbfn[{extra}]'"


def _devices() -> Iterator[str]:
    import os

    import torch

    from molbfn.devices import choose_device, choose_precision

    yield "Devices"
    yield (
        f"  cpu: {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{choose_precision('auto', torch.device('cpu'))} by default"
    )
    for index in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(index).total_memory / 2**30
        yield f"  cuda:{index}: {torch.cuda.get_device_name(index)}, {memory:.0f} GiB"
    if torch.backends.mps.is_available():
        yield "  mps: Apple GPU"
    yield f"  --device auto takes: {choose_device('auto')}"


def _models() -> Iterator[str]:
    from molbfn.model import bundled_models

    yield "Bundled models"
    models = bundled_models()
    for name, folder in models.items():
        yield f"  {name}: {folder}"
    if not models:
        yield "  none; train one with `molbfn train` and give its folder to --model"


def _data() -> Iterator[str]:
    from molbfn.data.locate import available_datasets

    yield "Data sets"
    found = available_datasets()
    for name, path in found.items():
        yield f"  {name}: {path}"
    if "qm9" not in found:
        yield "  qm9: not found; `molbfn data qm9` downloads it"
