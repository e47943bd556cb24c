"""A comparison of two sets of molecules for people: a table and a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from molbfn.evaluation.compare import ALPHA, ComparedMetric, Comparison
from molbfn.evaluation.table import plain_number

if TYPE_CHECKING:
    from rich.table import Table

    from molbfn.evaluation.intervals import Estimate

# what a set with the larger value makes more of, by the end of a metric's name; the first that fits
_MORE = {
    "legacy_atom_stability": "a larger share of atoms that the legacy table calls stable",
    "legacy_molecule_stability": "more molecules that the legacy table calls stable",
    "atom_stability": "a larger share of stable atoms",
    "molecule_stability": "more stable molecules",
    "connected_validity": "more valid molecules in one piece",
    "validity": "more valid molecules",
    "valid_unique": "more different valid molecules",
    "uniqueness": "fewer duplicates among its valid molecules",
    "connected_unique_inchikey": "more different valid molecules in one piece",
    "physics_relaxed": "more molecules that can be relaxed",
    "physics_below_5": "more molecules that lose less than 5 kcal/mol on relaxation",
    "physics_above_20": "more molecules that lose more than 20 kcal/mol on relaxation",
    "physics_same_contacts": "more molecules that keep their contacts on relaxation",
    "posebusters_valid": "more molecules that pass all tests",
    "posebusters_valid_lenient": "more molecules that fail no test",
    "posebusters_valid_no_energy": "more molecules that pass all tests but that of the energy",
}
# the same of protocols with a metric for each of many tests, by its label
_MORE_OF = {
    "posebusters": 'more molecules that pass the test "{}" of PoseBusters',
    "agreement": "more molecules whose bonds agree ({})",
}
_SAID = 6
"""differences that the sentence tells one by one"""


def sentence(comparison: Comparison) -> str:
    """Return what differs beyond noise, in plain words."""
    compared = [m for m in comparison.metrics if m.difference is not None]
    beyond = [m for m in compared if m.differs]
    alone = [m for m in compared if not m.differs and _misses_zero(m)]
    how = (
        f"(Holm's correction over {len(compared)} metrics, level {ALPHA:.0%})"
        if len(compared) > 1
        else f"(level {ALPHA:.0%})"
    )
    if not compared:
        return "Nothing can be compared."
    if not beyond:
        text = f"No difference is beyond noise {how}."
    else:
        rest = "no other difference is beyond noise" if len(beyond) < len(compared) else ""
        if len(beyond) > _SAID:
            rest = f"{len(beyond) - _SAID} more figures differ beyond noise (see the table)"
        said = sorted(beyond, key=lambda m: m.adjusted_p or 0.0)[:_SAID]
        clauses = [_clause(m) for m in beyond if m in said]
        text = "; ".join([*clauses, *([rest] if rest else [])]) + f" {how}."
    if alone:
        names = ", ".join(f"{_plain(m.label)} ({m.protocol})" for m in alone)
        text += (
            f" Taken alone, the 95 % interval of {names} misses 0, but among so many metrics "
            "that may be chance."
        )
    return text


def tables(comparison: Comparison) -> Iterator[Table]:
    """Yield the table of shares, and that of other numbers where there are some."""
    shares = [m for m in comparison.metrics if m.unit is None]
    others = [m for m in comparison.metrics if m.unit is not None]
    if shares:
        yield render(comparison, shares)
    if others:
        yield render_numbers(others)


def render(comparison: Comparison, metrics: Sequence[ComparedMetric]) -> Table:
    """Return shares of both sets and their differences in points, one row each."""
    from rich.table import Table
    from rich.text import Text

    title = " and ".join(
        f"{name} = {source} ({given:,})"
        for name, source, given in zip("AB", comparison.sources, comparison.given, strict=True)
    )
    sizes = dict.fromkeys(f"{m.size:,}" for m in metrics if m.size is not None)
    lines = [f"* compared at a common number of molecules: {', '.join(sizes)}"] if sizes else []
    lines += comparison.notes
    if any(comparison.unreadable):
        a, b = comparison.unreadable
        lines.append(f"could not be read, counted in the denominators: A {a:,}, B {b:,}")
    table = Table(title=Text(title), caption=Text("\n".join(lines)), caption_justify="left")
    table.add_column("Metric")
    for name in ("A %", "B %", "B - A, points", "95 % interval"):
        table.add_column(name, justify="right")
    table.add_column("p, adjusted", justify="right")
    table.add_column("")
    many = len({m.protocol for m in comparison.metrics}) > 1
    for metric in metrics:
        label = f"{metric.label} ({metric.protocol})" if many else metric.label
        star = "" if metric.size is None else " *"
        values = _percent(metric.first), _percent(metric.second)
        table.add_row(label + star, *values, *_gap_cells(metric, lambda x: f"{100 * x:+.2f}"))
    return table


def render_numbers(metrics: Sequence[ComparedMetric]) -> Table:
    """Return means and medians of both sets and their differences, one row each."""
    from rich.table import Table

    table = Table(title="Other numbers")
    table.add_column("")
    for name in ("A", "B", "B - A"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("95 % interval", "p, adjusted", "measured"):
        table.add_column(name, justify="right")
    for metric in metrics:
        label = f"{metric.label}, {metric.unit}" if metric.unit else metric.label
        values = _number(metric.first), _number(metric.second)
        measured = ", ".join(f"{k:,}/{n:,}" for k, n in metric.measured or ())
        gap, interval, p, differs = _gap_cells(metric, _signed)
        table.add_row(label, *values, gap, interval, f"{p} {differs}".strip(), measured)
    return table


def _gap_cells(metric: ComparedMetric, form: Callable[[float], str]) -> tuple[str, ...]:
    gap = metric.difference
    if gap is None or metric.adjusted_p is None:
        return ("–", "–", "–", "")
    p = "<0.001" if metric.adjusted_p < 0.001 else f"{metric.adjusted_p:.3f}"
    interval = f"{form(gap.low)} to {form(gap.high)}"
    return form(gap.value), interval, p, "differs" if metric.differs else ""


def _number(estimate: Estimate | None) -> str:
    return "–" if estimate is None else plain_number(estimate.value)


def _signed(value: float) -> str:
    text = plain_number(value)
    return f"+{text}" if value > 0 and text != "0" else text


def _plain(label: str) -> str:
    """Return a label as it stands within a sentence; abbreviations and symbols stay."""
    label = label.strip()
    return label if label[:1] == "Δ" or label[1:2].isupper() else label[:1].lower() + label[1:]


def _percent(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{100 * estimate.value:.2f}"


def _misses_zero(metric: ComparedMetric) -> bool:
    gap = metric.difference
    return gap is not None and (gap.low > 0 or gap.high < 0)


def _clause(metric: ComparedMetric) -> str:
    """Return who has more of what, by how much and how surely."""
    gap, first, second = metric.difference, metric.first, metric.second
    assert gap is not None
    assert first is not None
    assert second is not None
    up = gap.value > 0
    high, low = (second, first) if up else (first, second)
    ends = (gap.low, gap.high) if up else (-gap.high, -gap.low)
    who = "B" if up else "A"
    if metric.unit is not None:
        return _number_clause(metric, who, high.value, low.value, ends)
    number = "" if metric.size is None else f" at {metric.size:,} molecules"
    return (
        f"{who} makes {_more(metric)}{number} ({100 * high.value:.1f} % against "
        f"{100 * low.value:.1f} %, difference {100 * abs(gap.value):.1f} points, 95 % interval "
        f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f})"
    )


def _more(metric: ComparedMetric) -> str:
    kind = next((k for k in _MORE if metric.name.endswith(k)), None)
    if kind is None and metric.protocol in _MORE_OF:
        return _MORE_OF[metric.protocol].format(metric.label.strip())
    what = _MORE[kind] if kind else f"a higher {_plain(metric.label)}"
    unsaid = metric.protocol == "edm" or metric.name.startswith(("physics_", "legacy_"))
    return what if unsaid else f"{what} by {metric.protocol}"


def _number_clause(
    metric: ComparedMetric, who: str, high: float, low: float, ends: tuple[float, float]
) -> str:
    """Return the same of a mean or median, in its unit."""
    unit = f" {metric.unit}" if metric.unit else ""
    return (
        f"{who} has the larger {_plain(metric.label)} ({plain_number(high)} against "
        f"{plain_number(low)}{unit}, difference {plain_number(high - low)}, 95 % interval "
        f"{plain_number(ends[0])} to {plain_number(ends[1])})"
    )
