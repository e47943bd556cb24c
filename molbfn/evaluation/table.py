"""An evaluation as tables for the terminal, readable on 100 columns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from molbfn.evaluation.composition import Composition
    from molbfn.evaluation.distributions import Distribution
    from molbfn.evaluation.metrics import Metric, Quantity
    from molbfn.evaluation.result import EvaluationResult

_PROTOCOLS = {
    "edm": "EDM distance tables; bonds and charges of the file are ignored",
    "bonds": "the file's own bonds and formal charges, kekulised",
    "revisited": "own bonds; counted valences with aromatic bonds apart, legacy table beside",
    "agreement": "the same bonds by the file, EDM's table and RDKit's perception",
    "posebusters": "the tests of PoseBusters",
    "physics": "relaxation by GFN2-xTB",
    "similarity": "Tanimoto similarity of Morgan fingerprints",
}
_KINDS = ("bond_length_", "angle_", "torsion_")
_KINDS_SHOWN = 5


def tables(result: EvaluationResult) -> Iterator[Table]:
    """Yield the tables of what there is: shares, other numbers, distances, composition."""
    if result.metrics or result.failed or not result.quantities:
        yield render(result)
    if result.quantities:
        yield render_quantities(result)
    if any(d.distance is not None for d in result.distributions):
        yield render_distances(result)
    yield render_composition(result)


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
    protocols = dict.fromkeys(metric.protocol for metric in result.metrics)
    for protocol in protocols:
        if len(protocols) > 1:
            table.add_section()
            table.add_row(Text(protocol, style="bold"))
        for metric in result.metrics:
            if metric.protocol == protocol:
                table.add_row(metric.label, *_cells(metric))
    return table


def render_quantities(result: EvaluationResult) -> Table:
    """Return energies and other numbers, with the molecules that they were measured on."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Other numbers", caption=Text(_notes(result)), caption_justify="left")
    table.add_column("")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("measured / given", justify="right")
    protocols = dict.fromkeys(quantity.protocol for quantity in result.quantities)
    for protocol in protocols:
        table.add_section()
        table.add_row(Text(protocol, style="bold"))
        for quantity in result.quantities:
            if quantity.protocol == protocol:
                table.add_row(*_quantity_cells(quantity))
    return table


def render_distances(result: EvaluationResult) -> Table:
    """Return how far the distributions are from those of the reference."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"Distance to {result.reference}"))
    table.add_column("")
    table.add_column("distance", justify="right")
    table.add_column("kind")
    table.add_column("values", justify="right")
    compared = [d for d in result.distributions if d.distance is not None]
    shown = list(_first_of_each_family(compared))
    for d in shown:
        distance = f"{plain_number(d.distance or 0.0)} {d.unit or ''}".strip()
        table.add_row(d.label, distance, d.distance_kind, f"{d.count:,}")
    if len(compared) > len(shown):
        table.caption = f"and {len(compared) - len(shown)} more in the JSON (--json)"
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


def _first_of_each_family(distributions: list[Distribution]) -> Iterator[Distribution]:
    """Yield the commonest kinds of bond lengths, angles and torsions, and all that is no kind."""
    seen: Counter[str] = Counter()
    for d in distributions:
        family = next((name for name in _KINDS if d.name.startswith(name)), "")
        seen[family] += 1
        if not family or seen[family] <= _KINDS_SHOWN:
            yield d


def _cells(metric: Metric) -> tuple[str, str, str]:
    count = f"{metric.numerator:,} / {metric.denominator:,}"
    if metric.value is None or metric.low is None or metric.high is None:
        return "–", "–", count
    return _percent(metric.value), f"{_percent(metric.low)} – {_percent(metric.high)}", count


def _quantity_cells(quantity: Quantity) -> tuple[str, str, str, str]:
    unit = f" {quantity.unit}" if quantity.unit else ""
    value = "–" if quantity.value is None else f"{plain_number(quantity.value)}{unit}"
    ends = "–"
    if quantity.low is not None and quantity.high is not None:
        ends = f"{plain_number(quantity.low)} – {plain_number(quantity.high)}"
    return quantity.label, value, ends, f"{quantity.count:,} / {quantity.given:,}"


def plain_number(value: float) -> str:
    """Return three significant digits, and no exponent for what people read without one."""
    if abs(value) < 1e-9:  # zero but for rounding
        return "0"
    if not 1e-4 <= abs(value) < 1e5:
        return f"{value:.2e}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, digits)}f}"


def _percent(share: float) -> str:
    """Return two decimals, never 100 or 0 for what is not exactly that."""
    text = f"{100 * share:.2f}"
    if share < 1 and text == "100.00":
        return ">99.99"
    return "<0.01" if share > 0 and text == "0.00" else text


def _caption(result: EvaluationResult) -> str:
    protocols = dict.fromkeys(metric.protocol for metric in result.metrics)
    lines = [f"{p}: {_PROTOCOLS[p]}" if p in _PROTOCOLS else p for p in protocols]
    if result.failed:
        lines.append(
            f"{result.unreadable:,} could not be read and {result.unjudged:,} not judged; "
            "they count in the denominators"
        )
        lines.extend(result.problems[:3])
    if not result.quantities:
        lines.extend(filter(None, [_notes(result)]))
    return "\n".join(lines)


def _notes(result: EvaluationResult) -> str:
    lines = list(result.notes)
    lines += [f"{name}: skipped, {reason}" for name, reason in result.skipped.items()]
    versions = [f"{name} {version}" for name, version in result.versions.items()]
    return "\n".join([*lines, f"versions: {', '.join(versions)}"])


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
