"""`molbfn data`: data sets in and out."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molbfn.cli.outputs import check_outputs
from molbfn.cli.progress import ProgressBar
from molbfn.errors import UserError

if TYPE_CHECKING:
    from molbfn.data.prepare_report import PrepareReport, Tally
    from molbfn.data.qm9 import QM9Report

app = typer.Typer(help="Prepare data sets.", no_args_is_help=True, rich_markup_mode="markdown")

_NAMES = 20  # properties named in a report
_SHOW_EVERY = 100  # molecules read between two updates of the bar


@app.command("prepare")
def prepare(
    files: Annotated[
        list[Path], typer.Argument(help="SDF, XYZ, npz or RDKit pickle files, or folders of them.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The npz data set to write.")],
    elements: Annotated[
        str | None, typer.Option(help="Keep molecules of these elements only: H,C,N,O.")
    ] = None,
    max_atoms: Annotated[
        int | None, typer.Option(min=1, help="Leave out larger molecules.")
    ] = None,
    conformers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Keep the first so many of one structure in a part, where bonds are known.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="random, or files: by train, val or test in the names of the files [default: the "
            "npz files' own where all have one, else random]."
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            help="Of the random split; conformers of one structure, where bonds are known, stay "
            "together, if structures are as many as parts."
        ),
    ] = 0,
    fractions: Annotated[
        str, typer.Option(help="Shares of train, valid and test.")
    ] = "0.8,0.1,0.1",
    problems: Annotated[
        Path | None, typer.Option(help="List unreadable records here (.csv, else JSON lines).")
    ] = None,
) -> None:
    """Turn molecule files into a data set for training; reports what was left out and why.

    Exit code 3: some records could not be read.
    """
    from molbfn.cli.problems import problem_log, without_repeats
    from molbfn.data.prepare import prepare as run

    wanted = None if elements is None else [name.strip() for name in elements.split(",")]
    shares = _fractions(fractions)
    check_outputs({"--output": output, "--problems": problems}, [])
    check_outputs({"--problems": problems}, files)
    without_repeats(files)  # prepare looks below folders too, and leaves them out itself
    with problem_log(problems) as log, ProgressBar("reading") as bar:
        report = run(
            files,
            output,
            elements=wanted,
            max_atoms=max_atoms,
            conformers=conformers,
            split_by=split,  # type: ignore[arg-type]
            seed=seed,
            fractions=shares,
            on_molecule=lambda count: _show(bar, count),
            on_problem=log.add,
        )
    print("\n".join(_prepared(report)))
    raise typer.Exit(log.exit_code(problems))


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
    from molbfn.data.qm9 import prepare_qm9

    with ProgressBar("downloading" if from_dir is None else "reading") as bar:
        report = prepare_qm9(
            output,
            from_dir=from_dir,
            progress=lambda done, total: bar.update(done, f"{done / 1e6:.0f} MB", total=total),
            on_molecule=lambda count: _show(bar, count),
        )
    print("\n".join(_made_qm9(report, named=output is None)))


def _show(bar: ProgressBar, count: int) -> None:
    if count % _SHOW_EVERY == 0:
        bar.update(count, f"{count:,} molecules", label="reading")


def _fractions(text: str) -> tuple[float, float, float]:
    try:
        train, valid, test = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(
            f"--fractions {text}: expected three numbers that add up to 1, such as 0.8,0.1,0.1"
        ) from None
    return train, valid, test


def _prepared(report: PrepareReport) -> Iterator[str]:
    """Yield the lines of the report on a data set."""
    yield f"{report.output}: {report.kept:,} of {report.read:,} molecules kept"
    yield f"  atoms     {report.smallest} to {report.largest} a molecule"
    yield f"  elements  {', '.join(f'{name} {n:,}' for name, n in report.elements.items())}"
    origin = " (as in the input)" if report.split_is_old else ""
    yield f"  split     {_split(report.splits)}{origin}"
    missing = (
        "" if report.with_smiles == report.kept else " (the others have no bonds, or wrong ones)"
    )
    yield f"  SMILES    of {report.with_smiles:,}{missing}"
    if report.structures < report.with_smiles:
        yield f"  {report.structures:,} different structures"
    if report.with_smiles < report.kept and not report.split_is_old:
        yield "  those without SMILES are divided one by one: copies may be in train and test"
    if report.shared:
        few = report.structures < sum(map(bool, report.splits.values()))
        cause = "too few structures: " if few else ""
        yield f"  warning: {cause}copies are in {' and '.join(report.shared)}"
    if report.carried:
        yield f"  also kept: {_few(report.carried)}"
    if report.not_kept:
        yield f"  not kept: properties {_few(report.not_kept)}"
    yield from _tallies("left out", report.skipped)
    yield from _tallies("warnings", report.warnings)
    yield "next: molbfn train demo -o runs/mine \\"
    elements = list(report.elements)
    if len(elements) == 1:  # a vocabulary has two at least
        elements.append("H" if elements[0] != "H" else "C")
    source = shlex.quote(f"data.source={report.output}")
    # Nothing to validate with: training would refuse.
    valid = "" if report.splits["valid"] else " --set data.validation_split=train"
    # SMILES alone do not say which atom is which, and what they do not fit would be left out.
    more = report.with_bonds and report.with_smiles > 0.9 * report.kept
    line = f"        --set {source} --set 'data.elements=[{','.join(elements)}]'{valid}"
    yield f"{line} \\" if more else line
    if more:
        yield "        --set 'bonds={}' --set 'charges={}'"


def _few(names: list[str]) -> str:
    """Return the first names, each in one short line, and how many more there are."""
    from molbfn.chem.records import one_line

    shown = ", ".join(one_line(name)[:40] for name in names[:_NAMES])
    return shown + (f" and {len(names) - _NAMES} more" if len(names) > _NAMES else "")


def _tallies(title: str, tallies: dict[str, Tally]) -> Iterator[str]:
    total = sum(tally.count for tally in tallies.values())
    if total:
        yield f"{title}: {total:,}"
    for reason, tally in tallies.items():
        yield f"  {tally.count:,} x {reason}"
        yield from (f"      {place}" for place in tally.places)
        if tally.count > len(tally.places):
            yield f"      and {tally.count - len(tally.places):,} more"


def _made_qm9(report: QM9Report, *, named: bool) -> Iterator[str]:
    yield f"{report.output}: {report.molecules:,} molecules of QM9"
    yield f"  left out  {report.excluded:,} (uncharacterised by its authors)"
    if report.splits:
        yield f"  split     {_split(report.splits)} (EDM's)"
    source = "" if named else f" --set {shlex.quote(f'data.source={report.output}')}"
    parts = "" if report.splits else " --set data.split=all --set data.validation_split=all"
    yield f"next: molbfn train qm9_small{source}{parts}"


def _split(splits: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in splits.items())
