"""What people see."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from molbfn.evaluation.run import evaluate
from molbfn.evaluation.table import _percent, render, render_composition


def shown(table: Table) -> list[str]:
    console = Console(width=400)
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()


def row(lines: list[str], label: str) -> list[str]:
    (line,) = (x for x in lines if x.strip("│ ").startswith(label))
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_metrics_with_intervals_counts_and_failures(named):
    result = evaluate([*named("methane", "ammonium", "water", "hydrogen chloride"), None])
    lines = shown(render(result))
    metric = result["validity"]
    assert row(lines, "Validity  ") == [
        "Validity",
        "40.00",
        f"{100 * metric.low:.2f} – {100 * metric.high:.2f}",
        "2 / 5",
    ]
    text = " ".join(" ".join(lines).split())  # captions wrap
    assert "molecules in memory: 5 molecules" in text
    assert "EDM distance tables" in text
    assert "1 could not be read and 1 not judged; they count in the denominators" in text
    assert "without a distance table: Cl" in text


def test_undefined_is_a_dash_and_markup_is_plain_text(named, write):
    result = evaluate(write("[bold]x[bold].xyz", named("ammonium")))
    lines = shown(render(result))
    assert row(lines, "Uniqueness") == ["Uniqueness", "–", "–", "0 / 0"]
    assert "[bold]x[bold].xyz" in "".join(line.strip() for line in lines[:6])


def test_composition_beside_the_reference(named, write):
    reference = write("ref.xyz", named("carbon dioxide", "hydrogen chloride"))
    result = evaluate(named("methane", "water"), reference=reference)
    lines = shown(render_composition(result))
    assert row(lines, "O ") == ["O", "12.50 %", "40.00 %"]
    assert row(lines, "Cl") == ["Cl", "0.00 %", "20.00 %"]
    assert row(lines, "atoms, mean") == ["atoms, mean", "4.00", "2.50"]
    assert row(lines, "atoms, range") == ["atoms, range", "3 – 5", "2 – 3"]
    assert any("Sizes differ by 0.500" in line for line in lines)
    alone = shown(render_composition(evaluate(named("water"))))
    assert row(alone, "H ") == ["H", "66.67 %"]


def test_percent_is_never_rounded_to_everything_or_nothing():
    assert _percent(1.0) == "100.00"
    assert _percent(0.999999) == ">99.99"
    assert _percent(0.0) == "0.00"
    assert _percent(0.000001) == "<0.01"
    assert _percent(0.98765) == "98.77"
