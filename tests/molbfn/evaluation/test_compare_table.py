from __future__ import annotations

import dataclasses

import pytest

from molbfn.evaluation.compare import ComparedMetric, Comparison
from molbfn.evaluation.compare_table import sentence, tables
from molbfn.evaluation.differences import Difference
from molbfn.evaluation.intervals import Estimate, Interval


def metric(name: str, first: float, second: float, p: float, low: float, high: float):
    shares = [Estimate(v, Interval(v - 0.01, v + 0.01, "bootstrap")) for v in (first, second)]
    gap = Difference(second - first, low, high, p, "bootstrap")
    return ComparedMetric(name, name.title(), "edm", *shares, gap, p, None, "")


def comparison(*metrics: ComparedMetric) -> Comparison:
    return Comparison(("a", "b"), (9, 9), (0, 1), metrics, None, ("a note",), 0)


def test_the_sentence_names_the_larger_side_and_turns_the_interval() -> None:
    up = metric("molecule_stability", 0.941, 0.958, 0.01, 0.004, 0.030)
    down = metric("validity", 0.9, 0.8, 0.01, -0.15, -0.05)
    text = sentence(comparison(up, down, metric("uniqueness", 0.5, 0.5, 1.0, -0.1, 0.1)))
    assert text == (
        "B makes more stable molecules (95.8 % against 94.1 %, difference 1.7 points, 95 % "
        "interval 0.4 to 3.0); A makes more valid molecules (90.0 % against 80.0 %, difference "
        "10.0 points, 95 % interval 5.0 to 15.0); no other difference is beyond noise (Holm's "
        "correction over 3 metrics, level 5%)."
    )


def test_what_stands_out_alone_is_not_called_a_difference() -> None:
    text = sentence(comparison(metric("validity", 0.8, 0.9, 0.2, 0.01, 0.2)))
    assert text.startswith("No difference is beyond noise (level 5%).")
    assert "Taken alone" in text


def test_nothing_to_compare() -> None:
    assert sentence(comparison()) == "Nothing can be compared."


@pytest.mark.parametrize("p", [0.0001, 0.5])
def test_the_table(p: float, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    (table,) = tables(comparison(metric("validity", 0.8, 0.9, p, 0.01, 0.2)))
    Console(width=160).print(table)
    out = capsys.readouterr().out
    assert "+10.00" in out
    assert "+1.00 to +20.00" in out
    assert ("differs" in out) == (p < 0.05)
    assert "A 0, B 1" in out
    assert "a note" in out


def energy(first: float, second: float, p: float) -> ComparedMetric:
    shape = metric(
        "physics_energy_median", first, second, p, second - first - 1, second - first + 1
    )
    return dataclasses.replace(
        shape, label="ΔE, median", protocol="physics", unit="kcal/mol", measured=((7, 9), (9, 9))
    )


def test_energies_have_their_unit_and_their_own_table(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    found = comparison(metric("validity", 0.8, 0.8, 1.0, -0.1, 0.1), energy(14.7, 1.4, 0.001))
    assert sentence(found) == (
        "A has the larger ΔE, median (14.7 against 1.40 kcal/mol, difference 13.3, 95 % interval "
        "12.3 to 14.3); no other difference is beyond noise (Holm's correction over 2 metrics, "
        "level 5%)."
    )
    for table in tables(found):
        Console(width=160).print(table)
    out = capsys.readouterr().out
    assert "-13.3" in out
    assert "-14.3 to -12.3" in out
    assert "7/9, 9/9" in out
    assert "ΔE, median, kcal/mol" in out
    alone = sentence(comparison(dataclasses.replace(energy(1, 3, 0.2), adjusted_p=0.2)))
    assert "interval of ΔE, median (physics) misses 0" in alone


def test_many_differences_are_not_all_said() -> None:
    names = [f"posebusters_{k}" for k in range(9)]
    rows = [
        dataclasses.replace(
            metric(name, 0.5, 0.9, 0.001 if k != 4 else 0.04, 0.3, 0.5),
            protocol="posebusters", label=f"  test {k}",
        )
        for k, name in enumerate(names)
    ]  # fmt: skip
    text = sentence(comparison(*rows))
    assert text.count("B makes more molecules that pass the test") == 6
    assert '"test 0" of PoseBusters' in text
    assert '"test 4"' not in text  # the least sure one
    assert "3 more figures differ beyond noise (see the table)" in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("legacy_molecule_stability", "more molecules that the legacy table calls stable ("),
        ("revisited_molecule_stability", "more stable molecules by revisited ("),
        ("revisited_connected_unique_inchikey", "more different valid molecules in one piece by"),
        ("physics_below_5", "more molecules that lose less than 5 kcal/mol on relaxation ("),
        ("agreement_file_rdkit", "more molecules whose bonds agree (Agreement_File_Rdkit) ("),
        ("bonds_novelty", "a higher bonds_Novelty by bonds ("),
        ("posebusters_valid", "more molecules that pass all tests by posebusters ("),
    ],
)
def test_what_the_better_set_makes_more_of(name: str, said: str) -> None:
    protocol = "revisited" if name.startswith("legacy") else name.split("_")[0]
    row = dataclasses.replace(metric(name, 0.5, 0.9, 0.01, 0.3, 0.5), protocol=protocol)
    assert f"B makes {said}" in sentence(comparison(row))
