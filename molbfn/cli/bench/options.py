"""Options that several of the benchmark commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FOLDER = Path("docs/benchmarks")
"""of the measured figures, below the current folder"""

Name = Annotated[str, typer.Argument(help="Benchmark (see list), or a YAML file.")]
ModelFolder = Annotated[
    Path | None,
    typer.Option("--model", "-m", help="Model folder [default: the run's, else the bundled one]."),
]
Seed = Annotated[int, typer.Option(help="Of all that is drawn.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Precision = Annotated[str, typer.Option(help="Of network calls: auto, fp32 or bf16.")]
Results = Annotated[Path, typer.Option(help="Folder of the measured figures.")]
