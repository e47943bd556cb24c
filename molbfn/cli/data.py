"""`molbfn data`: data sets in and out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molbfn.errors import UserError

if TYPE_CHECKING:
    from molbfn.data.prepare import PrepareReport

app = typer.Typer(help="Prepare data sets.", no_args_is_help=True)


@app.command("prepare")
def prepare(
    files: Annotated[list[Path], typer.Argument(help="SDF, XYZ or npz files, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The npz data set to write.")],
    elements: Annotated[
        str | None, typer.Option(help="Keep molecules of these elements only: H,C,N,O.")
    ] = None,
    max_atoms: Annotated[
        int | None, typer.Option(min=1, help="Leave out larger molecules.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random split.")] = 0,
    fractions: Annotated[
        str, typer.Option(help="Shares of train, valid and test.")
    ] = "0.8,0.1,0.1",
) -> None:
    """Turn molecule files into a data set for training; reports what was left out and why."""
    from molbfn.data.prepare import prepare as run

    report = run(
        files,
        output,
        elements=[name.strip() for name in elements.split(",")] if elements else None,
        max_atoms=max_atoms,
        seed=seed,
        fractions=_fractions(fractions),
    )
    _print(report)


@app.command("qm9")
def qm9(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="npz to write [default: user cache].")
    ] = None,
    from_dir: Annotated[
        Path | None,
        typer.Option(
            help="Use files that are there: gdb9.sdf, gdb9.sdf.csv and uncharacterized.txt, or "
            "the folder of a torch_geometric QM9."
        ),
    ] = None,
) -> None:
    """Download QM9 (or take it from a folder) and prepare it with EDM's split."""
    from rich.console import Console
    from rich.progress import Progress

    from molbfn.data.qm9 import prepare_qm9

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("downloading", total=None)
        report = prepare_qm9(
            output,
            from_dir=from_dir,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    print(report)


def _fractions(text: str) -> tuple[float, float, float]:
    try:
        train, valid, test = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"--fractions {text}: expected three numbers that add up to 1, such as 0.8,0.1,0.1"
        ) from None
    return train, valid, test


def _print(report: PrepareReport) -> None:
    print(report)
