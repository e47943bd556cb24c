"""`molbfn bench`: the papers' benchmarks on images and text."""

from __future__ import annotations

import typer

from molbfn.cli.bench.evaluate import evaluate
from molbfn.cli.bench.files import data, import_weights, list_benchmarks
from molbfn.cli.bench.results import speed, table
from molbfn.cli.bench.sample import sample
from molbfn.cli.bench.train import curve, train

app = typer.Typer(
    help="The papers' benchmarks: binarized MNIST, CIFAR-10, text8, and the solvers.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
app.command("list")(list_benchmarks)
app.command("data")(data)
app.command("train")(train)
app.command("import")(import_weights)
app.command("eval")(evaluate)
app.command("curve")(curve)
app.command("sample")(sample)
app.command("speed")(speed)
app.command("table")(table)
