from __future__ import annotations

import pytest

from molbfn.evaluation.compare import ComparedMetric, Comparison
from molbfn.evaluation.compare_table import render, sentence
from molbfn.evaluation.differences import Difference
from molbfn.evaluation.intervals import Interval
from molbfn.evaluation.rarefaction import Share


def metric(name: str, first: float, second: float, p: float, low: float, high: float):
    shares = [Share(v, Interval(v - 0.01, v + 0.01, "bootstrap")) for v in (first, second)]
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

    Console(width=160).print(render(comparison(metric("validity", 0.8, 0.9, p, 0.01, 0.2))))
    out = capsys.readouterr().out
    assert "+10.00" in out
    assert "+1.00 to +20.00" in out
    assert ("differs" in out) == (p < 0.05)
    assert "A 0, B 1" in out
    assert "a note" in out
