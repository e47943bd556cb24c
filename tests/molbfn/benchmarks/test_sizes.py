"""Batches of sizes stand for the histogram they were drawn from."""

from __future__ import annotations

from collections import Counter

import pytest

from molbfn.benchmarks.sizes import make_buckets, quantile_sizes

HISTOGRAM = {3: 10, 5: 0, 7: 20, 9: 50, 12: 20}


def test_quantiles_reproduce_the_histogram() -> None:
    assert Counter(quantile_sizes(HISTOGRAM, 10)) == {3: 1, 7: 2, 9: 5, 12: 2}
    assert quantile_sizes(HISTOGRAM, 1) == [9]


def test_buckets_cover_the_histogram_once() -> None:
    buckets = make_buckets(HISTOGRAM, [8, 10, 29], batch=10)
    assert [bucket.width for bucket in buckets] == [8, 10, 12]
    assert [bucket.share for bucket in buckets] == pytest.approx([0.3, 0.5, 0.2])
    assert Counter(buckets[0].sizes) == {3: 3, 7: 7}
    assert all(max(bucket.sizes) <= bucket.width for bucket in buckets)


def test_molecules_above_the_widest_bucket_get_their_own() -> None:
    assert [bucket.width for bucket in make_buckets(HISTOGRAM, [4, 5, 9], batch=2)] == [4, 9, 12]
