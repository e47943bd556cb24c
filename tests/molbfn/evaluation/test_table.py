"""What people see."""

from __future__ import annotations

import dataclasses

from rich.console import Console
from rich.table import Table

from molbfn.evaluation.metrics import Quantity
from molbfn.evaluation.run import evaluate
from molbfn.evaluation.table import (
    _percent,
    plain_number,
    render,
    render_composition,
    render_distances,
    tables,
)


def shown(table: Table) -> list[str]:
    console = Console(width=400)
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()


def row(lines: list[str], label: str) -> list[str]:
    (line,) = (x for x in lines if x.strip("│ ").startswith(label))
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_metrics_with_intervals_counts_and_failures(named):
    result = evaluate([*named("methane", "ammonium", "water", "sodium hydride"), None])
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
    assert "without a distance table: Na" in text


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


def test_several_protocols_have_a_heading_each(named):
    lines = shown(render(evaluate(named("methane"), protocols=("edm", "bonds"))))
    headings = [line.strip("│ ") for line in lines if line.startswith("│")]
    assert [name for name in headings if name in ("edm", "bonds")] == ["edm", "bonds"]
    assert sum("Molecule stability" in line for line in lines) == 2


def test_numbers_that_are_no_shares_and_what_was_skipped(named):
    energy = Quantity(
        "e", "ΔE, median", 1.234, 0.91, 1.73, "kcal/mol", 3, 4, "physics", "bootstrap", "an energy"
    )
    none = dataclasses.replace(energy, label="RMSD", value=None, low=None, high=None)
    result = dataclasses.replace(
        evaluate(named("methane")),
        quantities=(energy, none),
        notes=("physics: a note",),
        skipped={"posebusters": "needs posebusters"},
    )
    lines = [line for table in tables(result) for line in shown(table)]
    assert row(lines, "ΔE, median") == ["ΔE, median", "1.23 kcal/mol", "0.910 – 1.73", "3 / 4"]
    assert row(lines, "RMSD") == ["RMSD", "–", "–", "3 / 4"]
    text = " ".join(lines)
    assert "physics: a note" in text
    assert "posebusters: skipped, needs posebusters" in text
    assert "rdkit 20" in text


def test_distances_to_the_reference(named, write):
    molecules = named("methane", "water") * 10
    reference = write("ref.xyz", named("methane"))
    result = evaluate(molecules, reference=reference, protocols=("distributions",))
    lines = [line for table in tables(result) for line in shown(table)]
    assert any("Distance to ref.xyz" in line for line in lines)
    # 6 H, C, O of 8 atoms against 4 H, C of 5
    assert row(lines, "Elements")[1:3] == ["0.125", "total variation"]


def test_three_digits_and_no_exponent_for_people():
    numbers = (0.0, 0.5, 1.234, 12.34, 123.4, 1234.5, 0.00123, -3.14159, 1e-7, 1e9, 1e-14)
    assert [plain_number(x) for x in numbers] == [
        "0", "0.500", "1.23", "12.3", "123", "1,234", "0.00123", "-3.14", "1.00e-07", "1.00e+09",
        "0",
    ]  # fmt: skip


def test_everything_fits_on_100_columns(embed):
    result = evaluate([embed("CCO")] * 3, protocols=("edm", "bonds", "revisited", "similarity"))
    console = Console(width=100)
    with console.capture() as capture:
        for table in tables(result):
            console.print(table)
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 100
    # no label is broken into two lines
    assert not [
        line for line in lines if line.startswith("│") and not line[1:].split("│")[0].strip()
    ]


def test_five_kinds_of_a_family_are_shown_and_the_rest_counted(named):
    result = evaluate(named("methane"), protocols=("distributions",))
    elements = dataclasses.replace(result.distributions[0], name="bond_kinds", distance=0.1)
    lengths = [
        dataclasses.replace(elements, name=f"bond_length_X-{k}_1", label=f"kind {k}")
        for k in range(8)
    ]
    table = render_distances(dataclasses.replace(result, distributions=(elements, *lengths)))
    lines = shown(table)
    assert sum("kind" in line for line in lines if line.startswith("│ kind")) == 5
    assert any("and 3 more" in line for line in lines)
