"""How many atoms a generated molecule has."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from molbfn.errors import UserError

AS_TRAINED = "as trained"


@dataclass(frozen=True)
class SizeDistribution:
    """Numbers of atoms with their probabilities.

    Attributes:
        sizes: ascending.
        cumulative: cumulative weights, same length; the last is the total.
        asked: what the user asked for: "as trained", "18" or "15-20".
    """

    sizes: tuple[int, ...]
    cumulative: tuple[float, ...]
    asked: str = AS_TRAINED

    @classmethod
    def of(cls, histogram: Mapping[int, float], asked: str = AS_TRAINED) -> SizeDistribution:
        """Return the distribution of a histogram (weights need not sum to 1)."""
        sizes = tuple(sorted(size for size, weight in histogram.items() if weight > 0))
        weights = [float(histogram[size]) for size in sizes]
        return cls(sizes, tuple(itertools.accumulate(weights)), asked)

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
        UserError: not a size or range, or sizes that the model was not trained on.
    """
    if text is None:
        return SizeDistribution.of(trained)
    match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", str(text))
    if match is None:
        raise UserError(f"--num-atoms {text}: expected a number such as 18 or a range like 15-20")
    low = int(match[1])
    high = int(match[2] or low)
    if low > high:
        raise UserError(f"--num-atoms {text}: the range is empty; write it as {high}-{low}")
    seen = sorted(size for size, count in trained.items() if count > 0)
    if low < seen[0] or high > seen[-1]:
        raise UserError(
            f"--num-atoms {text}: the model was trained on {seen[0]} to {seen[-1]} atoms; "
            f"stay within these or train a model on other data"
        )
    inside = {size: trained[size] for size in seen if low <= size <= high}
    if not inside:
        below = max(size for size in seen if size < low)
        above = min(size for size in seen if size > high)
        raise UserError(
            f"--num-atoms {text}: the model never saw molecules of this size; "
            f"the nearest it saw have {below} and {above} atoms"
        )
    return SizeDistribution.of(inside, str(low) if match[2] is None else f"{low}-{high}")
