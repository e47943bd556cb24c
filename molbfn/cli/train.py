"""`molbfn train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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


def train(
    config: Annotated[
        Path,
        typer.Argument(
            help="YAML file, or a bundled config: demo, qm9_small, qm9, qm9_geobfn, geom_drugs."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run folder [default: runs/NAME].")
    ] = None,
    resume: Resume = False,
    overrides: Overrides = None,
    print_config: PrintConfig = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    devices: Devices = 1,
    nodes: Nodes = 1,
    profile: Profile = None,
) -> None:
    """Train a model from a config file; leaves checkpoints, logs and the model in the folder."""
    from molbfn.config_file import load_config

    check_config_file(config, devices=devices)
    settings = load_config(config, overrides or [])
    if print_config:
        show_config(settings)
        return
    folder = output or Path("runs") / settings.name

    from molbfn.allocator import keep_memory
    from molbfn.training.job import train as run

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
    tell_result(result, folder, steps=settings.training.steps, unit="nats per atom")
    print(f"  model: {result.model}")
    print(f"next: molbfn generate --model {result.model} -n 100 -o molecules.sdf")
