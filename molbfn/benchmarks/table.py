"""``docs/benchmarks.md``: the measured figures beside the papers' own; nothing typed by hand."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from molbfn.atomic import replacing
from molbfn.benchmarks.bounds_table import bounds_section
from molbfn.benchmarks.quality import DATA, as_table, calls_of, errors_of
from molbfn.benchmarks.results import Result, published, read_results
from molbfn.benchmarks.training_curve import curve_name, in_units, write_curve
from molbfn.errors import UserError

_FIXED = ("sampler", "calls", "samples", "seconds")
_BESIDE = ("errors", "date", "processor")  # the last two of rows that an earlier run measured
_MEASURES = {
    "frechet": "Frechet distance to the test part, features of our own small classifier (lower is "
    "better)",
    "fid": "FID of as many samples as said above against 10,000 test images (lower is better; "
    "published figures are of 50,000, which makes them lower)",
    "spelling": "share of words that hunspell's en_US knows (higher is better)",
    "symbol_entropy": "entropy of a sample's characters, bits (the data's is best)",
    "word_entropy": "entropy of all samples' words, bits (the data's is best)",
}

_SHOWN = 3  # texts of each sampler and number of calls


def write_tables(folder: Path, output: Path) -> list[Path]:
    """Write the tables of all results of a folder, and their curves into that folder.

    Returns:
        The files written: ``output``, and a CSV and a PNG for each measured quality and training.

    Raises:
        UserError: no results, or a file that is not one; cannot write; matplotlib is missing.
    """
    results = read_results(folder)
    if not results:
        raise UserError(f"{folder}: no figures; run 'molbfn bench eval' first")
    written = [output]
    for result in results:
        if result.kind == "quality":
            written += _write_curves(result, folder)
        if result.kind == "training":
            written += write_curve(result, folder)
    text = "\n".join(_document(results, folder, output)) + "\n"
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as stream:
        stream.write(text.encode())
    return written


def _document(results: Sequence[Result], folder: Path, output: Path) -> Iterator[str]:
    yield "# Benchmarks of the papers"
    yield ""
    yield f"Made by `molbfn bench table` of the JSON files in `{folder.name}/`; do not edit."
    yield "Figures of a `_small` model show what it reaches with its little compute, not what the"
    yield "method can do: parameters, samples seen and hardware stand beside them."
    yield ""
    yield from bounds_section(results)
    for result in results:
        if result.kind == "quality":
            yield ""
            yield from _quality(result, folder, output)
    for result in results:
        if result.kind == "training":
            yield ""
            yield from _training(result, folder, output)
    speeds = [result for result in results if result.kind == "speed"]
    if speeds:
        yield ""
        yield from _speed(speeds)
    yield ""
    yield "## Sources of the papers' figures"
    yield ""
    for name, source in published()["sources"].items():
        yield f"- {name}: {source}"


def _quality(result: Result, folder: Path, output: Path) -> Iterator[str]:
    settings, made = result.settings, result.model["provenance"]
    yield f"## Samples of {result.benchmark}"
    yield ""
    yield (
        f"{settings['samples']:,} samples each, seed {settings['seed']}, {settings['precision']}, "
        f"weights {result.model['fingerprint']} "
        f"({made.get('imported') or format(made.get('steps', 0), ',') + ' steps'}), "
        f"{_origins(result)}."
    )
    if any(errors_of(row) for row in result.figures):
        yield ""
        yield "± is the standard error over the choice of samples (jackknife by groups)."
    for measure in _measures(result):
        table = as_table(result.figures, measure)
        yield ""
        title = _MEASURES.get(measure, measure)
        yield f"{title[0].upper()}{title[1:]}:"
        yield ""
        yield f"| sampler | {' | '.join(f'{n} calls' for n in table.calls)} |"
        yield f"|---|{'---|' * len(table.calls)}"
        for name, row, errors in zip(table.names, table.figures, table.errors, strict=True):
            cells = [_figure(value, error) for value, error in zip(row, errors, strict=True)]
            yield f"| {name} | {' | '.join(cells)} |"
        real = _of_data(result, measure)
        if real is not None:
            yield f"\nAs many samples of the training part: {_figure(*real)}."
        yield f"\n![{measure}]({_place(folder / _curve_name(result, measure), output)})"
    yield from _pictures(result, folder, output)
    yield from _texts(result, folder)
    for row in published()["quality"]:
        if row["benchmark"] == result.base:
            yield ""
            yield from _paper_quality(row)


def _figure(value: float, error: float) -> str:
    """Return a figure with its error, as far as there are such."""
    if math.isnan(value):
        return ""
    return f"{value:.3f}" if math.isnan(error) else f"{value:.3f} ± {error:.3f}"


def _origins(result: Result) -> str:
    """Return which processors measured the rows, and when."""
    own = {"processor": result.machine["processor"], "date": result.date}
    rows = [{**own, **row} for row in result.figures]
    places = sorted({row["processor"] for row in rows})
    days = sorted({row["date"] for row in rows})
    return f"{' and '.join(places)}, {' to '.join(dict.fromkeys((days[0], days[-1])))}"


def _pictures(result: Result, folder: Path, output: Path) -> Iterator[str]:
    """Yield the pictures that ``molbfn bench sample`` has left."""
    found = _left(result, folder, "png")
    if not found:
        return
    calls = sorted({number for _, number in found})
    yield ""
    yield f"| samples | {' | '.join(f'{number} calls' for number in calls)} |"
    yield f"|---|{'---|' * len(calls)}"
    for name in dict.fromkeys(name for name, _ in found):
        cells = [
            f"![]({_place(found[name, number], output)})" if (name, number) in found else ""
            for number in calls
        ]
        yield f"| {name} | {' | '.join(cells)} |"


def _texts(result: Result, folder: Path) -> Iterator[str]:
    """Yield the first of the texts that ``molbfn bench sample`` has left."""
    for (name, number), path in _left(result, folder, "txt").items():
        yield ""
        yield f"First samples of {name} with {number} calls:"
        yield ""
        yield from (f"- `{line}`" for line in path.read_text().splitlines()[:_SHOWN])


def _left(result: Result, folder: Path, ending: str) -> dict[tuple[str, int], Path]:
    """Return (sampler, calls) -> NAME_SAMPLER_CALLS.ENDING, where there is such a file.

    In the file's name a sampler's @ and : are dashes.
    """
    names = list(dict.fromkeys(row["sampler"] for row in result.figures))
    paths = {
        (name, number): folder / f"{result.benchmark}_{_slug(name)}_{number}.{ending}"
        for name in names
        for number in calls_of(result.figures)
    }
    return {key: path for key, path in paths.items() if path.is_file()}


def _slug(sampler: str) -> str:
    return re.sub(r"[^\w.]", "-", sampler)


def _place(path: Path, output: Path) -> str:
    """Return a path as the document names it."""
    return Path(os.path.relpath(path, output.parent)).as_posix()


def _paper_quality(row: Mapping[str, Any]) -> Iterator[str]:
    calls = sorted({int(n) for values in row["samplers"].values() for n in values})
    yield f"The paper's {row['measure']} ({row['source']}), another model on other hardware:"
    yield ""
    yield f"| sampler | {' | '.join(f'{n} calls' for n in calls)} |"
    yield f"|---|{'---|' * len(calls)}"
    for name, values in row["samplers"].items():
        yield f"| {name} | {' | '.join(str(values.get(str(n), '')) for n in calls)} |"


def _training(result: Result, folder: Path, output: Path) -> Iterator[str]:
    unit, rows = in_units(result)
    made = result.model["provenance"]
    last = next((row for row in reversed(rows) if "valid" in row), None)
    yield f"## Training of {result.benchmark}"
    yield ""
    yield (
        f"Loss in continuous time without the reconstruction, {unit}, against optimiser steps: as "
        f"trained, and of the averaged weights on some of the validation part. "
        f"{made.get('steps', 0):,} steps"
        + (f"; last validation at step {last['step']:,}: {last['valid']:.3f}." if last else ".")
    )
    yield ""
    yield f"![training]({_place(folder / curve_name(result), output)})"


def _speed(results: Sequence[Result]) -> Iterator[str]:
    yield "## Speed of the networks"
    yield ""
    yield "The same network and weights, all variants in one process, interleaved. Plain is"
    yield "float32, not compiled, convolutions in the default layout, attention written out."
    yield "The load average says how busy the machine was: what else ran takes from samples/s, but"
    yield "from all variants alike. `bench train` compiles; `bench sample` and `bench eval` do not."
    yield ""
    yield (
        "| network of | parameters | job | variant | batch | samples/s | gain (min to max) | "
        "machine | date |"
    )
    yield f"|{'---|' * 9}"
    for result in results:
        machine = _machine(result.machine)
        for row in result.figures:
            rate = row["samples_per_second"]
            yield (
                f"| {result.benchmark} | {result.model['parameters']:,} | {row['job']} | "
                f"{row['variant']} | {row['batch_size']} | {rate:{'.1f' if rate >= 10 else '.2g'}} "
                f"| **{row['gain']:.2f}** ({row['gain_min']:.2f} to {row['gain_max']:.2f}) | "
                f"{machine} | {result.date} |"
            )


def _machine(machine: Mapping[str, Any]) -> str:
    if machine["device"] != "cpu":
        return str(machine["device"])
    threads = machine["threads"]
    text = f"{machine['processor']}, {threads} thread{'' if threads == 1 else 's'}"
    load = machine.get("load average before")
    return text if load is None else f"{text}, load average {load}"


def _measures(result: Result) -> list[str]:
    keys = dict.fromkeys(key for row in result.figures for key in row)
    return [key for key in keys if key not in (*_FIXED, *_BESIDE)]


def _of_data(result: Result, measure: str) -> tuple[float, float] | None:
    """Return the figure of real samples and its error (NaN: none), where it was measured."""
    rows = (row for row in result.figures if row["sampler"] == DATA and measure in row)
    return next(((row[measure], errors_of(row).get(measure, math.nan)) for row in rows), None)


def _curve_name(result: Result, measure: str) -> str:
    return f"{result.benchmark}_{measure}.png"


def _write_curves(result: Result, folder: Path) -> list[Path]:
    """Write all rows as a CSV, and a picture of each measure against the calls."""
    table = folder / f"{result.benchmark}_quality.csv"
    measures = _measures(result)
    text = io.StringIO(newline="")
    errors = [name for name in measures if any(name in errors_of(row) for row in result.figures)]
    columns = [*_FIXED, *measures, *(f"{name}_error" for name in errors)]
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    for row in result.figures:
        writer.writerow(
            {**row, **{f"{name}_error": value for name, value in errors_of(row).items()}}
        )
    with replacing(table) as stream:
        stream.write(text.getvalue().encode())
    return [table, *(_plot(result, measure, folder) for measure in measures)]


def _plot(result: Result, measure: str, folder: Path) -> Path:
    try:
        import matplotlib.figure
    except ImportError:
        raise UserError("curves need matplotlib: pip install 'molbfn[bench]'") from None
    figure = matplotlib.figure.Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    table = as_table(result.figures, measure)
    for name, row, errors in zip(table.names, table.figures, table.errors, strict=True):
        known = ~np.isnan(row)
        if known.any():
            calls, bars = np.array(table.calls)[known], np.nan_to_num(errors[known])
            axes.errorbar(calls, row[known], bars, marker="o", markersize=3, capsize=2, label=name)
    real = _of_data(result, measure)
    if real is not None:
        axes.axhline(real[0], color="grey", linestyle=":", label="data")
    axes.set(xscale="log", xlabel="network calls a sample", title=result.benchmark)
    axes.set_ylabel(measure.replace("_", " "))
    axes.set_xticks(table.calls, [str(n) for n in table.calls])
    axes.minorticks_off()
    axes.legend(fontsize="small")
    path = folder / _curve_name(result, measure)
    with replacing(path) as stream:
        figure.savefig(stream, format="png", dpi=110)
    return path
