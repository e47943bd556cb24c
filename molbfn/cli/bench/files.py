"""`molbfn bench list`, `data` and `import`: what is here, and what comes from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molbfn.cli.bench.models import read_settings
from molbfn.cli.progress import ProgressBar
from molbfn.errors import UserError


def list_benchmarks() -> None:
    """Show the benchmarks, the papers' figures, and which data and models are here."""
    from molbfn.benchmarks.data.files import NAMES, locate
    from molbfn.benchmarks.model import bundled_models
    from molbfn.benchmarks.results import published
    from molbfn.config_file import bundled_configs

    figures = {row["benchmark"]: row for row in published()["bounds"]}
    models = bundled_models()
    print("benchmarks (paper's settings, and _small ones for a CPU):")
    for name in bundled_configs("bench"):
        row = figures.get(name)
        paper = f"paper {row['value']} {row['unit']}" if row else ""
        print(f"  {name:<24}{'model bundled' if name in models else '':<16}{paper}".rstrip())
    print("data:")
    for name in NAMES:
        try:
            print(f"  {name:<24}{locate(name)}")
        except UserError:
            print(f"  {name:<24}not here: molbfn bench data {name}")


def data(
    name: Annotated[str, typer.Argument(help="mnist, cifar10 or text8.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder [default: user cache].")
    ] = None,
) -> None:
    """Download a data set, checked against its checksum."""
    from molbfn.benchmarks.data.files import download

    with ProgressBar("downloading") as bar:
        folder = download(
            name,
            output,
            progress=lambda done, total: bar.update(done, f"{done / 1e6:.0f} MB", total=total),
        )
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def import_weights(
    name: Annotated[str, typer.Argument(help="A benchmark at the paper's settings.")],
    file: Annotated[Path, typer.Argument(help="The published weights, such as mnist_ema.pt.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Model folder [default: NAME_published].")
    ] = None,
) -> None:
    """Turn weights published with the paper into a model that the other commands take."""
    settings = read_settings(name)
    folder = output or Path(f"{settings.name}_published")
    if (folder / "config.json").exists():
        raise UserError(f"{folder}: holds a model already; give another --output")

    from molbfn.benchmarks.official import import_checkpoint

    import_checkpoint(settings, file).save(folder)
    print(f"{folder}: {file.name} as a model of {settings.name}")
    print(f"next: molbfn bench eval {name} --model {folder}")
