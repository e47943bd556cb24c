"""Deterministic batches of molecule sizes that stand for a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Bucket:
    """Molecules of sizes up to ``width`` atoms: their share of the data and a batch of sizes."""

    width: int
    share: float
    sizes: list[int]


def quantile_sizes(histogram: Mapping[int, int], count: int) -> list[int]:
    """Return ``count`` sizes at the evenly spaced quantiles of a histogram size -> molecules."""
    sizes = sorted(histogram)
    cumulative = np.cumsum([histogram[size] for size in sizes])
    targets = (np.arange(count) + 0.5) / count * cumulative[-1]
    return [sizes[i] for i in np.searchsorted(cumulative, targets)]


def make_buckets(histogram: Mapping[int, int], widths: Sequence[int], batch: int) -> list[Bucket]:
    """Sort the histogram into buckets of at most ``widths`` atoms; empty ones are left out."""
    largest = max(histogram)
    edges = sorted({width for width in widths if width < largest} | {largest})
    total, buckets, below = sum(histogram.values()), [], 0
    for width in edges:
        part = {size: n for size, n in histogram.items() if below < size <= width and n}
        if part:
            share = sum(part.values()) / total
            buckets.append(Bucket(width, share, quantile_sizes(part, batch)))
        below = width
    return buckets
