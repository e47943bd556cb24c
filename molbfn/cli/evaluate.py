"""`molbfn evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molbfn.cli.progress import ProgressBar
from molbfn.errors import UserError

if TYPE_CHECKING:
    from molbfn.evaluation import Settings


def evaluate(
    files: Annotated[
        list[Path], typer.Argument(help="SDF, XYZ or npz files, folders of them, or data sets.")
    ],
    reference: Annotated[
        str | None,
        typer.Option(help="Data to compare with: a name (qm9), or any file of molecules."),
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
        typer.Option(
            help="One or several, by commas: edm (coordinates), bonds (the file's own), revisited "
            "(aromatic valences), agreement (of bond routes), posebusters, physics (GFN2-xTB), "
            "similarity, distributions; all takes those whose packages are installed."
        ),
    ] = "edm",
    physics_sample: Annotated[
        int | None,
        typer.Option(help="Molecules that physics looks at, 0 for all [default: 200]."),
    ] = None,
    posebusters_sample: Annotated[
        int | None,
        typer.Option(help="Molecules that posebusters looks at, 0 for all [default: 100]."),
    ] = None,
    agreement_sample: Annotated[
        int | None,
        typer.Option(help="Molecules that agreement looks at, 0 for all [default: 500]."),
    ] = None,
    similarity_sample: Annotated[
        int | None,
        typer.Option(help="Molecules that similarity looks at, 0 for all [default: 1000]."),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Keep the results of the slow protocols here, to go on with them."),
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds for a molecule in a slow protocol; then it has failed.")
    ] = 60.0,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes of the slow protocols [default: one per core]."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and the samples.")] = 0,
) -> None:
    """Measure molecules by their coordinates or their bonds; works on any program's files.

    Exit code 3: some records could not be read; they count as failures.
    """
    from rich.console import Console

    from molbfn.cli.problems import problem_log, without_repeats
    from molbfn.evaluation import evaluate as run
    from molbfn.evaluation import tables

    for path in (json, csv, problems, cache):
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")
    with problem_log(problems) as log, ProgressBar("evaluating") as bar:
        result = run(
            without_repeats(files),
            on_problem=log.add,
            reference=reference,
            reference_split=split,
            novelty=novelty,
            protocols=protocol.split(","),
            samples=_samples(
                physics=physics_sample,
                posebusters=posebusters_sample,
                agreement=agreement_sample,
                similarity=similarity_sample,
            ),
            settings=_settings(timeout, workers, cache),
            seed=seed,
            progress=lambda label, done, total: bar.update(
                done, f"{done:,} molecules", total=total, label=label
            ),
        )
    console = Console()
    for table in tables(result):
        console.print(table)
    if json is not None:
        result.to_json(json)
    if csv is not None:
        result.to_csv(csv)
    raise typer.Exit(log.exit_code(problems))


def _samples(**sizes: int | None) -> dict[str, int | None]:
    """Return the samples that were asked for; 0 stands for all molecules."""
    for name, size in sizes.items():
        if size is not None and size < 0:
            raise UserError(f"--{name}-sample {size}: must not be negative (0 is all molecules)")
    return {name: size or None for name, size in sizes.items() if size is not None}


def _settings(timeout: float, workers: int | None, cache: Path | None) -> Settings:
    from molbfn.evaluation import Settings
    from molbfn.evaluation.sampled import usable_cores

    if not timeout > 0:
        raise UserError(f"--timeout {timeout:g}: must be above 0 seconds")
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: must be at least 1")
    return Settings(timeout=timeout, workers=workers or usable_cores(), cache=cache)
