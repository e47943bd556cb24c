import itertools

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from molbfn.benchmarks.ngrams import count_ngrams, find_successors, shortest_contexts

WORDS = "the cat sat on the mat and the cat ate the rat "


def symbols_of(text):
    letters = sorted(set(text))
    return np.array([letters.index(c) for c in text], np.uint8), letters


def read(code, letters):
    text = ""
    while code:
        code, digit = divmod(int(code), len(letters) + 1)
        text = letters[digit - 1] + text
    return text


def test_probabilities_are_discounted_counts_filled_up_with_shorter_contexts():
    symbols, letters = symbols_of(WORDS * 20)
    text, classes = WORDS * 20, len(letters)
    found = count_ngrams(symbols, classes=classes, order=3, states=30)
    rows = dict(zip((read(c, letters) for c in found.contexts), found.probabilities, strict=True))
    counts = {c: text.count(c) for c in letters}
    empty = {c: (counts[c] + 1) / (len(text) + classes) for c in letters}
    assert rows[""].tolist() == pytest.approx([empty[c] for c in letters], rel=1e-5)

    def after(context):
        ends = [k + len(context) for k in range(len(text)) if text.startswith(context, k)]
        following = [text[k] for k in ends if k < len(text)]
        return {c: following.count(c) for c in letters}, len(following)

    def filled(context, shorter):
        seen, total = after(context)
        kinds = sum(1 for c in letters if seen[c])
        return {c: (max(seen[c] - 0.75, 0) + 0.75 * kinds * shorter[c]) / total for c in letters}

    one = filled("t", empty)
    assert rows["t"].tolist() == pytest.approx([one[c] for c in letters], rel=1e-4)
    pairs = [context for context in rows if len(context) == 2]
    assert pairs
    for context in pairs:
        two = filled(context, filled(context[1], empty))
        assert rows[context].tolist() == pytest.approx([two[c] for c in letters], rel=1e-4)


def test_the_contexts_that_say_most_are_kept():
    """After q comes u whatever was before it; after an a what comes depends on what was before."""
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(["qu", "xab", "yac"]) for _ in range(2000))
    symbols, letters = symbols_of(text)
    found = count_ngrams(symbols, classes=len(letters), order=3, states=len(letters) + 3)
    assert {read(c, letters) for c in found.contexts if c > len(letters)} == {"xa", "ya"}


@given(
    st.lists(st.integers(0, 2), min_size=60, max_size=200), st.integers(4, 40), st.integers(2, 5)
)
def test_contexts_are_closed_and_successors_the_longest(values, states, order):
    symbols = np.array([0, 1, 2, 0, *values], np.uint8)
    try:
        found = count_ngrams(symbols, classes=3, order=order, states=states)
    except ValueError:
        reject()  # the text has fewer contexts
    texts = [read(c, "abc") for c in found.contexts]
    assert len(texts) == len(set(texts)) == states
    assert max(map(len, texts)) < order
    assert {"", "a", "b", "c"} <= set(texts)
    assert np.allclose(found.probabilities.sum(1), 1, atol=1e-5)
    assert found.probabilities.min() > 0
    for text in texts:
        assert text[:-1] in texts
        assert text[1:] in texts
    successors = find_successors(found.contexts, 3)
    for (row, text), (k, symbol) in itertools.product(enumerate(texts), enumerate("abc")):
        whole = text + symbol
        longest = next(whole[j:] for j in range(len(whole)) if whole[j:] in texts)
        assert texts[successors[row, k]] == longest


@pytest.mark.parametrize("states", [3, 10_000])
def test_a_number_of_contexts_that_cannot_be(states):
    symbols, letters = symbols_of(WORDS * 5)
    with pytest.raises(ValueError, match=f"{states} states: the text has {len(letters) + 1} cont"):
        count_ngrams(symbols, classes=len(letters), order=4, states=states)


def test_without_contexts_there_are_no_ngrams():
    with pytest.raises(ValueError, match="order 1 have no contexts"):
        count_ngrams(np.array([0, 1, 0]), classes=2, order=1, states=1)


def test_the_shortest_contexts():
    codes = shortest_contexts(9, 3)
    assert [read(c, "abc") for c in codes] == ["", "a", "b", "c", "aa", "ab", "ac", "ba", "bb"]
    successors = find_successors(codes, 3)
    assert read(codes[successors[8, 0]], "abc") == "ba"  # after bb, a: ba, for there is no bba
