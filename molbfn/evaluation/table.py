"""An evaluation as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from molbfn.evaluation.composition import Composition
    from molbfn.evaluation.metrics import Metric
    from molbfn.evaluation.result import EvaluationResult


def render(result: EvaluationResult) -> Table:
    """Return the metrics, one row each, in percent with their intervals and counts."""
    from rich.table import Table
    from rich.text import Text

    # Text, for file names may hold the brackets of rich's mark-up
    title = Text(f"{', '.join(result.sources)}: {result.given:,} molecules")
    table = Table(title=title, caption=Text(_caption(result)), caption_justify="left")
    table.add_column("Metric")
    table.add_column("%", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("Count", justify="right")
    protocols = {metric.protocol for metric in result.metrics}
    for metric in result.metrics:
        label = f"{metric.label} ({metric.protocol})" if len(protocols) > 1 else metric.label
        table.add_row(label, *_cells(metric))
    return table


def render_composition(result: EvaluationResult) -> Table:
    """Return sizes and element shares, with those of the reference beside them."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Composition")
    table.add_column("")
    table.add_column("molecules", justify="right")
    columns = [result.composition]
    if result.reference_composition is not None:
        table.add_column(Text(str(result.reference)), justify="right")
        columns.append(result.reference_composition)
    facts = [_facts(column) for column in columns]
    # the reference may have elements that the molecules lack, and the other way round
    for name in dict.fromkeys(key for found in facts for key in found):
        table.add_row(name, *(found.get(name, "0.00 %") for found in facts))
    if result.size_distance is not None:
        table.caption = f"Sizes differ by {result.size_distance:.3f} (total variation distance)"
    return table


def _cells(metric: Metric) -> tuple[str, str, str]:
    count = f"{metric.numerator:,} / {metric.denominator:,}"
    if metric.value is None or metric.low is None or metric.high is None:
        return "–", "–", count
    return _percent(metric.value), f"{_percent(metric.low)} – {_percent(metric.high)}", count


def _percent(share: float) -> str:
    """Return two decimals, never 100 or 0 for what is not exactly that."""
    text = f"{100 * share:.2f}"
    if share < 1 and text == "100.00":
        return ">99.99"
    return "<0.01" if share > 0 and text == "0.00" else text


def _caption(result: EvaluationResult) -> str:
    names = {
        "edm": "edm: EDM distance tables; bonds and charges of the file are ignored",
        "bonds": "bonds: the file's own bonds and formal charges, kekulised",
    }
    lines = [names.get(p, p) for p in dict.fromkeys(m.protocol for m in result.metrics)]
    if result.failed:
        lines.append(
            f"{result.unreadable:,} could not be read and {result.unjudged:,} not judged; "
            "they count in the denominators"
        )
        lines.extend(result.problems[:3])
    return "\n".join(lines)


def _facts(composition: Composition) -> dict[str, str]:
    sizes = composition.sizes
    facts = {"molecules": f"{composition.molecules:,}"}
    if sizes and composition.mean_size is not None:
        facts["atoms, mean"] = f"{composition.mean_size:.2f}"
        quartiles = [composition.size_quantile(share) for share in (0.25, 0.5, 0.75)]
        facts["atoms, quartiles"] = " / ".join(str(q) for q in quartiles)
        facts["atoms, range"] = f"{min(sizes)} – {max(sizes)}"
    shares = composition.element_percent()
    return facts | {name: f"{share:.2f} %" for name, share in shares.items()}
