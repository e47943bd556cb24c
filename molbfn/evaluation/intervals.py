"""95 % intervals for ratios of counts over generated molecules.

Three kinds of ratio need three methods. In all, the molecule is the unit that was drawn at random.

* Shares of molecules, each of which passes or fails (valid molecules): the exact binomial interval
  (Clopper & Pearson, Biometrika 26:404, 1934). It never covers less than 95 %; resamples of a set
  with few failures cover less (91 % for 200 molecules at a rate of 98 %).
* Other counts that add up over molecules (stable atoms): the percentile bootstrap, resampling
  molecules (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13). Molecules that
  contribute the same are one class, and the classes of a resample are multinomial, so that a
  resample of any number of molecules is one draw. Means of one number per molecule (energies) are
  resampled in the same way.
* Counts of distinct structures (uniqueness, novelty): drawing with replacement makes copies, and
  each copy looks like a duplicate, so a resample of n different molecules has only 63 %
  different ones: the bootstrap is wrong there. We use the jackknife, which leaves one molecule
  out at a time and never makes copies. On average its variance is not too small (Efron & Stein,
  Annals of Statistics 9:586, 1981); where duplicates are rare it is about twice the true one,
  so these intervals are up to 1.4 times as wide as they need to be.
  The normal interval is taken on the scale of the log odds, so that it stays within 0 and 1.

Where the count is 0 or complete, neither of the latter sees any spread. There the exact binomial
bound takes their place, with the molecules that count in the denominator as trials; and no
bootstrap interval ends inside that bound, so that failures never make the end surer than it is
without any. Nor does the bootstrap see spread where every molecule has the same share: there it is
Wilson's score interval (J. Am. Stat. Assoc. 22:209, 1927), with the same trials.

The interval of a median is one of order statistics: the k-th smallest and the k-th largest value,
with the largest k at which they enclose the median with 95 % or more by the binomial distribution
(David & Nagaraja, Order Statistics, 2003, ch. 7). Six values are the fewest that have one.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
FEWEST_VALUES = 6
"""of which a mean or median has an interval; the extremes of five enclose it with 94 %"""
RESAMPLES = 4000
_DRAWS_PER_CHUNK = 4_000_000  # bounds the scratch to some tens of MB


@dataclasses.dataclass(frozen=True, eq=False)
class Ratio:
    """A ratio of two counts, and what each molecule has to do with them."""

    numerator: int
    denominator: int
    parts: NDArray[np.int64]
    """[M, 2]: what numerator and denominator lose if a molecule is left out"""
    additive: bool
    """the parts of all molecules add up to the counts; false for counts of distinct structures"""

    @property
    def value(self) -> float | None:
        """The ratio, or None where the denominator is 0."""
        return self.numerator / self.denominator if self.denominator else None


@dataclasses.dataclass(frozen=True)
class Interval:
    """Lower and upper end, and the method.

    One of "binomial", "bootstrap", "jackknife", "score", "binomial bound", "order statistics".
    """

    low: float
    high: float
    method: str


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval."""

    value: float
    interval: Interval


def additive_ratio(numerator: NDArray[np.generic], denominator: NDArray[np.generic]) -> Ratio:
    """Return sum(numerator) / sum(denominator) of what each molecule contributes.

    Args:
        numerator: bool or integers [M], not negative.
        denominator: bool or integers [M], nowhere smaller than the numerator.
    """
    parts = np.stack([numerator, denominator], axis=1).astype(np.int64)
    total = parts.sum(axis=0)
    return Ratio(int(total[0]), int(total[1]), parts, additive=True)


def interval(ratio: Ratio, *, seed: int, level: float = LEVEL) -> Interval | None:
    """Return an interval that covers the ratio's expectation with the given probability.

    The expectation is that of a new sample of as many molecules: uniqueness and novelty depend on
    how many there are. None where the ratio itself is not defined.
    """
    if ratio.denominator == 0:
        return None
    trials = int((ratio.parts[:, 1] > 0).sum()) if ratio.additive else ratio.denominator
    if ratio.numerator == 0:
        return Interval(0.0, 1 - ((1 - level) / 2) ** (1 / trials), "binomial bound")
    if ratio.numerator == ratio.denominator:
        return Interval(((1 - level) / 2) ** (1 / trials), 1.0, "binomial bound")
    if not ratio.additive:
        return _jackknife(ratio, level=level)
    if is_share(ratio):
        return _binomial(ratio.numerator, trials, level=level)
    parts = ratio.parts
    if not (parts[:, 0] * ratio.denominator - parts[:, 1] * ratio.numerator).any():
        return score(ratio, level=level)
    return _bootstrap(ratio, trials, seed=seed, level=level)


def is_share(ratio: Ratio) -> bool:
    """Whether each molecule that counts is one trial, which succeeds or fails."""
    return ratio.additive and bool((ratio.parts[:, 1] <= 1).all())


def score(ratio: Ratio, *, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval with molecules as trials.

    For shares of molecules, and for molecules of which each contributes the same share: all their
    resamples are alike.
    """
    trials = int((ratio.parts[:, 1] > 0).sum())
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    share = ratio.numerator / ratio.denominator
    shrink = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / shrink
    reach = z / shrink * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    return Interval(max(0.0, centre - reach), min(1.0, centre + reach), "score")


def median_interval(values: NDArray[np.float64], *, level: float = LEVEL) -> Interval | None:
    """Return the interval of a median by order statistics; None of fewer than six values.

    Args:
        values: [M]; infinite ones may be ends of the interval.
    """
    from scipy.stats import binom

    beyond = int(binom.ppf((1 - level) / 2, len(values), 0.5)) - 1  # so many on either side
    if beyond < 0:
        return None
    ordered = np.sort(values)
    return Interval(float(ordered[beyond]), float(ordered[-1 - beyond]), "order statistics")


def bootstrap(
    values: NDArray[np.float64],
    reduce: Callable[..., NDArray[np.float64]],
    *,
    seed: int,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Return the ends of the percentile bootstrap interval of a statistic of one value a molecule.

    Args:
        values: [M].
        reduce: the statistic, of the last axis given as ``axis``.
    """
    found = resampled_statistic(values, reduce, np.random.default_rng(seed))
    # "lower" and "higher" are single resamples: no infinity is averaged into a finite end
    low = np.quantile(found, (1 - level) / 2, method="lower")
    return float(low), float(np.quantile(found, (1 + level) / 2, method="higher"))


def resampled_statistic(
    values: NDArray[np.float64],
    reduce: Callable[..., NDArray[np.float64]],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return [RESAMPLES] values of a statistic in resamples of the molecules, see `bootstrap`."""
    step = max(1, _DRAWS_PER_CHUNK // len(values))
    return np.concatenate(
        [
            reduce(
                values[rng.integers(len(values), size=(min(step, RESAMPLES - k), len(values)))],
                axis=-1,
            )
            for k in range(0, RESAMPLES, step)
        ]
    )


def _binomial(successes: int, trials: int, *, level: float) -> Interval:
    """Return Clopper and Pearson's interval of a number of successes that is not 0 nor complete."""
    from scipy.stats import beta

    tail, failures = (1 - level) / 2, trials - successes
    low = beta.ppf(tail, successes, failures + 1)
    high = beta.ppf(1 - tail, successes + 1, failures)
    return Interval(float(low), float(high), "binomial")


def _bootstrap(ratio: Ratio, trials: int, *, seed: int, level: float) -> Interval:
    values = resampled(ratio, np.random.default_rng(seed))
    values = values[~np.isnan(values)]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    # what a complete count, or one of 0, would leave open cannot be surer with failures in it
    bound = ((1 - level) / 2) ** (1 / trials)
    return Interval(min(float(low), bound), max(float(high), 1 - bound), "bootstrap")


def resampled(ratio: Ratio, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return [RESAMPLES] values of an additive ratio in resamples of its molecules.

    A resample without anything in the denominator says nothing: NaN.
    """
    classes, members = np.unique(ratio.parts, axis=0, return_counts=True)
    molecules = int(members.sum())
    step = max(1, _DRAWS_PER_CHUNK // len(classes))
    totals = np.concatenate(
        [
            rng.multinomial(molecules, members / molecules, size=min(step, RESAMPLES - start))
            @ classes
            for start in range(0, RESAMPLES, step)
        ]
    )
    whole = np.where(totals[:, 1] > 0, totals[:, 1], np.nan)
    return totals[:, 0] / whole


def _jackknife(ratio: Ratio, *, level: float) -> Interval:
    left = np.array([ratio.numerator, ratio.denominator]) - ratio.parts
    values = left[:, 0] / np.maximum(left[:, 1], 1)
    molecules = len(values)
    variance = (molecules - 1) / molecules * float(((values - values.mean()) ** 2).sum())
    value = ratio.numerator / ratio.denominator
    centre = math.log(value / (1 - value))
    # d log(p / (1 - p)) = dp / (p (1 - p))
    # Where no structure occurs once, leaving out a molecule changes nothing; the number of
    # structures is then still no surer than by half of one.
    error = max(math.sqrt(variance), 0.5 / ratio.denominator) / (value * (1 - value))
    reach = statistics.NormalDist().inv_cdf((1 + level) / 2) * error
    return Interval(_from_log_odds(centre - reach), _from_log_odds(centre + reach), "jackknife")


def _from_log_odds(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))
