"""What `molbfn bench eval` does: measure, keep the figures, say them in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from molbfn.benchmarks.bounds import Bound, Subset, describe, measure_bound
from molbfn.benchmarks.data.samples import SPLITS, BenchData, Samples
from molbfn.benchmarks.flow_bounds import FlowFigure, describe_flow, measure_flow_bound
from molbfn.benchmarks.hardware import describe_machine
from molbfn.benchmarks.model import BenchModel, load_data
from molbfn.benchmarks.quality import build_measure, measure_quality
from molbfn.benchmarks.results import (
    Kept,
    Result,
    check_results,
    keep,
    keep_speed,
    make_result,
)
from molbfn.benchmarks.sampling import SAMPLERS, find_scheme
from molbfn.benchmarks.speed import measure_speed
from molbfn.devices import Precision, choose_precision
from molbfn.errors import UserError

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes:
        lines: the figures in words.
        path: the file they are kept in.
    """

    lines: list[str]
    path: Path


def evaluate_bounds(
    model: BenchModel,
    *,
    results: Path,
    split: str = "test",
    steps: Sequence[int | None] | None = None,
    count: int | None = None,
    passes: int = 8,
    repeats: int = 1,
    seed: int = 0,
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Report:
    """Measure the likelihood bounds and write ``NAME_bound.json``.

    Bounds of other n from an earlier run with the same settings, data and weights stay.

    Args:
        results: folder of the figures.
        split: "train", "valid" or "test".
        steps: n of each bound, None for infinity; infinity and the config's by default.
        count: use the first so many samples only.
        passes, repeats, seed, precision: see :func:`~molbfn.benchmarks.bounds.measure_bound`.
        progress: called with (done, in all, what).

    Raises:
        UserError: the data are not here; an unknown split.
    """
    check_results(results)
    config = model.info.config
    chosen = _part(model, split, count)
    data, samples = chosen.data, chosen.samples
    resolved = choose_precision(precision, model.device)
    wanted = [None, *config.evaluation.steps] if steps is None else list(steps)
    settings = {"seed": seed, "precision": resolved}
    about = _about(model, data, split)
    result = make_result(model, kind="bound", data=about, settings=settings, figures=[])
    bounds: list[Bound] = []

    def measured() -> Iterator[Mapping[str, Any]]:
        for n in wanted:
            bound = measure_bound(
                model,
                samples,
                n_steps=n,
                passes=passes,
                repeats=repeats,
                batch_size=config.evaluation.batch_size,
                seed=seed,
                precision=resolved,
                progress=_labelled(progress, f"n = {'inf' if n is None else n}"),
            )
            bounds.append(bound)
            yield asdict(bound) | {"bits_per_dimension": bound.bits_per_dimension}

    kept = _keep_each(result, measured(), results)
    lines = [f"{config.name} on {data.label}, {split} part, {len(samples)} {data.unit}"]
    lines += [
        *([about["note"]] if about["note"] else []),
        *describe(bounds, text=len(model.shape) == 1),
    ]
    return Report([*lines, *kept.notes], kept.path)


def evaluate_flow_bound(
    model: BenchModel,
    *,
    results: Path,
    split: str = "test",
    solver_steps: Sequence[int] = (30,),
    eta: float = 1e-3,
    probes: int = 1,
    count: int | None = None,
    passes: int = 2,
    seed: int = 0,
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Report:
    """Measure the bound through the probability-flow ODE and write ``NAME_flow.json``.

    Rows of other solver steps from an earlier run with the same settings, data and weights stay.

    Args:
        results: folder of the figures.
        split: "train", "valid" or "test".
        solver_steps: a row each; two of them tell whether they are enough.
        eta, probes, passes, seed, precision: see
            :func:`~molbfn.benchmarks.flow_bounds.measure_flow_bound`.
        count: use the first so many samples only.
        progress: called with (done, in all, what).

    Raises:
        UserError: the data are not here; an unknown split; eta outside (0, 1).
    """
    if not 0 < eta < 1:
        raise UserError(f"--eta {eta:g}: a time between 0 and 1, such as 0.001")
    check_results(results)
    config = model.info.config
    chosen = _part(model, split, count)
    data, samples = chosen.data, chosen.samples
    resolved = choose_precision(precision, model.device)
    about = _about(model, data, split)
    settings = {"seed": seed, "precision": resolved}
    result = make_result(model, kind="flow", data=about, settings=settings, figures=[])
    figures: list[FlowFigure] = []

    def measured() -> Iterator[Mapping[str, Any]]:
        for steps in dict.fromkeys(solver_steps):
            figure = measure_flow_bound(
                model,
                samples,
                solver_steps=steps,
                eta=eta,
                probes=probes,
                passes=passes,
                seed=seed,
                precision=resolved,
                progress=_labelled(progress, f"{steps} steps"),
            )
            figures.append(figure)
            yield asdict(figure) | {"bits_per_dimension": figure.bits_per_dimension}

    kept = _keep_each(result, measured(), results)
    lines = [f"{config.name} on {data.label}, {split} part, {len(samples)} {data.unit}"]
    lines += [about["note"]] if about["note"] else []
    return Report([*lines, *map(describe_flow, figures), *kept.notes], kept.path)


def evaluate_quality(
    model: BenchModel,
    *,
    results: Path,
    calls: Sequence[int],
    samplers: Sequence[str] | None = None,
    count: int = 1000,
    with_fid: bool = False,
    seed: int = 0,
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Report:
    """Measure samples against calls and sampler and write ``NAME_quality.json``.

    Other rows of an earlier run with the same settings, data and weights stay, so that a table
    can be filled in pieces.

    Args:
        results: folder of the figures.
        calls, samplers, count, seed, precision: see
            :func:`~molbfn.benchmarks.quality.measure_quality`; by default all samplers of one call
            a step.
        with_fid: FID too, for colour images.
        progress: called with (done, in all, what).

    Raises:
        UserError: the data are not here; an unknown sampler, or calls that it cannot make;
            something optional is missing.
    """
    config = model.info.config
    if with_fid and config.data.kind != "cifar10":
        raise UserError("--fid: for colour images only (cifar10)")
    known = [name for name, make in SAMPLERS.items() if make().calls_per_step == 1]
    names = known if samplers is None else list(samplers)
    for name in names:
        for number in calls:
            find_scheme(name).steps(number)
    check_results(results)
    data = load_data(config)
    resolved = choose_precision(precision, model.device)
    settings = {"seed": seed, "samples": count, "precision": resolved}
    about = _about(model, data, "test")
    result = make_result(model, kind="quality", data=about, settings=settings, figures=[])
    rows = measure_quality(
        model,
        data,
        build_measure(config, data, with_fid=with_fid),
        calls=list(dict.fromkeys(calls)),
        samplers=list(dict.fromkeys(names)),
        count=count,
        seed=seed,
        precision=resolved,
        progress=progress,
    )
    lines = [f"{config.name}: {count} samples each"]
    lines += [about["note"]] if about["note"] else []

    def said() -> Iterator[Mapping[str, Any]]:
        for row in rows:
            lines.append(_row_in_words(row))
            yield row

    kept = _keep_each(result, said(), results)
    return Report([*lines, *kept.notes], kept.path)


def evaluate_speed(
    model: BenchModel,
    *,
    results: Path,
    batch_size: int,
    rounds: int = 5,
    progress: Progress | None = None,
) -> Report:
    """Measure the network against running it plainly and write ``NAME_speed.json``.

    Figures of other settings, or of another machine or network, that were there are moved aside.

    Args:
        results: folder of the figures.
        batch_size, rounds: see :func:`~molbfn.benchmarks.speed.measure_speed`.
        progress: called with (done, in all, what).

    Raises:
        UserError: the folder cannot be written; torch.compile does not work here.
    """
    check_results(results)
    machine = describe_machine(str(model.device))  # its load average is that of before
    rows = measure_speed(model, batch_size=batch_size, rounds=rounds, progress=progress)
    settings = {"batch_size": batch_size, "rounds": rounds}
    result = make_result(
        model, kind="speed", data={}, settings=settings, figures=rows, machine=machine
    )
    lines = [
        f"  {row['job']:<14} {row['variant']:<32} {row['samples_per_second']:9.1f} samples/s  "
        f"x {row['gain']:.2f} ({row['gain_min']:.2f} to {row['gain_max']:.2f})"
        for row in rows
    ]
    kept = keep_speed(result, results)
    return Report([*lines, *kept.notes], kept.path)


def _keep_each(result: Result, rows: Iterable[Mapping[str, Any]], folder: Path) -> Kept:
    """Keep a result after each of its rows, so that an interruption loses one of them at most."""
    done: list[Mapping[str, Any]] = []
    notes: dict[str, None] = {}
    kept = Kept(folder / result.file_name, [])
    for row in rows:
        done.append(row)
        kept = keep(replace(result, figures=list(done)), folder)
        notes |= dict.fromkeys(kept.notes)
    return replace(kept, notes=list(notes))


@dataclass(frozen=True)
class _Chosen:
    """The data of a model and those of their samples that are asked for."""

    data: BenchData
    samples: Samples


def _part(model: BenchModel, split: str, count: int | None) -> _Chosen:
    """Return a part of a model's data, or the first so many samples of it.

    Raises:
        UserError: the data are not here; an unknown split.
    """
    if split not in SPLITS:
        raise UserError(f"--split {split}: use one of {', '.join(SPLITS)}")
    data = load_data(model.info.config)
    samples = data.part(split)
    return _Chosen(data, samples if count is None else Subset(samples, count))


def _about(model: BenchModel, data: BenchData, split: str) -> dict[str, str]:
    """Say what is measured on; the note names all that speaks against comparing the figures."""
    trained = model.info.provenance.get("data_digest")
    notes = [data.note] if data.note else []
    if trained is not None and trained != data.train.digest():
        notes.append("the model was trained on other data, which this part may have been among")
    return {
        "label": data.label,
        "split": split,
        "note": "; ".join(notes),
        "unit": data.unit,
        "digest": data.part(split).digest(),
    }


def _labelled(progress: Progress | None, label: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(done, total, label)


def _row_in_words(row: Mapping[str, Any]) -> str:
    known = ("sampler", "calls", "samples", "seconds", "errors")
    errors = {key: f" ± {value:.2g}" for key, value in row["errors"].items()}
    figures = ", ".join(
        f"{key} {value:.4g}{errors.get(key, '')}" for key, value in row.items() if key not in known
    )
    calls = f"{row['calls']:>5} calls" if row["calls"] else " " * 11
    return f"  {row['sampler']:<14}{calls}  {figures}"
