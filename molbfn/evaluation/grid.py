"""Values counted on a grid, and distances between two sets of counts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

Kind = tuple[int, ...]
"""Of a bond (elements, order), an angle or a torsion (elements); empty where there is one kind."""

_FURTHEST = 2.0**50
_BUFFERED = 500_000  # values that wait to be counted


class GridCounter:
    """Counts numbers of several kinds on a grid; memory grows with the cells in use only.

    Args:
        step: of the grid, in the unit of the values.
    """

    def __init__(self, step: float) -> None:
        self.step = step
        self._names: dict[Kind, int] = {}
        self._waiting: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self._buffered = 0
        self._codes = np.zeros((0, 2), dtype=np.int64)
        self._counts = np.zeros(0, dtype=np.int64)

    def add(self, kinds: NDArray[np.integer] | Kind, values: NDArray[np.floating]) -> None:
        """Count values [V]; their kinds are rows [V, K], or one kind for all."""
        values = np.asarray(values, dtype=np.float64)
        finite = np.isfinite(values)
        # What lies further off than numbers of cells go is counted in the last one.
        cells = np.rint(np.clip(values[finite] / self.step, -_FURTHEST, _FURTHEST)).astype(np.int64)
        rows = (
            [kinds] * len(cells) if isinstance(kinds, tuple) else map(tuple, kinds[finite].tolist())
        )
        numbers = [self._names.setdefault(row, len(self._names)) for row in rows]
        self._waiting.append((np.array(numbers, dtype=np.int64), cells))
        self._buffered += len(cells)
        if self._buffered > _BUFFERED:
            self._flush()

    def kinds(self) -> dict[Kind, int]:
        """Return kind -> number of values."""
        self._flush()
        totals = np.bincount(self._codes[:, 0], self._counts, minlength=len(self._names))
        return {kind: int(totals[number]) for kind, number in self._names.items()}

    def cells(self, kind: Kind) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the grid cells of a kind that hold values [C], ascending, and their counts."""
        self._flush()
        own = self._codes[:, 0] == self._names.get(kind, -1)
        return self._codes[own, 1], self._counts[own]

    def _flush(self) -> None:
        if not self._waiting:
            return
        numbers, cells = (np.concatenate(part) for part in zip(*self._waiting, strict=True))
        self._waiting, self._buffered = [], 0
        codes = np.concatenate([self._codes, np.stack([numbers, cells], axis=1)])
        counts = np.concatenate([self._counts, np.ones(len(cells), dtype=np.int64)])
        self._codes, places = np.unique(codes, axis=0, return_inverse=True)
        self._counts = np.bincount(places.reshape(-1), counts).astype(np.int64)


def wasserstein(
    first: tuple[NDArray[np.int64], NDArray[np.int64]],
    second: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> float | None:
    """Return the Wasserstein-1 distance, in grid steps, of two sets of counted cells.

    The integral of |F - G| (Vallender, Theory Probab. Appl. 18:784, 1974). None where one of
    them is empty.
    """
    if not len(first[0]) or not len(second[0]):
        return None
    places = np.union1d(first[0], second[0])
    cumulative = []
    for cells, counts in (first, second):
        share = np.zeros(len(places))
        share[np.searchsorted(places, cells)] = counts / counts.sum()
        cumulative.append(np.cumsum(share)[:-1])
    return float((np.abs(cumulative[0] - cumulative[1]) * np.diff(places)).sum())


def total_variation(first: Counter[Any], second: Counter[Any]) -> float | None:
    """Return half the sum of the absolute differences of the shares.

    1 where one of them is empty: they have nothing in common. None where both are.
    """
    totals = sum(first.values()), sum(second.values())
    if not all(totals):
        return 1.0 if any(totals) else None
    both = set(first) | set(second)
    return 0.5 * sum(abs(first[k] / totals[0] - second[k] / totals[1]) for k in both)
