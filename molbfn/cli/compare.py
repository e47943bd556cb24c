"""`molbfn compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molbfn.cli.progress import ProgressBar
from molbfn.errors import UserError


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="SDF, XYZ or npz file, or a folder.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="What to compare it with.")],
    reference: Annotated[
        str | None,
        typer.Option(help="Data to measure novelty against: a name (qm9) or a file."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Part of the reference [default: train where it has splits]."),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.")] = None,
    problems: Annotated[
        Path | None, typer.Option(help="List unreadable records here (.csv, else JSON lines).")
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(help="edm (coordinates), bonds (those of the file, with charges), or all."),
    ] = "edm",
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Say what differs between two sets of molecules beyond noise.

    Exit code 3: some records could not be read; they count as failures.
    """
    from rich.console import Console

    from molbfn.cli.problems import problem_log
    from molbfn.evaluation.compare import COMPARABLE
    from molbfn.evaluation.compare import compare as run
    from molbfn.evaluation.compare_table import render, sentence

    for path in (json, problems):
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")
    with problem_log(problems) as log, ProgressBar("comparing") as bar:
        result = run(
            first,
            second,
            reference=reference,
            reference_split=split,
            protocols=list(COMPARABLE) if protocol == "all" else protocol.split(","),
            seed=seed,
            on_problem=log.add,
            progress=lambda label, done, total: bar.update(
                done, f"{done:,} molecules", total=total, label=label
            ),
        )
    console = Console()
    console.print(render(result))
    console.print(sentence(result), highlight=False)
    if json is not None:
        result.to_json(json)
    raise typer.Exit(log.exit_code(problems))
