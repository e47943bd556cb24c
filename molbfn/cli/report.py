"""`molbfn report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molbfn.cli.inputs import located
from molbfn.cli.outputs import check_folders, check_outputs
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


def report(
    files: Annotated[
        list[str],  # a Path would take "./qm9" for the name of a data set
        typer.Argument(
            help="SDF, XYZ, npz or pickle files, or data sets; they stand side by side."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML file to write.")] = Path(
        "report.html"
    ),
    reference: Annotated[
        str | None,
        typer.Option(help="Data to compare with: a name (qm9), or any file of molecules."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Part of the reference [default: train where it has splits]."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="More protocols of 'molbfn evaluate', by commas; edm, bonds and distributions "
            "are always there. physics and posebusters also give a number to each molecule that "
            "they look at."
        ),
    ] = None,
    n: Annotated[
        int, typer.Option("-n", "--number", help="Molecules of each file shown one by one.")
    ] = 1000,
    physics_sample: PhysicsSample = None,
    posebusters_sample: PoseBustersSample = None,
    agreement_sample: AgreementSample = None,
    similarity_sample: SimilaritySample = None,
    cache: Cache = None,
    timeout: Timeout = None,
    workers: Workers = None,
    title: Annotated[str | None, typer.Option(help="Of the page [default: file names].")] = None,
    seed: Annotated[int, typer.Option(help="Of the intervals and the samples.")] = 0,
) -> None:
    """Write one HTML file with figures, distributions and all molecules to look at."""
    from molbfn.cli.problems import without_repeats
    from molbfn.report.page import ReportOptions, write_report

    paths = located(files)
    check_folders(cache)
    check_outputs({"--output": output, "--cache": cache}, [*paths, *located([reference])])
    for path in paths:
        without_repeats([path])  # the reader leaves them out; two columns may show the same file
    protocols = tuple(protocol.split(",")) if protocol else ()
    options = ReportOptions(
        reference=reference,
        reference_split=split,
        protocols=protocols,
        shown=n,
        title=title,
        samples=samples(
            physics=physics_sample,
            posebusters=posebusters_sample,
            agreement=agreement_sample,
            similarity=similarity_sample,
        ),
        settings=settings(timeout, workers, cache, protocols=protocols),
        seed=seed,
    )
    with ProgressBar("evaluating") as bar:
        write_report(
            paths,
            output,
            options=options,
            progress=lambda label, done, total: bar.update(
                done, f"{done:,} molecules", total=total, label=label
            ),
        )
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB, opens in any browser")
