from __future__ import annotations

import errno
from pathlib import Path

import pytest

from molbfn.chem import records
from molbfn.chem.records import (
    LineBudget,
    Problem,
    ReadRecord,
    RecordError,
    check_coordinates,
    element,
    element_or_number,
    highest,
    one_line,
    partial_path,
    record_index,
    system_errors,
)
from molbfn.errors import UserError


def test_one_line_keeps_words_and_drops_breaks() -> None:
    assert one_line(" a\nb\r\tc  d\u2028e \x00") == "a b  c  d e"
    assert one_line(12) == "12"


def test_record_index_prefers_the_specific_name() -> None:
    assert record_index({"index": 4, "molbfn_index": 9}) == 9
    assert record_index({"index": 4}) == 4
    assert record_index({"index": "x"}) is None
    assert record_index({}) is None


def test_highest_with_missing_ones() -> None:
    assert highest(None, None) is None
    assert highest(None, 3) == highest(3, None) == highest(2, 3) == highest(3, 2) == 3
    assert highest(0, None) == 0


def test_partial_name() -> None:
    assert partial_path(Path("a/b.sdf.gz")) == Path("a/b.sdf.gz.partial")


def test_a_full_disk_is_named_with_the_fix() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    expected = r"^out\.sdf: No space left on device; free some space"
    with pytest.raises(UserError, match=expected), system_errors(Path("out.sdf")):
        raise full


@pytest.mark.parametrize("word", ["*", "R#", "R", "R1", "R12", "A", "Q", "X", "LP", "Du"])
def test_dummy_atoms_are_called_by_their_name(word: str) -> None:
    with pytest.raises(RecordError, match="dummy atom, R group or query atom") as error:
        element(word, 7)
    assert error.value.line == 7


def test_elements_by_symbol_and_number() -> None:
    assert [element(word, 1) for word in ("C", "cl", " D ", "T", "Rn")] == [6, 17, 1, 1, 86]
    assert [element_or_number(word, 1) for word in ("6", "118", "006", "He")] == [6, 118, 6, 2]
    for word in ("0", "119", "\xb2", "1e1", "Qq", "x" * 100_000):
        with pytest.raises(RecordError):
            element_or_number(word, 1)


def test_coordinates_that_can_be_calculated_with() -> None:
    check_coordinates([1e29, -3.0], 1)
    for value in (float("nan"), float("inf"), -1e31):
        with pytest.raises(RecordError, match="finite"):
            check_coordinates([0.0, value], 1)


def test_a_budget_counts_lines_that_it_does_not_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 200)
    budget = LineBudget("one\r\n", "two\n")
    assert budget.lines == ["one", "two"]
    assert budget.problem() is None
    budget.add("x" * 100)
    assert (budget.lines, budget.count) == ([], 3)
    assert "larger than" in str(budget.problem())


def test_reasons_are_short_and_one_line() -> None:
    assert len(str(RecordError("x\n" * 10_000))) < 210
    assert "\n" not in str(RecordError("a\nb"))


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("a.sdf", 3, 40, "why"), "a.sdf: record 3 (line 40): why"),
        (Problem("a.npz", 3, None, "why"), "a.npz: record 3: why"),
        (Problem("a.sdf", None, None, "why"), "a.sdf: why"),
    ],
)
def test_a_problem_says_where(problem: Problem, text: str) -> None:
    assert str(problem) == text
    assert ReadRecord(0, None, problem).reason == text
