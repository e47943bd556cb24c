"""What a metric is: a ratio of counts with its name, definition and interval."""

from __future__ import annotations

import dataclasses

from molbfn.evaluation.intervals import Ratio, interval


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
    """"bootstrap", "jackknife" or "binomial bound\""""
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
