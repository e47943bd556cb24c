"""`molbfn bench eval`: likelihood bounds, the ODE's density, or the quality of samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molbfn.cli.bench.models import described, load, source_of
from molbfn.cli.bench.options import FOLDER, Device, ModelFolder, Name, Precision, Results, Seed
from molbfn.cli.progress import ProgressBar
from molbfn.errors import UserError


def evaluate(
    context: typer.Context,
    name: Name,
    model: ModelFolder = None,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    steps: Annotated[
        str | None,
        typer.Option(
            help="n of the bounds, with inf: inf,10,100 [default: inf and the config's]; with "
            "--flow-bound steps of its solver, a figure each [default: 30]."
        ),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Use the first so many samples only.")
    ] = None,
    passes: Annotated[
        int | None,
        typer.Option(min=2, help="Passes over the samples [default: 8; with --flow-bound 2]."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Times drawn for a sample and pass.")] = 1,
    flow_bound: Annotated[
        bool,
        typer.Option(
            "--flow-bound", help="Measure the bound through the probability-flow ODE instead."
        ),
    ] = False,
    probes: Annotated[
        int, typer.Option(min=1, help="Random vectors of each trace (--flow-bound).")
    ] = 1,
    eta: Annotated[float, typer.Option(help="Time the ODE begins at (--flow-bound).")] = 1e-3,
    quality: Annotated[
        bool,
        typer.Option("--quality", help="Measure samples against calls and sampler instead."),
    ] = False,
    calls: Annotated[str, typer.Option(help="Network calls (--quality).")] = "10,20,50,100",
    samplers: Annotated[
        str | None,
        typer.Option(help="Samplers (--quality), as of bench sample [default: all but ode2s]."),
    ] = None,
    count: Annotated[int, typer.Option("-n", min=2, help="Samples of each (--quality).")] = 1000,
    fid: Annotated[bool, typer.Option("--fid", help="FID too (--quality, colour images).")] = False,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    results: Results = FOLDER,
) -> None:
    """Measure the likelihood bounds, or with --quality the samples; figures are kept as JSON.

    With --flow-bound, the network is judged as the density model that its probability-flow ODE is,
    beside n = inf on the same samples. Each solver step is four network calls and their gradients:
    take few --samples.

    Of a model in a run folder, the curve of its training is kept too.
    """
    from molbfn.benchmarks import evaluation

    if quality and flow_bound:
        raise UserError("--quality and --flow-bound: give one of them")
    _refuse_without_effect(context, quality=quality, flow_bound=flow_bound)
    network = load(name, model, device)
    options = {"seed": seed, "precision": precision, "results": results}
    label = "sampling" if quality else "measuring"
    with ProgressBar(label) as bar:

        def show(done: int, total: int, text: str) -> None:
            bar.update(done, text, total=total)

        if quality:
            report = evaluation.evaluate_quality(
                network,
                calls=_numbers("--calls", calls),
                samplers=[one.strip() for one in samplers.split(",")] if samplers else None,
                count=count,
                with_fid=fid,
                progress=show,
                **options,
            )
        elif flow_bound:
            report = evaluation.evaluate_flow_bound(
                network,
                split=split,
                solver_steps=_numbers("--steps", steps or "30"),
                eta=eta,
                probes=probes,
                count=samples,
                passes=passes or 2,
                progress=show,
                **options,
            )
        else:
            report = evaluation.evaluate_bounds(
                network,
                split=split,
                steps=None if steps is None else _steps(steps),
                count=samples,
                passes=passes or 8,
                repeats=repeats,
                progress=show,
                **options,
            )
    source = source_of(name, model)
    print("\n".join([f"model: {described(network, source)}", *report.lines]))
    print(f"kept in {report.path}; 'molbfn bench table' makes the tables")
    if isinstance(source, Path) and source.name == "model":  # the result of the run around it
        from molbfn.benchmarks.training_curve import keep_curve

        kept = keep_curve(network, source.parent, results)
        if kept is not None:
            print("\n".join([f"the curve of its training in {kept.path}", *kept.notes]))


_COUNTS = {
    "": {"split", "steps", "samples", "passes", "repeats"},
    "--quality": {"calls", "samplers", "count", "fid"},
    "--flow-bound": {"split", "steps", "samples", "passes", "probes", "eta"},
}
"""what bench eval is asked for -> the options that count in it but not in all"""


def _refuse_without_effect(context: typer.Context, *, quality: bool, flow_bound: bool) -> None:
    """Refuse options that do not count in what is asked for."""
    asked = "--quality" if quality else "--flow-bound" if flow_bound else ""
    unread = set().union(*_COUNTS.values()) - _COUNTS[asked]
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name)
        if name in unread and given is not None and given.name == "COMMANDLINE":
            option = max(parameter.opts, key=len)
            with_ = next(mode for mode, options in _COUNTS.items() if name in options)
            when = f"with {with_}" if with_ else f"without {asked}"
            raise UserError(f"{option}: counts {when} only; leave one out")


def _numbers(option: str, text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise UserError(f"{option} {text}: expected whole numbers, such as 10,20,50")
    return found


def _steps(text: str) -> list[int | None]:
    parts = dict.fromkeys(part.strip() for part in text.split(","))
    try:
        found = [None if part == "inf" else int(part) for part in parts]
    except ValueError:
        found = []
    if not found or any(n is not None and n < 1 for n in found):
        raise UserError(f"--steps {text}: expected whole numbers and inf, such as inf,10,100")
    return found
