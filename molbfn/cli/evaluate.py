"""`molbfn evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    files: Annotated[list[Path], typer.Argument(help="SDF, XYZ or npz files, or folders of them.")],
    reference: Annotated[
        str | None,
        typer.Option(help="Data to measure novelty against: a name (qm9) or a file."),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all figures to this file.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the table to this file.")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Measure molecules with the EDM protocol; works on any program's files."""
    from rich.console import Console

    from molbfn.evaluation.run import evaluate as run
    from molbfn.evaluation.table import render

    result = run(files, reference=reference, seed=seed)
    Console().print(render(result))
    if json is not None:
        result.to_json(json)
    if csv is not None:
        result.to_csv(csv)
