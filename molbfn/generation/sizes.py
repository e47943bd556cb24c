"""How many atoms a generated molecule has."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from molbfn.errors import UserError


@dataclass(frozen=True)
class SizeDistribution:
    """Numbers of atoms with their probabilities.

    Attributes:
        sizes: ascending.
        cumulative: cumulative weights, same length; the last is the total.
    """

    sizes: tuple[int, ...]
    cumulative: tuple[float, ...]

    @classmethod
    def of(cls, histogram: Mapping[int, float]) -> SizeDistribution:
        """Return the distribution of a histogram (weights need not sum to 1)."""
        sizes = tuple(sorted(size for size, weight in histogram.items() if weight > 0))
        weights = [float(histogram[size]) for size in sizes]
        return cls(sizes, tuple(itertools.accumulate(weights)))

    def at(self, u: float) -> int:
        """Return the size at quantile u in [0, 1)."""
        index = bisect.bisect_right(self.cumulative, u * self.cumulative[-1])
        return self.sizes[min(index, len(self.sizes) - 1)]


def choose_sizes(text: str | int | None, trained: Mapping[int, int]) -> SizeDistribution:
    """Return the sizes asked for: None for the training histogram, ``18``, or ``15-20``.

    A range follows the training histogram within it.

    Args:
        text: what the user wrote.
        trained: number of atoms -> number of training molecules.

    Raises:
        UserError: not a size or range, or outside what the model was trained on.
    """
    if text is None:
        return SizeDistribution.of(trained)
    match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", str(text))
    if match is None:
        raise UserError(f"--num-atoms {text}: expected a number such as 18 or a range like 15-20")
    low = int(match[1])
    high = int(match[2] or low)
    smallest, largest = min(trained), max(trained)
    if low > high:
        raise UserError(f"--num-atoms {text}: the range is empty; write it as {high}-{low}")
    if low < smallest or high > largest:
        raise UserError(
            f"--num-atoms {text}: the model was trained on {smallest} to {largest} atoms; "
            f"stay within these or train a model on larger data"
        )
    inside = {size: trained.get(size, 0) for size in range(low, high + 1)}
    if not any(inside.values()):
        inside = dict.fromkeys(inside, 1)
    return SizeDistribution.of(inside)
