"""`molbfn bench speed` and `table`: the network's speed, and the tables of all figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molbfn.cli.bench.models import read_settings
from molbfn.cli.bench.options import FOLDER, Device, Name, Results
from molbfn.cli.progress import ProgressBar


def speed(
    name: Name,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Samples a batch [default: the config's].")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Each times every variant once.")] = 5,
    device: Device = "auto",
    results: Results = FOLDER,
) -> None:
    """Time the network of a config as we run it, against running it plainly."""
    from molbfn.benchmarks import evaluation
    from molbfn.benchmarks.model import BenchInfo, BenchModel
    from molbfn.devices import choose_device

    settings = read_settings(name)
    info = BenchInfo(config=settings.model(), provenance={})
    with ProgressBar("timing") as bar:
        report = evaluation.evaluate_speed(
            BenchModel(info).to(choose_device(device)),
            results=results,
            batch_size=batch_size or settings.training.batch_size,
            rounds=rounds,
            progress=lambda done, total, text: bar.update(done, text, total=total),
        )
    print("\n".join(report.lines))
    print(f"kept in {report.path}; 'molbfn bench table' makes the tables")


def table(
    results: Results = FOLDER,
    output: Annotated[Path, typer.Option("--output", "-o", help="Markdown to write.")] = Path(
        "docs/benchmarks.md"
    ),
) -> None:
    """Make the tables and curves of all measured figures, beside the papers' own."""
    from molbfn.benchmarks.table import write_tables

    for path in write_tables(results, output):
        print(path)
