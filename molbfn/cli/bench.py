"""`molbfn bench`: the papers' benchmarks on images and text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molbfn.cli.progress import ProgressBar
from molbfn.cli.runs import (
    Devices,
    Nodes,
    Overrides,
    PrintConfig,
    Resume,
    check_config_file,
    show_config,
    tell_result,
)
from molbfn.errors import UserError

if TYPE_CHECKING:
    from molbfn.benchmarks.config import BenchConfig
    from molbfn.benchmarks.model import BenchModel

app = typer.Typer(
    help="The papers' benchmarks: binarized MNIST, CIFAR-10, text8, and the solvers.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

_NAME = Annotated[str, typer.Argument(help="Benchmark (see list), or a YAML file.")]
_MODEL = Annotated[
    Path | None,
    typer.Option("--model", "-m", help="Model folder [default: the run's, else the bundled one]."),
]
_SEED = Annotated[int, typer.Option(help="Of all that is drawn.")]
_DEVICE = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
_PRECISION = Annotated[str, typer.Option(help="Of network calls: auto, fp32 or bf16.")]
_RESULTS = Annotated[Path, typer.Option(help="Folder of the measured figures.")]
_FOLDER = Path("docs/benchmarks")


@app.command("list")
def list_benchmarks() -> None:
    """Show the benchmarks, the papers' figures, and which data and models are here."""
    from molbfn.benchmarks.data.files import NAMES, locate
    from molbfn.benchmarks.model import bundled_models
    from molbfn.benchmarks.results import published
    from molbfn.config_file import bundled_configs

    figures = {row["benchmark"]: row for row in published()["bounds"]}
    models = bundled_models()
    print("benchmarks (paper's settings, and _small ones for a CPU):")
    for name in bundled_configs("bench"):
        row = figures.get(name)
        paper = f"paper {row['value']} {row['unit']}" if row else ""
        print(f"  {name:<24}{'model bundled' if name in models else '':<16}{paper}".rstrip())
    print("data:")
    for name in NAMES:
        try:
            print(f"  {name:<24}{locate(name)}")
        except UserError:
            print(f"  {name:<24}not here: molbfn bench data {name}")


@app.command("data")
def data(
    name: Annotated[str, typer.Argument(help="mnist, cifar10 or text8.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder [default: user cache].")
    ] = None,
) -> None:
    """Download a data set, checked against its checksum."""
    from molbfn.benchmarks.data.files import download

    with ProgressBar("downloading") as bar:
        folder = download(
            name,
            output,
            progress=lambda done, total: bar.update(done, f"{done / 1e6:.0f} MB", total=total),
        )
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


@app.command("train")
def train(
    name: _NAME,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run folder [default: runs/bench/NAME].")
    ] = None,
    resume: Resume = False,
    overrides: Overrides = None,
    print_config: PrintConfig = False,
    device: _DEVICE = "auto",
    devices: Devices = 1,
    nodes: Nodes = 1,
) -> None:
    """Train a benchmark's model; leaves checkpoints, logs and the model in the run folder."""
    check_config_file(Path(name), devices=devices)
    settings = _config(name, overrides)
    if print_config:
        show_config(settings)
        return
    folder = output or _run_folder(settings.name)

    from molbfn.allocator import keep_memory
    from molbfn.benchmarks.training import train as run

    keep_memory()
    result = run(settings, folder, resume=resume, accelerator=device, devices=devices, nodes=nodes)
    tell_result(result, folder, steps=settings.training.steps, unit="nats per element")
    print(f"next: molbfn bench eval {settings.name} --model {result.model}")


@app.command("import")
def import_weights(
    name: Annotated[str, typer.Argument(help="A benchmark at the paper's settings.")],
    file: Annotated[Path, typer.Argument(help="The published weights, such as mnist_ema.pt.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Model folder [default: NAME_published].")
    ] = None,
) -> None:
    """Turn weights published with the paper into a model that the other commands take."""
    settings = _config(name)
    folder = output or Path(f"{settings.name}_published")
    if (folder / "config.json").exists():
        raise UserError(f"{folder}: holds a model already; give another --output")

    from molbfn.benchmarks.official import import_checkpoint

    import_checkpoint(settings, file).save(folder)
    print(f"{folder}: {file.name} as a model of {settings.name}")
    print(f"next: molbfn bench eval {name} --model {folder}")


@app.command("eval")
def evaluate(
    context: typer.Context,
    name: _NAME,
    model: _MODEL = None,
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
    seed: _SEED = 0,
    device: _DEVICE = "auto",
    precision: _PRECISION = "auto",
    results: _RESULTS = _FOLDER,
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
    network = _model(name, model, device)
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
    source = _source(name, model)
    print("\n".join([f"model: {_described(network, source)}", *report.lines]))
    print(f"kept in {report.path}; 'molbfn bench table' makes the tables")
    if isinstance(source, Path) and source.name == "model":  # the result of the run around it
        from molbfn.benchmarks.training_curve import keep_curve

        kept = keep_curve(network, source.parent, results)
        if kept is not None:
            print("\n".join([f"the curve of its training in {kept.path}", *kept.notes]))


@app.command("curve")
def curve(
    run: Annotated[Path, typer.Argument(help="Run folder of bench train.")],
    results: _RESULTS = _FOLDER,
) -> None:
    """Keep the curve of a run's training; bench eval does so where it measures the run's model."""
    from molbfn.benchmarks.model import load_bench_model
    from molbfn.benchmarks.training_curve import keep_curve

    kept = keep_curve(load_bench_model(run / "model"), run, results)
    if kept is None:
        raise UserError(f"{run}: has no log of 'molbfn bench train'")
    print("\n".join([f"kept in {kept.path}; 'molbfn bench table' draws it", *kept.notes]))


@app.command("sample")
def sample(
    name: _NAME,
    model: _MODEL = None,
    count: Annotated[int, typer.Option("-n", min=1, help="Number of samples.")] = 64,
    calls: Annotated[int, typer.Option(min=2, help="Network calls a sample.")] = 50,
    sampler: Annotated[
        str,
        typer.Option(
            help="original, sde1, sde2, ode1, ode2, ode2s (two calls a step: an odd --calls); "
            "sde2@0.85:0.6: 85 % of the steps to t = 0.6; sde2~0.001: starts at t = 0.001."
        ),
    ] = "sde2",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="PNG or text file [default: NAME.png or NAME.txt]."),
    ] = None,
    seed: _SEED = 0,
    device: _DEVICE = "auto",
    precision: _PRECISION = "auto",
) -> None:
    """Draw samples: a PNG grid of images, or text."""
    network = _model(name, model, device)

    from molbfn.benchmarks.pictures import write_samples
    from molbfn.benchmarks.sampling import draw_samples
    from molbfn.data.npz import check_replaceable
    from molbfn.devices import choose_precision

    config = network.info.config
    text = config.data.kind == "text8"
    path = output or Path(f"{config.name}.{'txt' if text else 'png'}")
    if text == (path.suffix.lower() == ".png"):
        kind = "text; its name must not" if text else "a PNG image; its name must"
        raise UserError(f"{path}: what is written is {kind} end in .png")
    check_replaceable(path)
    with ProgressBar("sampling") as bar:
        drawn = draw_samples(
            network,
            count,
            calls=calls,
            sampler=sampler,
            seed=seed,
            precision=choose_precision(precision, network.device),
            progress=lambda done, total: bar.update(done, f"{done} calls", total=total),
        )
    write_samples(drawn, config, path)
    drawn_from = _described(network, _source(name, model))
    print(f"{path}: {count} samples of {drawn_from}, {calls} calls of {sampler}, seed {seed}")


@app.command("speed")
def speed(
    name: _NAME,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Samples a batch [default: the config's].")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Each times every variant once.")] = 5,
    device: _DEVICE = "auto",
    results: _RESULTS = _FOLDER,
) -> None:
    """Time the network of a config as we run it, against running it plainly."""
    from molbfn.benchmarks import evaluation
    from molbfn.benchmarks.model import BenchInfo, BenchModel
    from molbfn.devices import choose_device

    settings = _config(name)
    info = BenchInfo(config=settings.model(), provenance={})
    with ProgressBar("timing") as bar:
        report = evaluation.evaluate_speed(
            BenchModel(info).to(choose_device(device)),
            results=results,
            batch_size=batch_size or settings.training.batch_size,
            rounds=rounds,
            progress=lambda done, total, text: bar.update(done, text, total=total),
        )
    print("\n".join(report.lines))
    print(f"kept in {report.path}; 'molbfn bench table' makes the tables")


@app.command("table")
def table(
    results: _RESULTS = _FOLDER,
    output: Annotated[Path, typer.Option("--output", "-o", help="Markdown to write.")] = Path(
        "docs/benchmarks.md"
    ),
) -> None:
    """Make the tables and curves of all measured figures, beside the papers' own."""
    from molbfn.benchmarks.table import write_tables

    for path in write_tables(results, output):
        print(path)


def _config(name: str, overrides: list[str] | None = None) -> BenchConfig:
    from molbfn.benchmarks.config import BenchConfig
    from molbfn.config_file import bundled_configs, read_config

    return read_config(BenchConfig, name, overrides or [], bundled=bundled_configs("bench"))


def _run_folder(name: str) -> Path:
    return Path("runs") / "bench" / name


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


def _model(name: str, folder: Path | None, device: str) -> BenchModel:
    """Load the given model, what a run has left, or the bundled one of that name.

    Raises:
        UserError: there is none, or the given one is of another benchmark.
    """
    from molbfn.benchmarks.model import load_bench_model
    from molbfn.devices import choose_device

    model = load_bench_model(_source(name, folder), device=choose_device(device))
    made = model.info.config.name
    if folder is not None and made != (wanted := _benchmark(name)):
        raise UserError(f"{folder}: a model of '{made}', not '{wanted}'; give {made} as the name")
    return model


def _benchmark(name: str) -> str:
    """Return the benchmark's name: itself, or what its YAML file says."""
    if Path(name).suffix in (".yaml", ".yml"):
        return _config(name).name
    return name


def _source(name: str, folder: Path | None) -> str | Path:
    """Return the model's folder, or the name of a bundled one."""
    from molbfn.benchmarks.model import bundled_models

    if folder is not None:
        return folder
    wanted = _benchmark(name)
    run, bundled = _run_folder(wanted) / "model", bundled_models()
    if (run / "config.json").is_file():
        return run
    return next((n for n in (wanted, f"{wanted}_small") if n in bundled), wanted)


def _described(model: BenchModel, source: str | Path) -> str:
    """Say which model it is, where it comes from, and its size."""
    count = sum(p.numel() for p in model.network.parameters())
    origin = source if isinstance(source, Path) else "bundled"
    return f"{model.info.config.name} ({origin}, {count:,} parameters)"


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
