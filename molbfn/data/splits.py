"""Which part of a data set a molecule belongs to: 0 train, 1 valid, 2 test."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from molbfn.errors import UserError

SplitBy = Literal["random", "files"]
_PARTS = {
    **{"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1},
    **{"test": 2, "testing": 2},
}


def part_of(path: Path) -> int:
    """Return the part that a file's name, else its folder's, speaks of: 0 train, 1 valid, 2 test.

    Raises:
        UserError: neither speaks of one part.
    """
    for name in (path.name, path.absolute().parent.name):
        found = {_PARTS[word] for word in re.findall("[a-z]+", name.lower()) if word in _PARTS}
        if len(found) == 1:
            return found.pop()
    raise UserError(
        f"{path}: neither its name nor its folder's has one of the words train, val and test in "
        f"it, which splitting by files goes by; rename it, or split at random"
    )


def random_split(
    count: int,
    *,
    seed: int,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    smiles: Sequence[str] | None = None,
) -> np.ndarray:
    """Return int8 [count] of 0 train, 1 valid, 2 test; depends on the arguments only.

    Args:
        count: molecules.
        seed: of the permutation.
        fractions: of train, valid and test.
        smiles: molecules of the same one (conformers) come into the same part; "" is unknown, and
            a structure of its own.  Where too few structures would leave a part empty, molecules
            are divided one by one.
    """
    if smiles is None:
        smiles = [""] * count
    # Groups in the order of their first molecules; a molecule without SMILES is one by itself.
    first: dict[str | int, int] = {}
    keys = (text or index for index, text in enumerate(smiles))
    group = np.array([first.setdefault(key, len(first)) for key in keys], dtype=np.int64)
    sizes = np.bincount(group, minlength=len(first))
    permutation = np.random.default_rng(seed).permutation(len(first))
    starts = np.empty(len(first), dtype=np.int64)
    starts[permutation] = np.cumsum(sizes[permutation]) - sizes[permutation]
    ends = np.rint(np.cumsum(fractions) * count).astype(np.int64)
    split = np.searchsorted(ends[:2], starts, side="right").astype(np.int8)[group]
    wanted = np.diff(ends, prepend=0) > 0
    if len(first) < count and not np.bincount(split, minlength=3)[wanted].all():
        return random_split(count, seed=seed, fractions=fractions)
    return split


def check_fractions(fractions: tuple[float, float, float]) -> None:
    """Refuse shares of train, valid and test that do not add up to 1.

    Raises:
        UserError: they do not, or one is negative.
    """
    if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1.0):
        raise UserError(f"fractions must be three numbers from 0 that add up to 1, not {fractions}")


def choose_split(
    given: Sequence[int | None],
    smiles: Sequence[str] | None,
    *,
    seed: int,
    fractions: tuple[float, float, float],
) -> np.ndarray:
    """Return int8 [M], the parts that are given where all are, else a :func:`random_split`."""
    known = [label for label in given if label is not None]
    if len(known) == len(given):
        return np.array(known, dtype=np.int8)
    return random_split(len(given), seed=seed, fractions=fractions, smiles=smiles)
