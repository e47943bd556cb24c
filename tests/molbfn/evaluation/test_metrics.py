"""From a ratio to a metric."""

from __future__ import annotations

import numpy as np

from molbfn.evaluation.intervals import additive_ratio, interval
from molbfn.evaluation.metrics import NamedRatio, measure


def test_metric_carries_counts_interval_and_meaning():
    ratio = additive_ratio(np.arange(40) % 4 > 0, np.ones(40))
    metric = measure(NamedRatio("good", "Good", "edm", "what is good", ratio), seed=3)
    expected = interval(ratio, seed=3)
    assert expected is not None
    assert (metric.numerator, metric.denominator, metric.value) == (30, 40, 0.75)
    assert (metric.low, metric.high) == (expected.low, expected.high)
    assert metric.low < 0.75 < metric.high
    assert (metric.name, metric.protocol, metric.interval) == ("good", "edm", "bootstrap")
    assert (metric.label, metric.definition) == ("Good", "what is good")


def test_undefined_metric_has_counts_only():
    ratio = additive_ratio(np.zeros(3), np.zeros(3))
    metric = measure(NamedRatio("none", "None", "edm", "", ratio), seed=0)
    assert (metric.numerator, metric.denominator) == (0, 0)
    assert metric.value is metric.low is metric.high is metric.interval is None
