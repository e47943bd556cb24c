"""A Markov source of text, counted: the symbols that follow contexts of different lengths.

A context is kept where knowing it changes what follows, as in Stolcke 1998 (arXiv cs/0006025):
those with the largest sum over the text of ``ln p(next | context) / p(next | context without its
first symbol)``.  Probabilities are counts with absolute discounting, filled up with those of the
next shorter context (Chen and Goodman 1999, section 2.7).

A context is coded as a number in base K + 1 whose digits are symbols + 1, the last symbol the
lowest digit; the empty one is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_FEWEST = 3  # times that a context of three symbols and more must be there
_DISCOUNT = 0.75


@dataclass(frozen=True)
class NGrams:
    """Contexts in the order of their last symbols, so that those that follow on each other's
    successors lie together in memory.

    Attributes:
        contexts: codes, int64 [N].
        probabilities: of each symbol after each context, float32 [N, K].
    """

    contexts: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class _Level:
    """Contexts of one length, sorted by their code.

    Attributes:
        contexts, probabilities: as in :class:`NGrams`.
        gain: nats over the whole text that they save against the contexts one shorter.
    """

    contexts: np.ndarray
    probabilities: np.ndarray
    gain: np.ndarray


def count_ngrams(symbols: np.ndarray, *, classes: int, order: int, states: int) -> NGrams:
    """Return the contexts that say most of a text, with what follows them.

    Args:
        symbols: the text, integers in [0, classes), one-dimensional.
        classes: K.
        order: of the longest n-grams; contexts have up to order - 1 symbols.
        states: N, the empty context and all single symbols included.

    Raises:
        ValueError: order below 2; N is less than those, or more than the text has contexts.
    """
    if order < 2:
        raise ValueError(f"n-grams of order {order} have no contexts")
    levels = [_empty_context(symbols, classes)]
    for length in range(1, order):
        levels.append(_next_level(symbols, length, classes, levels[-1]))
    available = sum(len(level.contexts) for level in levels)
    least = 1 + len(levels[1].contexts)
    if not least <= states <= available:
        raise ValueError(
            f"{states} states: the text has {least} contexts of up to one symbol, and {available} "
            f"of up to {order - 1} symbols"
        )
    kept = list(zip(levels, _choose(levels, states, classes + 1), strict=True))
    contexts = np.concatenate([level.contexts[keep] for level, keep in kept])
    probabilities = np.concatenate([level.probabilities[keep] for level, keep in kept])
    sequence = np.argsort(_reversed(contexts, classes + 1, order - 1))
    return NGrams(contexts[sequence], probabilities[sequence])


def shortest_contexts(states: int, classes: int) -> np.ndarray:
    """Return the codes of the first contexts by length and symbols, int64 [states]."""
    level, found = np.zeros(1, np.int64), [np.zeros(1, np.int64)]
    while sum(len(part) for part in found) < states:
        level = (level[:, None] * (classes + 1) + np.arange(1, classes + 1)).flatten()
        found.append(level)
    return np.concatenate(found)[:states]


def find_successors(contexts: np.ndarray, classes: int) -> np.ndarray:
    """Return the number of the longest context there is after each one and a symbol, int64 [N, K].

    Args:
        contexts: codes [N] in any order, among them the single symbols; with each context the one
            without its last symbol.
        classes: K.
    """
    base = classes + 1
    order = np.argsort(contexts)
    known = contexts[order]
    ahead = contexts[:, None] * base + np.arange(1, base)
    result = np.full(ahead.shape, -1, np.int64)
    longest = 1
    while base**longest <= known[-1]:
        longest += 1
    for digits in range(longest, 0, -1):
        tail = ahead % base**digits
        found = _look_up(tail, known)
        hit = found.there & (result < 0) & (tail >= base ** (digits - 1))
        result[hit] = order[found.place[hit]]
    return result


@dataclass(frozen=True)
class _Found:
    """Where values stand among sorted numbers.

    Attributes:
        place: where each one would stand.
        there: whether it does.
    """

    place: np.ndarray
    there: np.ndarray


def _look_up(values: np.ndarray, known: np.ndarray) -> _Found:
    """Look values up in sorted numbers, of which there is at least one."""
    place = np.searchsorted(known, values).clip(max=len(known) - 1)
    return _Found(place, known[place] == values)


def _parts(codes: np.ndarray, length: int, base: int) -> tuple[np.ndarray, np.ndarray]:
    """Return contexts of this length without their last and without their first symbol."""
    return codes // base, codes % base ** (length - 1)


def _reversed(codes: np.ndarray, base: int, digits: int) -> np.ndarray:
    """Return the codes with their digits the other way round."""
    result = np.zeros_like(codes)
    for _ in range(digits):
        result, codes = result * base + codes % base, codes // base
    return result


def _empty_context(symbols: np.ndarray, classes: int) -> _Level:
    counts = np.bincount(symbols, minlength=classes) + 1.0
    probabilities = (counts / counts.sum()).astype(np.float32)[None]
    return _Level(np.zeros(1, np.int64), probabilities, np.full(1, np.inf))


def _next_level(symbols: np.ndarray, length: int, classes: int, shorter: _Level) -> _Level:
    """Count the contexts of ``length`` symbols whose part without the first one is known."""
    base = classes + 1
    codes = np.zeros(max(0, len(symbols) - length), np.int64)
    for k in range(length + 1):
        codes = codes * base + symbols[k : len(symbols) - length + k] + 1
    grams, times = np.unique(codes, return_counts=True)
    contexts, own = np.unique(grams // base, return_inverse=True)
    counts = np.zeros((len(contexts), classes), np.float32)
    counts[own, grams % base - 1] = times
    total = counts.sum(1)
    found = _look_up(contexts % base ** (length - 1), shorter.contexts)
    keep = (total >= (_FEWEST if length > 2 else 1)) & found.there
    contexts, counts, total = contexts[keep], counts[keep], total[keep]
    before = shorter.probabilities[found.place[keep]]
    kinds = (counts > 0).sum(1)
    filled = np.maximum(counts - _DISCOUNT, 0) + (_DISCOUNT * kinds)[:, None] * before
    probabilities = (filled / total[:, None]).astype(np.float32)
    gain = total * (probabilities * np.log(probabilities / before)).sum(1)
    return _Level(contexts, probabilities, gain)


def _choose(levels: list[_Level], states: int, base: int) -> list[np.ndarray]:
    """Return which contexts of each level stay: the best ones, and what those need."""
    always = [np.full(len(level.contexts), k < 2) for k, level in enumerate(levels)]
    gains = np.sort(np.concatenate([level.gain for level in levels[2:]] or [np.empty(0)]))[::-1]
    low, high = 0, len(gains)  # so many of the best, with their parts: fits, does not
    while high - low > 1:
        middle = (low + high) // 2
        chosen = _with_parts(levels, always, gains[middle - 1], base)
        low, high = (middle, high) if _count(chosen) <= states else (low, middle)
    chosen = _with_parts(levels, always, gains[low - 1], base) if low else always
    return _filled(levels, chosen, states - _count(chosen), base)


def _count(chosen: list[np.ndarray]) -> int:
    return sum(int(keep.sum()) for keep in chosen)


def _with_parts(
    levels: list[_Level], always: list[np.ndarray], least: float, base: int
) -> list[np.ndarray]:
    """Contexts of at least this gain, with each also those without its last or first symbol."""
    chosen = [keep | (level.gain >= least) for level, keep in zip(levels, always, strict=True)]
    for length in range(len(levels) - 1, 1, -1):
        codes = levels[length].contexts[chosen[length]]
        for part in _parts(codes, length, base):
            found = _look_up(part, levels[length - 1].contexts)
            chosen[length - 1][found.place[found.there]] = True
    return chosen


def _filled(
    levels: list[_Level], chosen: list[np.ndarray], missing: int, base: int
) -> list[np.ndarray]:
    """Add the best contexts whose parts are there already, as many as are missing."""
    for length in range(2, len(levels)):
        if not missing:
            break
        level, shorter = levels[length], levels[length - 1].contexts[chosen[length - 1]]
        free = ~chosen[length]
        for part in _parts(level.contexts, length, base):
            free &= _look_up(part, shorter).there
        best = np.flatnonzero(free)
        best = best[np.argsort(-level.gain[best], kind="stable")][:missing]
        chosen[length][best] = True
        missing -= len(best)
    return chosen
