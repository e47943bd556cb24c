"""Quality of samples against the number of network calls and the sampler."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from molbfn.benchmarks.bounds import Subset
from molbfn.benchmarks.config import BenchModelConfig, TextConfig
from molbfn.benchmarks.data.samples import BenchData, Samples, in_order
from molbfn.benchmarks.data.text8 import decode
from molbfn.benchmarks.fid import fid
from molbfn.benchmarks.frechet import features_of, frechet_distance, load_image_features
from molbfn.benchmarks.hardware import wait
from molbfn.benchmarks.jackknife import jackknife_error
from molbfn.benchmarks.model import BenchModel
from molbfn.benchmarks.pictures import to_pixels
from molbfn.benchmarks.sampling import draw_samples
from molbfn.benchmarks.spelling import spelling_accuracy, symbol_entropy, word_entropy

DATA = "data"
"""In place of a sampler's name: as many samples of the training part, what is best to reach."""

_REFERENCE = 10_000  # test samples that images are compared with, at most


@dataclass(frozen=True)
class Judgement:
    """What a measure says of samples.

    Attributes:
        figures: name -> value.
        errors: name -> its standard error over the choice of the samples, where one is known.
    """

    figures: dict[str, float]
    errors: dict[str, float]


class Measure(Protocol):
    """Judges samples in the data's own form."""

    def __call__(self, samples: Tensor) -> Judgement: ...


def build_measure(config: BenchModelConfig, data: BenchData, *, with_fid: bool = False) -> Measure:
    """Return what judges samples of a config.

    Images: "frechet" to the test part, see :mod:`molbfn.benchmarks.frechet`, and "fid" if asked
    for.  Text: "spelling" (share of words), "symbol_entropy" and "word_entropy" (bits).

    Raises:
        UserError: an optional package or weights are missing.
    """
    if isinstance(config.data, TextConfig):
        return _judge_text
    network = load_image_features(config.data.kind)
    reference = to_pixels(_first(data.test, _REFERENCE, seed=1), config)
    known = features_of(network, reference)

    def judge(samples: Tensor) -> Judgement:
        pixels = to_pixels(samples, config)
        features = features_of(network, pixels)
        found = _judge(
            len(features), {"frechet": lambda own: frechet_distance(features[list(own)], known)}
        )
        if with_fid:
            found.figures["fid"] = fid(pixels, reference)
        return found

    return judge


def _judge_text(samples: Tensor) -> Judgement:
    texts = decode(samples)
    measures = {
        "spelling": spelling_accuracy,
        "symbol_entropy": symbol_entropy,
        "word_entropy": word_entropy,
    }
    return _judge(
        len(texts),
        {
            name: lambda own, measure=measure: measure([texts[number] for number in own])
            for name, measure in measures.items()
        },
    )


def _judge(count: int, figures: Mapping[str, Callable[[Sequence[int]], float]]) -> Judgement:
    """Return figures of all samples, each made of the samples with given numbers."""
    errors = {name: jackknife_error(figure, count) for name, figure in figures.items()}
    return Judgement(
        {name: figure(range(count)) for name, figure in figures.items()},
        {name: error for name, error in errors.items() if math.isfinite(error)},
    )


def measure_quality(
    model: BenchModel,
    data: BenchData,
    measure: Measure,
    *,
    calls: Sequence[int],
    samplers: Sequence[str],
    count: int,
    seed: int = 0,
    batch_size: int = 100,
    precision: str = "fp32",
    progress: Callable[[int, int, str], None] | None = None,
) -> Iterator[Mapping[str, Any]]:
    """Yield a row for the data and one for each sampler and number of calls, as they are measured.

    A row has "sampler", "calls", "samples", "seconds", the figures of ``measure`` and "errors",
    name -> standard error of a figure over the choice of the samples.

    Args:
        count: samples of each row; rows compare at the same number only.
        progress: called with (network calls so far, in all, what is being sampled).
    """
    real = _first(data.train, count, seed=2)
    yield {"sampler": DATA, "calls": 0, "samples": len(real), **_as_row(measure(real))}
    batches = -(-count // batch_size)
    total, before = sum(calls) * len(samplers) * batches, 0
    for sampler in samplers:
        for number in calls:
            label = f"{sampler}, {number} calls"

            def show(done: int, _: int, label: str = label, before: int = before) -> None:
                if progress is not None:
                    progress(before + done, total, label)

            wait(str(model.device))
            start = time.perf_counter()
            samples = draw_samples(
                model,
                count,
                calls=number,
                sampler=sampler,
                seed=seed,
                batch_size=batch_size,
                precision=precision,
                progress=show,
            )
            seconds = round(time.perf_counter() - start, 2)
            row = {"sampler": sampler, "calls": number, "samples": count, "seconds": seconds}
            yield {**row, **_as_row(measure(samples))}
            before += number * batches


def _as_row(judgement: Judgement) -> dict[str, Any]:
    return {**judgement.figures, "errors": judgement.errors}


def _first(samples: Samples, count: int, *, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    part = Subset(samples, count)
    return torch.cat(list(in_order(part, 1000, generator)))


@dataclass(frozen=True)
class QualityTable:
    """One measure of samplers against calls.

    Attributes:
        names: the samplers.
        calls: numbers of network calls, rising.
        figures, errors: [samplers, calls], NaN where there is none.
    """

    names: list[str]
    calls: list[int]
    figures: np.ndarray
    errors: np.ndarray


def as_table(rows: Sequence[Mapping[str, Any]], measure: str) -> QualityTable:
    """Return the figures of one measure, and their standard errors, as a table."""
    names = list(dict.fromkeys(row["sampler"] for row in rows if row["sampler"] != DATA))
    calls = calls_of(rows)
    figures, errors = (np.full((len(names), len(calls)), np.nan) for _ in range(2))
    for row in rows:
        if row["sampler"] != DATA:
            place = names.index(row["sampler"]), calls.index(row["calls"])
            figures[place] = row.get(measure, np.nan)  # a run with --fid beside one without
            errors[place] = errors_of(row).get(measure, np.nan)
    return QualityTable(names, calls, figures, errors)


def errors_of(row: Mapping[str, Any]) -> Mapping[str, float]:
    """Return the standard errors of a row's figures; rows of older versions have none."""
    return row.get("errors", {})


def calls_of(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the numbers of calls in rising order."""
    return sorted({row["calls"] for row in rows if row["sampler"] != DATA})
