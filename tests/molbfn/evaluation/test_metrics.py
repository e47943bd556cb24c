"""From a ratio to a metric."""

from __future__ import annotations

import math

import numpy as np
import pytest

from molbfn.evaluation.intervals import additive_ratio, interval
from molbfn.evaluation.metrics import NamedRatio, NamedStatistic, measure, summarise


def test_metric_carries_counts_interval_and_meaning():
    ratio = additive_ratio(np.arange(40) % 4 > 0, np.ones(40))
    metric = measure(NamedRatio("good", "Good", "edm", "what is good", ratio), seed=3)
    expected = interval(ratio, seed=3)
    assert expected is not None
    assert (metric.numerator, metric.denominator, metric.value) == (30, 40, 0.75)
    assert (metric.low, metric.high) == (expected.low, expected.high)
    assert metric.low < 0.75 < metric.high
    assert (metric.name, metric.protocol, metric.interval) == ("good", "edm", "binomial")
    assert (metric.label, metric.definition) == ("Good", "what is good")


def test_undefined_metric_has_counts_only():
    ratio = additive_ratio(np.zeros(3), np.zeros(3))
    metric = measure(NamedRatio("none", "None", "edm", "", ratio), seed=0)
    assert (metric.numerator, metric.denominator) == (0, 0)
    assert metric.value is metric.low is metric.high is metric.interval is None


def of(values: list[float], reduce=np.mean, *, given: int = 9):
    named = NamedStatistic(
        "e", "E", "kcal/mol", "physics", "an energy", np.array(values), reduce, given
    )
    return summarise(named, seed=0)


def test_statistic_has_the_interval_of_its_standard_error():
    values = np.random.default_rng(0).normal(10, 2, size=400)
    found = of(values.tolist())
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * 2 / 20, abs=0.03)
    assert found.high == pytest.approx(values.mean() + 1.96 * 2 / 20, abs=0.03)
    assert (found.count, found.given, found.interval) == (400, 9, "bootstrap")


def test_infinite_values_stand_for_failures_and_never_come_out():
    found = of([1.0, 2.0, 3.0, math.inf], np.median)
    assert found.value == 2.5
    assert (found.count, found.low, found.high, found.interval) == (3, None, None, None)
    assert of([1.0, math.inf, math.inf], np.median).value is None
    assert of([]).value is None
    assert (of([4.0]).value, of([4.0]).low) == (4.0, None)
