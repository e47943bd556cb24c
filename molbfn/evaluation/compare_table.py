"""A comparison of two sets of molecules for people: a table and a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from molbfn.evaluation.compare import ALPHA, ComparedMetric, Comparison

if TYPE_CHECKING:
    from rich.table import Table

    from molbfn.evaluation.rarefaction import Share

# what a set with the larger value makes more of, by the end of a metric's name
_MORE = {
    "atom_stability": "a larger share of stable atoms",
    "molecule_stability": "more stable molecules",
    "connected_validity": "more valid molecules in one piece",
    "validity": "more valid molecules",
    "valid_unique": "more different valid molecules",
    "uniqueness": "fewer duplicates among its valid molecules",
}


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
        text = "; ".join([*map(_clause, beyond), *([rest] if rest else [])]) + f" {how}."
    if alone:
        names = ", ".join(f"{m.label.lower()} ({m.protocol})" for m in alone)
        text += (
            f" Taken alone, the 95 % interval of {names} misses 0, but among so many metrics "
            "that may be chance."
        )
    return text


def render(comparison: Comparison) -> Table:
    """Return the metrics of both sets and their differences in points, one row each."""
    from rich.table import Table
    from rich.text import Text

    title = " and ".join(
        f"{name} = {source} ({given:,})"
        for name, source, given in zip("AB", comparison.sources, comparison.given, strict=True)
    )
    lines = [f"* compared at a common number of molecules: {_sizes(comparison)}"]
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
    for metric in comparison.metrics:
        label = f"{metric.label} ({metric.protocol})" if many else metric.label
        star = "" if metric.size is None else " *"
        table.add_row(label + star, *_cells(metric))
    return table


def _cells(metric: ComparedMetric) -> tuple[str, ...]:
    values = _percent(metric.first), _percent(metric.second)
    gap = metric.difference
    if gap is None or metric.adjusted_p is None:
        return (*values, "–", "–", "–", "")
    interval = f"{100 * gap.low:+.2f} to {100 * gap.high:+.2f}"
    p = "<0.001" if metric.adjusted_p < 0.001 else f"{metric.adjusted_p:.3f}"
    return (*values, f"{100 * gap.value:+.2f}", interval, p, "differs" if metric.differs else "")


def _percent(share: Share | None) -> str:
    return "–" if share is None else f"{100 * share.value:.2f}"


def _sizes(comparison: Comparison) -> str:
    sizes = dict.fromkeys(f"{m.size:,}" for m in comparison.metrics if m.size is not None)
    return ", ".join(sizes)


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
    kind = next((k for k in _MORE if metric.name.endswith(k)), None)
    what = _MORE[kind] if kind else f"a higher {metric.label.lower()}"
    if metric.protocol != "edm":
        what += f" by {metric.protocol}"
    number = "" if metric.size is None else f" at {metric.size:,} molecules"
    return (
        f"{'B' if up else 'A'} makes {what}{number} ({100 * high.value:.1f} % against "
        f"{100 * low.value:.1f} %, difference {100 * abs(gap.value):.1f} points, 95 % interval "
        f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f})"
    )
