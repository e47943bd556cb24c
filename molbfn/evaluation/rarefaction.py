"""Counts of different structures at a smaller number of molecules than there are.

The share of different structures falls with the number of molecules, so two sets of different
sizes are compared at a common number n. Instead of one random subsample we take the mean over all
of them, which is known exactly (Hurlbert, Ecology 52:577, 1971, "rarefaction"): a structure that
c of N molecules have is missing from a subsample with probability C(N - c, n) / C(N, n).
"""

from __future__ import annotations

import dataclasses
import math
import statistics

import numpy as np
from numpy.typing import NDArray

from molbfn.evaluation.intervals import LEVEL, Estimate, Interval, Ratio, interval

_ROUNDING = 1e-9  # the sums of logarithms are good to about 1e-12
_QUANTILE = statistics.NormalDist().inv_cdf((1 + LEVEL) / 2)


@dataclasses.dataclass(frozen=True, eq=False)
class Structures:
    """Which structure each molecule has."""

    labels: NDArray[np.int64]
    """[M]: numbers from 0, -1 for a molecule without a structure"""
    counted: NDArray[np.bool_]
    """[D]: whether a structure counts in the numerator"""
    among_all: bool
    """the denominator is the molecules drawn; false: the different structures among them"""


def share_at(structures: Structures, size: int) -> Estimate | None:
    """Return the expected share in ``size`` of the molecules; None where nothing is left of it.

    At the full number this is the plain share. The interval is the jackknife's of
    `molbfn.evaluation.intervals`, its standard error at least half a structure: it is for a new
    sample, not for another subsample of this one.

    Raises:
        ValueError: more molecules than there are.
    """
    labels, total = structures.labels, len(structures.labels)
    if size > total:
        raise ValueError(f"{size} of {total} molecules")
    occurrences = np.bincount(labels[labels >= 0], minlength=len(structures.counted))
    if size == 0 or not (structures.among_all or occurrences.sum()):
        return None
    value = _share(structures, occurrences, total, size)
    whole = size if structures.among_all else _expected(occurrences, total, size).sum()
    if total < 2 or value in (0.0, 1.0):
        trials = round(whole)
        edge = Ratio(round(value) * trials, trials, np.zeros((0, 2), np.int64), additive=False)
        found = interval(edge, seed=0)
        return None if found is None else Estimate(value, found)
    spread = math.sqrt(_jackknife_variance(structures, occurrences, total, size))
    # where every structure occurs often the jackknife sees no spread; counts still come in steps
    error = max(spread, 0.5 / whole)
    return Estimate(value, Interval(*_log_odds_ends(value, error), "jackknife"))


def _expected(occurrences: NDArray[np.int64], total: int, size: int) -> NDArray[np.float64]:
    """Return the probability of each structure to be in a subsample."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])
    left = total - occurrences
    missing = left - size
    known = np.where(missing >= 0, missing, 0)
    absent = np.exp(logs[left] - logs[known] - logs[total] + logs[total - size])
    return np.where(missing >= 0, 1 - absent, 1.0)


def _share(structures: Structures, occurrences: NDArray[np.int64], total: int, size: int) -> float:
    present = _expected(occurrences, total, size)
    whole = size if structures.among_all else present.sum()
    value = float(present[structures.counted].sum() / whole)
    return 1.0 if value > 1 - _ROUNDING else value


def _jackknife_variance(
    structures: Structures, occurrences: NDArray[np.int64], total: int, size: int
) -> float:
    """Return the jackknife's variance; molecules of equally frequent structures are one class."""
    smaller = min(size, total - 1)
    present = _expected(occurrences, total - 1, smaller)
    loss = present - _expected(np.maximum(occurrences - 1, 0), total - 1, smaller)
    counted = structures.counted
    numerator, every = present[counted].sum(), present.sum()
    lost = np.where(counted, loss, 0.0)
    whole: NDArray[np.float64] | float = smaller if structures.among_all else every - loss
    without = (numerator - lost) / whole
    none = numerator / (smaller if structures.among_all else every)
    weights = np.append(occurrences, total - occurrences.sum())
    values = np.append(without, none)
    mean = np.average(values, weights=weights)
    return float((total - 1) / total * (weights * (values - mean) ** 2).sum())


def _log_odds_ends(value: float, error: float) -> tuple[float, float]:
    centre = math.log(value / (1 - value))
    reach = _QUANTILE * error / (value * (1 - value))
    return _from_log_odds(centre - reach), _from_log_odds(centre + reach)


def _from_log_odds(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))
