"""What an evaluation found, and its forms for programs: dict, JSON, pandas, CSV."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from molbfn.atomic import replacing
from molbfn.evaluation.composition import Composition
from molbfn.evaluation.distributions import Distribution
from molbfn.evaluation.metrics import Metric, Quantity, by_name
from molbfn.evaluation.sampled import Outcome

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """The metrics of a set of molecules and all that is needed to say what they mean."""

    metrics: tuple[Metric, ...]
    sources: tuple[str, ...]
    """files, or a word for molecules given directly"""
    given: int
    """molecules given, unreadable ones included"""
    unreadable: int
    """records that are not a molecule"""
    unjudged: int
    """molecules read that the protocol has no rule for"""
    problems: tuple[str, ...]
    """the first few reasons for ``unreadable`` and ``unjudged``"""
    composition: Composition
    """of the molecules that could be read"""
    reference: str | None
    reference_composition: Composition | None
    seed: int
    """of the bootstrap"""
    date: str
    """ISO 8601, UTC"""
    versions: dict[str, str]
    quantities: tuple[Quantity, ...] = ()
    """energies and other numbers that are not shares"""
    distributions: tuple[Distribution, ...] = ()
    """what the molecules are made of and shaped like; empty unless asked for"""
    notes: tuple[str, ...] = ()
    """what to know about the protocols, a line each"""
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """protocols of "all" that did not run, and why"""
    outcomes: Mapping[str, Mapping[int, Outcome]] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )
    """what slow protocols found of single molecules: protocol -> place among those given, from 0"""

    @property
    def failed(self) -> int:
        """Molecules that count in denominators only."""
        return self.unreadable + self.unjudged

    @property
    def evaluated(self) -> int:
        """Molecules that a verdict was found for."""
        return self.given - self.failed

    @property
    def size_distance(self) -> float | None:
        """Total variation distance between the sizes of the molecules and of the reference."""
        other = self.reference_composition
        return None if other is None else self.composition.size_distance(other)

    def quantity(self, name: str) -> Quantity:
        """Return a quantity by its name.

        Raises:
            KeyError: there is none; names the nearest.
        """
        return by_name(name, self.quantities, kind="quantity")

    def __getitem__(self, name: str) -> Metric:
        """Return a metric by its name.

        Raises:
            KeyError: there is none; names the nearest.
        """
        return by_name(name, self.metrics, kind="metric")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; what is not defined is None."""
        other = self.reference_composition
        return {
            "format": FORMAT,
            "date": self.date,
            "versions": dict(self.versions),
            "sources": list(self.sources),
            "reference": self.reference,
            "seed": self.seed,
            "molecules": {
                "given": self.given,
                "unreadable": self.unreadable,
                "unjudged": self.unjudged,
                "evaluated": self.evaluated,
            },
            "problems": list(self.problems),
            "metrics": [dataclasses.asdict(metric) for metric in self.metrics],
            "composition": self.composition.to_dict(),
            "reference_composition": None if other is None else other.to_dict(),
            "size_distance": self.size_distance,
            "quantities": [dataclasses.asdict(quantity) for quantity in self.quantities],
            "notes": list(self.notes),
            "skipped": dict(self.skipped),
            "distributions": [distribution.to_dict() for distribution in self.distributions],
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return JSON, and write it to ``path`` (whole or not at all) if one is given.

        Raises:
            UserError: the file cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        if path is not None:
            _write(path, text)
        return text

    def to_frame(self) -> pd.DataFrame:
        """Return one row per metric and per quantity: the fields of `Metric`, unit, sources.

        The unit is "share" for metrics and "1" for pure numbers.  Of a quantity, the numerator is
        the number of molecules that went into it, the denominator that of those it was asked of.
        """
        import pandas as pd

        rows = [{**dataclasses.asdict(metric), "unit": "share"} for metric in self.metrics]
        for quantity in self.quantities:
            row = {**dataclasses.asdict(quantity), "unit": quantity.unit or "1"}
            rows.append({**row, "numerator": quantity.count, "denominator": quantity.given})
        columns = [*(f.name for f in dataclasses.fields(Metric)), "unit"]
        frame = pd.DataFrame(rows, columns=columns)
        numbers = ["value", "low", "high"]
        frame[numbers] = frame[numbers].astype("float64")
        return frame.assign(
            sources=";".join(self.sources), reference=self.reference or "", date=self.date
        )

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write `to_frame` as CSV, whole or not at all.

        Raises:
            UserError: the file cannot be written.
        """
        _write(path, self.to_frame().to_csv(index=False, lineterminator="\n"))


def _write(path: str | os.PathLike[str], text: str) -> None:
    with replacing(Path(path)) as stream:
        stream.write(text.encode())
