"""The losses of a training run against its steps, as rows, a CSV and a picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molbfn.atomic import replacing
from molbfn.benchmarks.model import BenchModel
from molbfn.benchmarks.results import Kept, Result, make_result, read_result, set_aside
from molbfn.errors import UserError

LOSSES = ("train", "valid")


def keep_curve(model: BenchModel, run: Path, results: Path) -> Kept | None:
    """Write ``NAME_training.json`` from the log of the run that made the model.

    A row has "step" and "train" or "valid" or both, nats an element: the loss in continuous time,
    without the reconstruction, as trained since the row before and of the averaged weights on the
    validation part.

    Args:
        model: of the run.
        run: its folder.
        results: folder of the figures.

    Returns:
        Where it is, or None: the folder has no such log.  The curve of another run that was there
        before moves to ``FILE.before``.

    Raises:
        UserError: the log cannot be read, or the figures cannot be written.
    """
    from molbfn.training.run import METRICS
    from molbfn.training.runlog import read_rows

    found: dict[int, dict[str, Any]] = {}
    try:
        for row in read_rows(run / METRICS):
            point = found.setdefault(int(row["step"]), {"step": int(row["step"])})
            point |= {key: float(row[f"{key}/loss"]) for key in LOSSES if row[f"{key}/loss"]}
    except (KeyError, ValueError):
        return None  # the log of something else
    points = [point for point in found.values() if len(point) > 1]
    if not points:
        return None
    settings = {"dimensions": math.prod(model.shape)}
    result = make_result(model, kind="training", data={}, settings=settings, figures=points)
    path, notes = results / result.file_name, []
    if path.is_file() and not _begins(path, result):
        notes = [f"the curve of another run was there: now in {set_aside(path)}"]
    return Kept(result.write(results), notes)


def _begins(path: Path, result: Result) -> bool:
    """Whether the curve in a file is the beginning of another one, or the same."""
    try:
        old = read_result(path).figures
    except UserError:
        return False
    return result.figures[: len(old)] == old


def curve_name(result: Result) -> str:
    """Return the name of the picture."""
    return f"{result.benchmark}_training.png"


def in_units(result: Result) -> tuple[str, list[Mapping[str, Any]]]:
    """Return the unit of the paper's bound and the rows in it."""
    dimensions = result.settings["dimensions"]
    unit, scale = result.unit(dimensions)
    factor = scale * dimensions
    rows = [
        {"step": row["step"], **{key: row[key] * factor for key in LOSSES if key in row}}
        for row in result.figures
    ]
    return unit, rows


def write_curve(result: Result, folder: Path) -> list[Path]:
    """Write ``NAME_training.csv`` and ``NAME_training.png``, in the unit of the paper's bound.

    Raises:
        UserError: cannot write; matplotlib is missing.
    """
    unit, rows = in_units(result)
    table, picture = folder / f"{result.benchmark}_training.csv", folder / curve_name(result)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["step", *(f"{key} ({unit})" for key in LOSSES)])
    writer.writerows([row["step"], *(row.get(key, "") for key in LOSSES)] for row in rows)
    with replacing(table) as stream:
        stream.write(text.getvalue().encode())
    try:
        import matplotlib.figure
    except ImportError:
        raise UserError("curves need matplotlib: pip install 'molbfn[bench]'") from None
    figure = matplotlib.figure.Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for key, style in (("train", {"linewidth": 0.8}), ("valid", {"marker": "o", "markersize": 3})):
        known = [(row["step"], row[key]) for row in rows if key in row]
        if known:
            axes.plot(*zip(*known, strict=True), label=key, **style)
    axes.set(xlabel="optimiser steps", ylabel=unit, title=result.benchmark)
    axes.set_ylim(*_limits(rows))
    axes.legend(fontsize="small")
    with replacing(picture) as stream:
        figure.savefig(stream, format="png", dpi=110)
    return [table, picture]


def _limits(rows: list[Mapping[str, Any]]) -> tuple[float, float]:
    """Return a range that shows all but the steep beginning."""
    values = sorted(row[key] for row in rows for key in LOSSES if key in row)
    low, high = values[0], values[math.ceil(0.95 * (len(values) - 1))]
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin
