"""Checks of the arrays of one npz file; every complaint names the file and the array."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from molbfn.errors import UserError, nearest


class CheckedArrays:
    """The arrays of one file, handed out only in the shape and type that is asked for.

    Attributes:
        path: the file, for the messages.
        arrays: name -> array.
        unread: names that nobody has asked for yet.
    """

    def __init__(self, path: Path, arrays: dict[str, np.ndarray]) -> None:
        self.path = path
        self.arrays = arrays
        self.unread = set(arrays)

    def get(self, key: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array of the given shape (-1 matches any length) or say what is wrong."""
        if key not in self.arrays:
            hint = nearest(key, self.arrays)
            raise UserError(
                f"{self.path}: array '{key}' is missing;{hint} see 'molbfn data prepare'"
            )
        self.unread.discard(key)
        array = self.arrays[key]
        fits = array.ndim == len(shape) and all(
            want in (-1, have) for want, have in zip(shape, array.shape, strict=True)
        )
        if not fits:
            wanted = str(list(shape)).replace("-1", "any")
            raise UserError(
                f"{self.path}: array '{key}' has shape {list(array.shape)}, expected {wanted}"
            )
        return array

    def whole(
        self,
        key: str,
        shape: tuple[int, ...],
        low: int,
        high: int,
        *,
        dtype: type = np.int64,
        optional: bool = False,
    ) -> np.ndarray | None:
        """Return an integer array with values in [low, high]; None if optional and absent."""
        if optional and key not in self.arrays:
            return None
        array = self.get(key, shape)
        if array.dtype.kind not in "iub":
            raise UserError(f"{self.path}: array '{key}' is {array.dtype}, expected integers")
        if array.size and (array.min() < low or array.max() > high):
            bad = array[(array < low) | (array > high)].flat[0]
            raise UserError(f"{self.path}: array '{key}' holds {bad}, expected {low} to {high}")
        return array if array.dtype == dtype else array.astype(dtype)

    def real(self, key: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """Return a floating-point array of the given shape."""
        array = self.get(key, shape)
        if array.dtype.kind != "f":
            raise UserError(f"{self.path}: array '{key}' is {array.dtype}, expected floats")
        return array if array.dtype == dtype else array.astype(dtype)

    def offsets(self, key: str, *, smallest: int) -> np.ndarray:
        """Return int64 [M + 1] offsets from an array of counts."""
        counts = self.whole(key, (-1,), smallest, np.iinfo(np.int32).max)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])

    def lines(self, key: str, count: int) -> list[str] | None:
        """Return newline-joined text as one string per molecule."""
        if key not in self.arrays:
            return None
        array = self.get(key, (-1,))
        if array.dtype != np.uint8:
            raise UserError(f"{self.path}: array '{key}' is {array.dtype}, expected uint8 text")
        try:
            lines = array.tobytes().decode().split("\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}: array '{key}' is not UTF-8 text: {error}") from None
        if len(lines) != count:
            raise UserError(f"{self.path}: array '{key}' has {len(lines)} lines, expected {count}")
        return lines
