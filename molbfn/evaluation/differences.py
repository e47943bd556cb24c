"""Differences between the figures of two independent sets of molecules.

Two routes, both for the difference second minus first:

* Counts that add up over molecules (stable atoms), and means and medians: the percentile bootstrap
  of the difference; each set is resampled by itself (Efron & Tibshirani, An Introduction to the
  Bootstrap, 1993, ch. 8 and 16).
* Shares of molecules, counts of different structures, ratios of 0 or 1 and those of molecules all
  alike, which no bootstrap is right for: two intervals are combined by the square-and-add rule
  (Newcombe, Statistics in Medicine 17:873, 1998; Zou & Donner, ibid. 27:1693, 2008): with intervals
  (l1, u1) and (l2, u2) around p1 and p2, the difference reaches from
  d - sqrt((p2 - l2)^2 + (u1 - p1)^2) to d + sqrt((u2 - p2)^2 + (p1 - l1)^2). Of shares these are
  Wilson's score intervals, as in Newcombe's method 10: the exact ones would be too wide.

With many metrics some intervals miss 0 by chance. `holm` keeps the probability that any difference
is called real where none is below 5 % (Holm, Scandinavian Journal of Statistics 6:65, 1979);
it holds for metrics that depend on each other.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from molbfn.evaluation.intervals import (
    LEVEL,
    Estimate,
    Ratio,
    interval,
    is_share,
    resampled,
    resampled_statistic,
    score,
)

_NORMAL = statistics.NormalDist()


@dataclasses.dataclass(frozen=True)
class Difference:
    """Second minus first, its 95 % interval, and how likely chance alone would do as much."""

    value: float
    low: float
    high: float
    p: float
    """two-sided, of this one metric"""
    method: str
    """"bootstrap" or "square and add\""""


def additive_difference(first: Ratio, second: Ratio, *, seed: int) -> Difference | None:
    """Return the difference of two ratios of counts that add up; None where one is not defined."""
    ends = interval(first, seed=seed), interval(second, seed=seed)
    if first.value is None or second.value is None or ends[0] is None or ends[1] is None:
        return None
    if is_share(first) and is_share(second):
        ends = score(first), score(second)
    if any(end.method != "bootstrap" for end in ends if end):
        return combined(Estimate(first.value, ends[0]), Estimate(second.value, ends[1]))
    streams = _streams(seed)
    drawn = resampled(second, streams[1]) - resampled(first, streams[0])
    sizes = [int((ratio.parts[:, 1] > 0).sum()) for ratio in (first, second)]
    return _bootstrapped(second.value - first.value, drawn[~np.isnan(drawn)], sizes)


def statistic_difference(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    reduce: Callable[..., NDArray[np.float64]],
    *,
    seed: int,
) -> Difference | None:
    """Return the difference of a mean or median of one number per molecule.

    None where a set has fewer than two numbers, or so many infinite ones (which stand for
    molecules that failed) that the statistic is infinite in some resample.

    Args:
        first, second: [M] and [N].
        reduce: the statistic, of the last axis given as ``axis``.
    """
    if min(len(first), len(second)) < 2:
        return None
    streams = _streams(seed)
    ends = [
        resampled_statistic(x, reduce, s) for x, s in zip((first, second), streams, strict=True)
    ]
    if not all(np.isfinite(end).all() for end in ends):
        return None
    value = float(reduce(second)) - float(reduce(first))
    return _bootstrapped(value, ends[1] - ends[0], [len(first), len(second)])


def _streams(seed: int) -> list[np.random.Generator]:
    """Return a generator for each of the two sets."""
    return [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2)]


def _bootstrapped(value: float, drawn: NDArray[np.float64], sizes: Sequence[int]) -> Difference:
    """Return a difference with what resamples of so many molecules each say of it.

    A handful of molecules hardly varies in its resamples.  So p is never below what exchanging
    them between the sets could give (a permutation test's smallest).
    """
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    beyond = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    one, two = sizes
    least = 2 * math.exp(math.lgamma(one + 1) + math.lgamma(two + 1) - math.lgamma(one + two + 1))
    p = 1.0 if value == 0 else min(1.0, max(least, 2 * (beyond + 1) / (len(drawn) + 1)))
    return Difference(value, float(low), float(high), p, "bootstrap")


def combined(first: Estimate, second: Estimate) -> Difference:
    """Return the difference of two shares by the square-and-add rule."""
    value = second.value - first.value
    below = math.hypot(second.value - second.interval.low, first.interval.high - first.value)
    above = math.hypot(second.interval.high - second.value, first.value - first.interval.low)
    inner = below if value > 0 else above  # the side that faces 0
    quantile = _NORMAL.inv_cdf((1 + LEVEL) / 2)
    p = 1.0 if value == 0 else 2 * _NORMAL.cdf(-abs(value) * quantile / inner) if inner else 0.0
    return Difference(value, value - below, value + above, p, "square and add")


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the same order."""
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, k in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[k]))
        adjusted[k] = highest
    return adjusted


def as_estimate(ratio: Ratio, *, seed: int) -> Estimate | None:
    """Return a ratio's value with its own interval; None where it is not defined."""
    found = interval(ratio, seed=seed)
    return None if found is None or ratio.value is None else Estimate(ratio.value, found)
