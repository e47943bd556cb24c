import math
import sys

import pytest

from molbfn.benchmarks import spelling
from molbfn.errors import UserError

KNOWN = {"the", "cat", "sat", "London", "NATO"}


def accuracy(*texts: str) -> float:
    return spelling.spelling_accuracy(texts, known=KNOWN.__contains__)


def test_words_are_counted_by_hand():
    # First and last words may be cut: "x" and "mat" do not count.
    assert accuracy("x the cat zat mat") == pytest.approx(2 / 3)
    assert accuracy("x the the the zat mat") == pytest.approx(3 / 4)
    assert accuracy("x the mat", "x zat mat") == pytest.approx(1 / 2)


def test_names_and_acronyms_have_no_capitals_in_text8():
    assert accuracy("x london nato mat") == 1
    assert accuracy("x the  cat mat") == 1  # two spaces are no word


def test_nothing_to_judge():
    assert math.isnan(accuracy("wholewords"))
    assert math.isnan(spelling.word_entropy(["one two"]))


def test_entropies_by_hand():
    assert spelling.symbol_entropy(["aabb", "aaaa"]) == pytest.approx(0.5)
    assert spelling.word_entropy(["x a b c d y"]) == pytest.approx(2)
    assert spelling.word_entropy(["x a a y"]) == 0


def test_hunspells_dictionary():
    pytest.importorskip("spylls")
    good = "x the quick brown foxes jumped over england y"
    bad = "x thw quikc brwon foxxes jumpped ovre englnad y"
    assert spelling.spelling_accuracy([good]) == 1
    assert spelling.spelling_accuracy([bad]) < 0.2


def test_without_spylls(monkeypatch):
    spelling._dictionary.cache_clear()
    monkeypatch.setitem(sys.modules, "spylls.hunspell", None)
    with pytest.raises(UserError, match="pip install"):
        spelling.spelling_accuracy(["x the y"])
    spelling._dictionary.cache_clear()
