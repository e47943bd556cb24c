"""The jackknife where the standard error is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from molbfn.benchmarks.jackknife import GROUPS, jackknife_error


def test_the_error_of_a_mean_of_single_samples_is_the_usual_one():
    values = np.random.default_rng(0).normal(size=GROUPS)
    found = jackknife_error(lambda own: float(values[list(own)].mean()), GROUPS)
    assert found == pytest.approx(values.std(ddof=1) / math.sqrt(GROUPS))


def test_the_error_of_a_variance_is_that_of_many_repetitions():
    """sqrt(2 / n) for normal numbers."""
    values = np.random.default_rng(1).normal(size=(100, 400))
    found = [
        jackknife_error(lambda own, row=row: float(row[list(own)].var()), len(row))
        for row in values
    ]
    assert np.mean(found) == pytest.approx(math.sqrt(2 / 400), rel=0.1)
    assert np.std([row.var() for row in values]) == pytest.approx(math.sqrt(2 / 400), rel=0.25)


def test_one_sample_has_no_error():
    assert math.isnan(jackknife_error(lambda own: 1.0, 1))
    assert math.isnan(jackknife_error(lambda own: 1.0, 0))


def test_a_figure_that_is_no_number_has_no_error():
    assert math.isnan(jackknife_error(lambda own: math.nan, 30))
