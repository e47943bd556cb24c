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
            a structure of its own.

    Every part whose share is not 0 has a structure at least.  Where these are fewer than the parts,
    their molecules are divided one by one, so that copies are in several parts; and of fewer
    molecules than parts the first trains and the second validates.
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
    parts = np.searchsorted(ends[:2], starts, side="right").astype(np.int8)
    wanted = [part for part, share in enumerate(fractions) if share > 0]
    if len(first) < min(count, len(wanted)):
        return random_split(count, seed=seed, fractions=fractions)
    _fill(parts, wanted, order=permutation[np.argsort(sizes[permutation], kind="stable")])
    return parts[group]


def _fill(parts: np.ndarray, wanted: Sequence[int], *, order: np.ndarray) -> None:
    """Give each wanted part that is empty a structure of the part with most of them.

    Args:
        parts: int8 [G], the part of each structure; changed in place.
        wanted: parts, the most needed one first.
        order: int [G], structures, those to be given away first in front.
    """
    for part in wanted:
        counts = np.bincount(parts, minlength=3).tolist()
        if counts[part]:
            continue
        donor = max(range(3), key=lambda other: (counts[other], other))
        if counts[donor] > 1 or (counts[donor] and donor > part):
            parts[next(index for index in order if parts[index] == donor)] = part


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
