"""Quality of generated text: the share of words that are spelled right, and its entropy.

Xue et al. 2024 measure spelling; here with hunspell's en_US dictionary through spylls.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

from molbfn.errors import UserError


def spelling_accuracy(texts: Sequence[str], known: Callable[[str], bool] | None = None) -> float:
    """Return the share of words that are in the dictionary, in [0, 1]; NaN without words.

    The first and last word of a text may be cut and are left out.  A word counts if it is right
    in lower case, as a name, or as an acronym: text8 has no capitals.

    Args:
        texts: words separated by spaces.
        known: whether a word is right; hunspell's en_US by default.

    Raises:
        UserError: spylls is not installed.
    """
    known = known or _dictionary()
    words = Counter(word for text in texts for word in _whole_words(text))
    if not words:
        return math.nan
    right = sum(
        count
        for word, count in words.items()
        if known(word) or known(word.capitalize()) or known(word.upper())
    )
    return right / words.total()


def symbol_entropy(texts: Sequence[str]) -> float:
    """Return the mean over texts of the entropy of a text's own characters, bits."""
    return sum(_entropy(Counter(text)) for text in texts) / len(texts)


def word_entropy(texts: Sequence[str]) -> float:
    """Return the entropy of the words of all texts together, bits; NaN without words.

    It grows with the amount of text: compare equal amounts.
    """
    words = Counter(word for text in texts for word in _whole_words(text))
    return _entropy(words) if words else math.nan


def _whole_words(text: str) -> list[str]:
    return [word for word in text.split(" ")[1:-1] if word]


def _entropy(counts: Counter[str]) -> float:
    total = counts.total()
    return -sum(n / total * math.log2(n / total) for n in counts.values())


@lru_cache
def _dictionary() -> Callable[[str], bool]:
    try:
        from spylls.hunspell import Dictionary
        from spylls.hunspell import data as dictionaries
    except ImportError:
        raise UserError("spelling needs spylls: pip install 'molbfn[bench]'") from None
    from pathlib import Path

    words = Dictionary.from_files(str(Path(dictionaries.__file__).parent / "en" / "en_US"))
    return lru_cache(maxsize=None)(words.lookup)
