"""`molbfn compare`."""

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
    Timeout,
    Workers,
    samples,
    settings,
)


def compare(
    first: Annotated[
        str,  # a Path would take "./qm9" for the name of a data set
        typer.Argument(metavar="A", help="Molecule file, folder or data set, see evaluate."),
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="What to compare it with.")],
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
        typer.Option(
            help="One or several, by commas: edm (coordinates), bonds (the file's own), revisited "
            "(aromatic valences), agreement (of bond routes), posebusters, physics (GFN2-xTB); "
            "all takes those whose packages are installed."
        ),
    ] = "edm",
    physics_sample: PhysicsSample = None,
    posebusters_sample: PoseBustersSample = None,
    agreement_sample: AgreementSample = None,
    cache: Cache = None,
    timeout: Timeout = None,
    workers: Workers = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and the samples.")] = 0,
) -> None:
    """Say what differs between two sets of molecules beyond noise.

    Exit code 3: some records could not be read; they count as failures.
    """
    from rich.console import Console

    from molbfn.cli.problems import problem_log, without_repeats
    from molbfn.evaluation.compare import compare as run
    from molbfn.evaluation.compare_table import sentence, tables

    paths = located([first, second])
    check_folders(json, problems, cache)
    check_outputs(
        {"--json": json, "--problems": problems, "--cache": cache},
        [*paths, *located([reference])],
    )
    check_replaced(json)
    for path in paths:
        without_repeats([path])  # the reader leaves them out
    protocols = protocol.split(",")
    with problem_log(problems) as log, ProgressBar("comparing") as bar:
        result = run(
            *paths,
            reference=reference,
            reference_split=split,
            protocols=protocols,
            samples=samples(
                physics=physics_sample,
                posebusters=posebusters_sample,
                agreement=agreement_sample,
            ),
            settings=settings(timeout, workers, cache, protocols=protocols),
            seed=seed,
            on_problem=log.add,
            progress=lambda label, done, total: bar.update(
                done, f"{done:,} molecules", total=total, label=label
            ),
        )
    console = Console()
    try:  # the file first: printing fails where the other end of a pipe is gone
        if json is not None:
            result.to_json(json)
    finally:  # a full disk does not take the table along
        for table in tables(result):
            console.print(table)
        console.print(sentence(result), highlight=False)
    raise typer.Exit(log.exit_code(problems))
