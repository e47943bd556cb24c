"""`molbfn draw`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molbfn.cli.outputs import check_outputs


def draw(
    file: Annotated[Path, typer.Argument(help="SDF, XYZ, npz or pickle file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG file to write.")] = Path(
        "grid.png"
    ),
    n: Annotated[int, typer.Option("-n", "--n", "--number", help="Molecules to draw.")] = 30,
    columns: Annotated[int, typer.Option(help="Drawings side by side.")] = 6,
) -> None:
    """Draw the first molecules of a file as a grid, failed ones with the reason."""
    from molbfn.report.draw import draw_grid

    check_outputs({"--output": output}, [file])
    drawn = draw_grid(file, output, n=n, columns=columns)
    print(f"{output}: {drawn} molecules")
