"""`molbfn bench sample`: pictures or text from a benchmark's model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molbfn.cli.bench.models import described, load, source_of
from molbfn.cli.bench.options import Device, ModelFolder, Name, Precision, Seed
from molbfn.cli.progress import ProgressBar
from molbfn.errors import UserError


def sample(
    name: Name,
    model: ModelFolder = None,
    count: Annotated[int, typer.Option("-n", min=1, help="Number of samples.")] = 64,
    calls: Annotated[int, typer.Option(min=2, help="Network calls a sample.")] = 50,
    sampler: Annotated[
        str,
        typer.Option(
            help="original, sde1, sde2, ode1, ode2, ode2s (two calls a step: an odd --calls); "
            "sde2@0.85:0.6: 85 % of the steps to t = 0.6; sde2~0.001: starts at t = 0.001."
        ),
    ] = "sde2",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="PNG or text file [default: NAME.png or NAME.txt]."),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Draw samples: a PNG grid of images, or text."""
    network = load(name, model, device)

    from molbfn.atomic import check_replaceable
    from molbfn.benchmarks.pictures import write_samples
    from molbfn.benchmarks.sampling import draw_samples
    from molbfn.devices import choose_precision

    config = network.info.config
    text = config.data.kind == "text8"
    path = output or Path(f"{config.name}.{'txt' if text else 'png'}")
    if text == (path.suffix.lower() == ".png"):
        kind = "text; its name must not" if text else "a PNG image; its name must"
        raise UserError(f"{path}: what is written is {kind} end in .png")
    check_replaceable(path)
    with ProgressBar("sampling") as bar:
        drawn = draw_samples(
            network,
            count,
            calls=calls,
            sampler=sampler,
            seed=seed,
            precision=choose_precision(precision, network.device),
            progress=lambda done, total: bar.update(done, f"{done} calls", total=total),
        )
    write_samples(drawn, config, path)
    drawn_from = described(network, source_of(name, model))
    print(f"{path}: {count} samples of {drawn_from}, {calls} calls of {sampler}, seed {seed}")
