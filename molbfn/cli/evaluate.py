"""`molbfn evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molbfn.cli.progress import ProgressBar
from molbfn.errors import UserError


def evaluate(
    files: Annotated[
        list[Path], typer.Argument(help="SDF, XYZ or npz files, folders of them, or data sets.")
    ],
    reference: Annotated[
        str | None,
        typer.Option(help="Data to measure novelty against: a name (qm9) or a file."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Part of the reference [default: train where it has splits]."),
    ] = None,
    novelty: Annotated[
        str,
        typer.Option(help="Compare by smiles, distances or both; auto takes the reference's own."),
    ] = "auto",
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table to this file.")] = None,
    problems: Annotated[
        Path | None, typer.Option(help="List unreadable records here (.csv, else JSON lines).")
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(help="edm (coordinates), bonds (those of the file, with charges), or all."),
    ] = "edm",
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Measure molecules by their coordinates or their bonds; works on any program's files.

    Exit code 3: some records could not be read; they count as failures.
    """
    from rich.console import Console

    from molbfn.cli.problems import problem_log, without_repeats
    from molbfn.evaluation import PROTOCOLS, render, render_composition
    from molbfn.evaluation import evaluate as run

    for path in (json, csv, problems):
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")
    with problem_log(problems) as log, ProgressBar("evaluating") as bar:
        result = run(
            without_repeats(files),
            on_problem=log.add,
            reference=reference,
            reference_split=split,
            novelty=novelty,
            protocols=list(PROTOCOLS) if protocol == "all" else protocol.split(","),
            seed=seed,
            progress=lambda label, done, total: bar.update(
                done, f"{done:,} molecules", total=total, label=label
            ),
        )
    console = Console()
    console.print(render(result))
    console.print(render_composition(result))
    if json is not None:
        result.to_json(json)
    if csv is not None:
        result.to_csv(csv)
    raise typer.Exit(log.exit_code(problems))
