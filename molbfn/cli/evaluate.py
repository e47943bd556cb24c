"""`molbfn evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molbfn.cli.inputs import located
from molbfn.cli.outputs import check_folders, check_outputs, check_replaced
from molbfn.cli.progress import ProgressBar
from molbfn.cli.slow import (
    AgreementSample,
    Cache,
    PhysicsSample,
    PoseBustersSample,
    SimilaritySample,
    Timeout,
    Workers,
    samples,
    settings,
)


def evaluate(
    files: Annotated[
        list[str],  # a Path would take "./qm9" for the name of a data set
        typer.Argument(help="SDF, XYZ, npz or RDKit pickle files, folders of them, or data sets."),
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
    physics_sample: PhysicsSample = None,
    posebusters_sample: PoseBustersSample = None,
    agreement_sample: AgreementSample = None,
    similarity_sample: SimilaritySample = None,
    cache: Cache = None,
    timeout: Timeout = None,
    workers: Workers = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and the samples.")] = 0,
) -> None:
    """Measure molecules by their coordinates or their bonds; works on any program's files.

    Exit code 3: some records could not be read; they count as failures.
    """
    from rich.console import Console

    from molbfn.cli.problems import problem_log, without_repeats
    from molbfn.evaluation import evaluate as run
    from molbfn.evaluation import tables

    paths = located(files)
    check_folders(json, csv, problems, cache)
    check_outputs(
        {"--json": json, "--csv": csv, "--problems": problems, "--cache": cache},
        [*paths, *located([reference])],
    )
    check_replaced(json, csv)
    protocols = protocol.split(",")
    with problem_log(problems) as log, ProgressBar("evaluating") as bar:
        result = run(
            without_repeats(paths),
            on_problem=log.add,
            reference=reference,
            reference_split=split,
            novelty=novelty,
            protocols=protocols,
            samples=samples(
                physics=physics_sample,
                posebusters=posebusters_sample,
                agreement=agreement_sample,
                similarity=similarity_sample,
            ),
            settings=settings(timeout, workers, cache, protocols=protocols),
            seed=seed,
            progress=lambda label, done, total: bar.update(
                done, f"{done:,} molecules", total=total, label=label
            ),
        )
    console = Console()
    try:  # the files first: printing fails where the other end of a pipe is gone
        if json is not None:
            result.to_json(json)
        if csv is not None:
            result.to_csv(csv)
    finally:  # a full disk does not take the table along
        for table in tables(result):
            console.print(table)
    raise typer.Exit(log.exit_code(problems))
