"""Standard errors of figures of samples that no formula gives one for: the jackknife by groups."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

GROUPS = 20
"""Groups that samples are divided into; so the figure is taken as many times more."""


def jackknife_error(figure: Callable[[Sequence[int]], float], count: int) -> float:
    """Return the standard error of a figure over the choice of its samples.

    The figure is taken without each of g groups in turn, and the error is
    ``sqrt((g - 1) / g sum_i (f_i - mean f)^2)`` (Efron and Tibshirani 1993, "An Introduction to the
    Bootstrap", eq. 11.5, with groups in place of single samples).

    Args:
        figure: makes it of the samples with these numbers.
        count: number of samples, from 0 on.

    Returns:
        The error; NaN with fewer than two samples, or where the figure is no number.
    """
    groups = min(GROUPS, count)
    if groups < 2:
        return math.nan
    without = [
        figure([number for number in range(count) if number % groups != left_out])
        for left_out in range(groups)
    ]
    return math.sqrt((groups - 1) * statistics.pvariance(without))
