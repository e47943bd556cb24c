"""What is measured: ratios of counts, and other numbers, with name, definition and interval."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from molbfn.errors import nearest
from molbfn.evaluation.intervals import (
    FEWEST_VALUES,
    Interval,
    Ratio,
    bootstrap,
    interval,
    median_interval,
)


class _HasName(Protocol):
    @property
    def name(self) -> str: ...


_Item = TypeVar("_Item", bound=_HasName)


def by_name(name: str, items: Iterable[_Item], *, kind: str) -> _Item:
    """Return the item of a name.

    Raises:
        KeyError: there is none; says of what kind, and names the nearest.
    """
    known = list(items)
    for item in known:
        if item.name == name:
            return item
    raise KeyError(f"no {kind} '{name}';{nearest(name, [item.name for item in known])}")


@dataclasses.dataclass(frozen=True)
class NamedRatio:
    """A ratio and what it means."""

    name: str
    """for programs, as in ``result["validity"]``"""
    label: str
    """for people"""
    protocol: str
    definition: str
    """one sentence that says what is divided by what"""
    ratio: Ratio


@dataclasses.dataclass(frozen=True)
class Metric:
    """A measured metric; a share between 0 and 1."""

    name: str
    label: str
    value: float | None
    """None where the denominator is 0"""
    low: float | None
    """ends of the 95 % interval, see `molbfn.evaluation.intervals`"""
    high: float | None
    numerator: int
    denominator: int
    protocol: str
    interval: str | None
    """its method, see `molbfn.evaluation.intervals.Interval`"""
    definition: str


def measure(named: NamedRatio, *, seed: int) -> Metric:
    """Return the metric with its interval."""
    found = interval(named.ratio, seed=seed)
    return Metric(
        name=named.name,
        label=named.label,
        value=named.ratio.value,
        low=found.low if found else None,
        high=found.high if found else None,
        numerator=named.ratio.numerator,
        denominator=named.ratio.denominator,
        protocol=named.protocol,
        interval=found.method if found else None,
        definition=named.definition,
    )


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A measured number that is not a share: an energy, a distance, a rate."""

    name: str
    label: str
    value: float | None
    """None where there is nothing to measure"""
    low: float | None
    """ends of the 95 % interval; None where there is none"""
    high: float | None
    unit: str
    """empty for pure numbers"""
    count: int
    """molecules that went into it"""
    given: int
    """molecules that it was asked of, those that failed included"""
    protocol: str
    interval: str | None
    definition: str


@dataclasses.dataclass(frozen=True, eq=False)
class NamedStatistic:
    """A mean or median of one number per molecule, and what it means."""

    name: str
    label: str
    unit: str
    """empty for pure numbers"""
    protocol: str
    definition: str
    values: NDArray[np.float64]
    """[M] of the molecules measured; +inf may stand for one that failed"""
    reduce: Callable[..., NDArray[np.float64]]
    """numpy's ``mean`` or ``median``"""
    given: int
    """molecules that it was asked of, those that failed included"""

    @property
    def value(self) -> float | None:
        """The statistic; None without values, or where it is infinite."""
        found = float(self.reduce(self.values)) if len(self.values) else math.nan
        return found if math.isfinite(found) else None

    @property
    def count(self) -> int:
        """Molecules that have a finite value."""
        return int(np.isfinite(self.values).sum())

    def interval(self, *, seed: int) -> Interval | None:
        """Return the interval; None for fewer than six molecules, or where it is infinite."""
        if self.value is None or len(self.values) < FEWEST_VALUES:
            return None
        found: Interval | None
        if self.reduce is np.median:
            found = median_interval(self.values)
        else:
            found = Interval(*bootstrap(self.values, self.reduce, seed=seed), "bootstrap")
        finite = found is not None and math.isfinite(found.low) and math.isfinite(found.high)
        return found if finite else None


def summarise(named: NamedStatistic, *, seed: int) -> Quantity:
    """Return the quantity with its interval."""
    found = named.interval(seed=seed)
    return Quantity(
        name=named.name,
        label=named.label,
        value=named.value,
        low=found.low if found else None,
        high=found.high if found else None,
        unit=named.unit,
        count=named.count,
        given=named.given,
        protocol=named.protocol,
        interval=found.method if found else None,
        definition=named.definition,
    )
