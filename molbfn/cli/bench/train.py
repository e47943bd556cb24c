"""`molbfn bench train` and `curve`: a training and what is kept of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molbfn.cli.bench.models import read_settings, run_folder
from molbfn.cli.bench.options import FOLDER, Device, Name, Results
from molbfn.cli.runs import (
    Devices,
    Nodes,
    Overrides,
    PrintConfig,
    Profile,
    Resume,
    check_config_file,
    show_config,
    tell_result,
)
from molbfn.errors import UserError


def train(
    name: Name,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run folder [default: runs/bench/NAME].")
    ] = None,
    resume: Resume = False,
    overrides: Overrides = None,
    print_config: PrintConfig = False,
    device: Device = "auto",
    devices: Devices = 1,
    nodes: Nodes = 1,
    profile: Profile = None,
) -> None:
    """Train a benchmark's model; leaves checkpoints, logs and the model in the run folder."""
    check_config_file(Path(name), devices=devices)
    settings = read_settings(name, overrides)
    if print_config:
        show_config(settings)
        return
    folder = output or run_folder(settings.name)

    from molbfn.allocator import keep_memory
    from molbfn.benchmarks.training import train as run

    keep_memory()
    result = run(
        settings,
        folder,
        resume=resume,
        accelerator=device,
        devices=devices,
        nodes=nodes,
        profile=profile,
    )
    tell_result(result, folder, steps=settings.training.steps, unit="nats per element")
    print(f"next: molbfn bench eval {settings.name} --model {result.model}")


def curve(
    run: Annotated[Path, typer.Argument(help="Run folder of bench train.")],
    results: Results = FOLDER,
) -> None:
    """Keep the curve of a run's training; bench eval does so where it measures the run's model."""
    from molbfn.benchmarks.model import load_bench_model
    from molbfn.benchmarks.training_curve import keep_curve

    kept = keep_curve(load_bench_model(run / "model"), run, results)
    if kept is None:
        raise UserError(f"{run}: has no log of 'molbfn bench train'")
    print("\n".join([f"kept in {kept.path}; 'molbfn bench table' draws it", *kept.notes]))
