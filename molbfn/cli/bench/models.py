"""From the name of a benchmark to its settings and its model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from molbfn.errors import UserError

if TYPE_CHECKING:
    from molbfn.benchmarks.config import BenchConfig
    from molbfn.benchmarks.model import BenchModel


def read_settings(name: str, overrides: list[str] | None = None) -> BenchConfig:
    """Return the settings of a benchmark, or of a YAML file, with the overrides.

    Raises:
        UserError: there is no such benchmark, or a value that it does not take.
    """
    from molbfn.benchmarks.config import BenchConfig
    from molbfn.config_file import bundled_configs, read_config

    return read_config(BenchConfig, name, overrides or [], bundled=bundled_configs("bench"))


def run_folder(name: str) -> Path:
    """Return where a benchmark is trained if nothing else is asked for."""
    return Path("runs") / "bench" / name


def load(name: str, folder: Path | None, device: str) -> BenchModel:
    """Load the given model, what a run has left, or the bundled one of that name.

    Raises:
        UserError: there is none, or the given one is of another benchmark.
    """
    from molbfn.benchmarks.model import load_bench_model
    from molbfn.devices import choose_device

    model = load_bench_model(source_of(name, folder), device=choose_device(device))
    made = model.info.config.name
    if folder is not None and made != (wanted := _benchmark(name)):
        raise UserError(f"{folder}: a model of '{made}', not '{wanted}'; give {made} as the name")
    return model


def source_of(name: str, folder: Path | None) -> str | Path:
    """Return the model's folder, or the name of a bundled one."""
    from molbfn.benchmarks.model import bundled_models

    if folder is not None:
        return folder
    wanted = _benchmark(name)
    run, bundled = run_folder(wanted) / "model", bundled_models()
    if (run / "config.json").is_file():
        return run
    return next((n for n in (wanted, f"{wanted}_small") if n in bundled), wanted)


def described(model: BenchModel, source: str | Path) -> str:
    """Say which model it is, where it comes from, and its size."""
    count = sum(p.numel() for p in model.network.parameters())
    origin = source if isinstance(source, Path) else "bundled"
    return f"{model.info.config.name} ({origin}, {count:,} parameters)"


def _benchmark(name: str) -> str:
    """Return the benchmark's name: itself, or what its YAML file says."""
    if Path(name).suffix in (".yaml", ".yml"):
        return read_settings(name).name
    return name
