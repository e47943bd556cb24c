"""What is measured: ratios of counts, and other numbers, with name, definition and interval."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from molbfn.evaluation.intervals import Ratio, bootstrap, interval


@dataclasses.dataclass(frozen=True)
class NamedRatio:
    """A ratio and what it means."""

    name: str
    """for programs, as in ``result["validity"]``"""
    label: str
    """for people"""
    protocol: str
    definition: str
    """one sentence that says what is divided by what"""
    ratio: Ratio


@dataclasses.dataclass(frozen=True)
class Metric:
    """A measured metric; a share between 0 and 1."""

    name: str
    label: str
    value: float | None
    """None where the denominator is 0"""
    low: float | None
    """ends of the 95 % interval, see `molbfn.evaluation.intervals`"""
    high: float | None
    numerator: int
    denominator: int
    protocol: str
    interval: str | None
    """"bootstrap", "jackknife" or "binomial bound\""""
    definition: str


def measure(named: NamedRatio, *, seed: int) -> Metric:
    """Return the metric with its interval."""
    found = interval(named.ratio, seed=seed)
    return Metric(
        name=named.name,
        label=named.label,
        value=named.ratio.value,
        low=found.low if found else None,
        high=found.high if found else None,
        numerator=named.ratio.numerator,
        denominator=named.ratio.denominator,
        protocol=named.protocol,
        interval=found.method if found else None,
        definition=named.definition,
    )


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A measured number that is not a share: an energy, a distance, a rate."""

    name: str
    label: str
    value: float | None
    """None where there is nothing to measure"""
    low: float | None
    """ends of the 95 % interval; None where there is none"""
    high: float | None
    unit: str
    """empty for pure numbers"""
    count: int
    """molecules that went into it"""
    given: int
    """molecules that it was asked of, those that failed included"""
    protocol: str
    interval: str | None
    definition: str


def statistic(
    values: Sequence[float],
    reduce: Callable[..., NDArray[np.float64]],
    *,
    name: str,
    label: str,
    unit: str,
    given: int,
    protocol: str,
    definition: str,
    seed: int,
) -> Quantity:
    """Return a mean or median of one value per molecule, with its bootstrap interval.

    Args:
        values: of the molecules measured; +inf may stand for one that failed.
        reduce: numpy's ``mean`` or ``median``.
    """
    x = np.asarray(values, dtype=np.float64)
    value = float(reduce(x)) if len(x) else math.nan
    ends = bootstrap(x, reduce, seed=seed) if math.isfinite(value) and len(x) > 1 else None
    finite = ends is not None and all(math.isfinite(end) for end in ends)
    return Quantity(
        name=name,
        label=label,
        value=value if math.isfinite(value) else None,
        low=ends[0] if ends and finite else None,
        high=ends[1] if ends and finite else None,
        unit=unit,
        count=int(np.isfinite(x).sum()),
        given=given,
        protocol=protocol,
        interval="bootstrap" if finite else None,
        definition=definition,
    )
