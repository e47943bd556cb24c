"""text8: the first 100 million letters of a cleaned Wikipedia (Mahoney 2006)."""

from __future__ import annotations

import hashlib
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from molbfn.benchmarks.data.samples import BenchData, digest_of
from molbfn.errors import UserError

SYMBOLS = " abcdefghijklmnopqrstuvwxyz"
"""Class k is ``SYMBOLS[k]``."""

ARCHIVE, PLAIN, PREFIX = "text8.zip", "text8", "text8_prefix*.xz"
_CHARACTERS = 100_000_000
_BEGINNING = "f3c2d18a085c6a230c7a3e62d71c1a69c5ef8c2916e6c905b201d0f147e9e2ca"  # sha256 of 1,000
_SHARES = (0.9, 0.05)  # train, valid; the rest is test


class RandomCrops:
    """Pieces that start anywhere; an epoch has as many as fit side by side."""

    def __init__(self, codes: np.ndarray, length: int) -> None:
        self._codes, self._length = torch.from_numpy(codes), length

    @property
    def codes(self) -> np.ndarray:
        """All of the text, uint8."""
        return self._codes.numpy()

    def cut(self, share: float) -> tuple[RandomCrops, RandomCrops]:
        """Return the first part of the text, this share of it, and the rest.

        Raises:
            ValueError: one of them is shorter than a piece.
        """
        place = round(share * len(self._codes))
        first, rest = self.codes[:place], self.codes[place:]
        if min(len(first), len(rest)) < self._length:
            raise ValueError(
                f"{len(first)} and {len(rest)} characters are too few for pieces of {self._length}"
            )
        return RandomCrops(first, self._length), RandomCrops(rest, self._length)

    def __len__(self) -> int:
        return len(self._codes) // self._length

    def digest(self) -> str:
        return digest_of(self._codes)

    def take(self, index: np.ndarray, generator: torch.Generator) -> Tensor:
        """Return ``len(index)`` random pieces, int64 [B, length]."""
        last = len(self._codes) - self._length
        starts = torch.randint(last + 1, (len(index),), generator=generator)
        return self._codes[starts[:, None] + torch.arange(self._length)].long()


class Blocks:
    """Consecutive pieces; what does not fill the last one is left out."""

    def __init__(self, codes: np.ndarray, length: int) -> None:
        count = len(codes) // length
        self._codes = torch.from_numpy(codes[: count * length].reshape(count, length))

    def __len__(self) -> int:
        return len(self._codes)

    def digest(self) -> str:
        return digest_of(self._codes)

    def take(self, index: np.ndarray, generator: torch.Generator) -> Tensor:
        """Return classes, int64 [B, length]."""
        return self._codes[torch.from_numpy(index)].long()


def load_text8(folder: Path, *, length: int = 256) -> BenchData:
    """Read ``text8.zip``, ``text8``, or the beginning of it as ``text8_prefix*.xz``.

    Other text in a file of these names is taken too, and is not called text8.

    Raises:
        UserError: none of them is there, it is damaged, or too short for the length.
    """
    path, text = read_text8(folder)
    try:
        codes = encode(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    cuts = [round(sum(_SHARES[:k]) * len(codes)) for k in range(3)]
    train, valid, test = codes[: cuts[1]], codes[cuts[1] : cuts[2]], codes[cuts[2] :]
    if min(len(train), len(valid), len(test)) < length:
        raise UserError(f"{folder}: {len(codes)} characters are too few for data.length: {length}")
    label, note = _describe(path, text)
    return BenchData(
        label=label,
        unit="sequences",
        note=note,
        train=RandomCrops(train, length),
        valid=Blocks(valid, length),
        test=Blocks(test, length),
    )


def _describe(path: Path, text: bytes) -> tuple[str, str]:
    """Return what the text is, and what to know of its test part."""
    size = f"{len(text):,} characters, split 90/5/5"
    known = hashlib.sha256(text[:1000]).hexdigest() == _BEGINNING
    if not (known or path.match(PREFIX)):
        return f"other text than text8, {size}", "not comparable with figures for text8"
    if len(text) == _CHARACTERS:
        return "text8", ""
    return f"text8, first {size}", "all of it lies in the standard training part: our own test part"


def read_text8(folder: Path) -> tuple[Path, bytes]:
    """Return a file and its text, the whole of text8 if it is there.

    Raises:
        UserError: no such file, or damaged.
    """
    prefixes = sorted(folder.glob(PREFIX))
    ways: list[tuple[Path, Callable[[Path], bytes]]] = [
        (folder / PLAIN, Path.read_bytes),
        (folder / ARCHIVE, _from_zip),
        *((path, _from_xz) for path in prefixes),
    ]
    for path, read in ways:
        if path.is_file():
            try:
                return path, read(path)
            except (OSError, EOFError, KeyError, NotImplementedError, RuntimeError,
                    zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:  # fmt: skip
                raise UserError(f"{path}: cannot be read ({error})") from None
    raise UserError(f"{folder}: has neither {PLAIN} nor {ARCHIVE} nor {PREFIX}")


def encode(text: bytes) -> np.ndarray:
    """Return the class of each character, uint8.

    Raises:
        UserError: a character that is neither a letter a to z nor a space.
    """
    table = np.full(256, 255, np.uint8)
    table[np.frombuffer(SYMBOLS.encode(), np.uint8)] = np.arange(len(SYMBOLS))
    codes = table[np.frombuffer(text, np.uint8)]
    wrong = np.flatnonzero(codes == 255)
    if len(wrong):
        place = int(wrong[0])
        raise UserError(
            f"character {place} of the text is {text[place : place + 1]!r}; text8 has a to z and "
            f"spaces only"
        )
    return codes


def decode(classes: Tensor) -> list[str]:
    """Return the text of classes [B, length]."""
    letters = np.frombuffer(SYMBOLS.encode(), np.uint8)
    return [letters[row].tobytes().decode() for row in classes.cpu().numpy()]


def _from_zip(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(PLAIN)


def _from_xz(path: Path) -> bytes:
    with lzma.open(path) as stream:
        return stream.read()
