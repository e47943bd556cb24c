"""MNIST, binarised: anew each time from the grey levels, or the fixed set.

LeCun et al. 1998.  The fixed binarisation is that of Salakhutdinov and Murray 2008, as distributed
by Larochelle: 50,000 / 10,000 / 10,000.
"""

from __future__ import annotations

import gzip
import lzma
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from molbfn.benchmarks.data.samples import BenchData, Part, digest_of, hold_out
from molbfn.errors import UserError

TRAIN_IMAGES, TEST_IMAGES = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"
TRAIN_LABELS, TEST_LABELS = "train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"
STATIC = "binarized_mnist_static.packbits.xz"
_SIZE = (28, 28)
_STATIC_IMAGES = 70_000
_VALIDATION_SHARE = 0.01


class _Images:
    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = torch.from_numpy(np.array(pixels))

    def __len__(self) -> int:
        return len(self._pixels)

    def digest(self) -> str:
        return digest_of(self._pixels)


class GreyImages(_Images):
    """Grey levels [N, 28, 28] that are binarised anew each time they are taken."""

    def take(self, index: np.ndarray, generator: torch.Generator) -> Tensor:
        """Return classes, int64 [B, 28, 28]: 1 with the probability of the grey level."""
        grey = self._pixels[torch.from_numpy(index)].float() / 255
        return (torch.rand(grey.shape, generator=generator) < grey).long()


class BinaryImages(_Images):
    """Fixed black-and-white images [N, 28, 28] of 0 and 1."""

    def take(self, index: np.ndarray, generator: torch.Generator) -> Tensor:
        """Return classes, int64 [B, 28, 28]."""
        return self._pixels[torch.from_numpy(index)].long()


def load_mnist(folder: Path, *, binarisation: str = "dynamic") -> BenchData:
    """Read MNIST from the four idx files, gzipped or not (or the fixed set from its one file).

    Raises:
        UserError: a file is missing or damaged, or holds no images.
    """
    parts: dict[str, Part]
    if binarisation == "static":
        bits = read_static(folder / STATIC)
        cuts = {"train": bits[:50_000], "valid": bits[50_000:60_000], "test": bits[60_000:]}
        parts = {name: BinaryImages(part) for name, part in cuts.items()}
        label = "MNIST, fixed binarisation"
    else:
        pixels = _read_images(folder, TRAIN_IMAGES)
        kept, held = hold_out(len(pixels), _VALIDATION_SHARE)
        parts = {
            "train": GreyImages(pixels[kept]),
            "valid": GreyImages(pixels[held]),
            "test": GreyImages(_read_images(folder, TEST_IMAGES)),
        }
        label = "MNIST, dynamically binarised"
    return BenchData(label=label, unit="images", note="", **parts)


def _read_images(folder: Path, name: str) -> np.ndarray:
    pixels = read_idx(folder, name)
    if pixels.shape[1:] != _SIZE or not len(pixels):
        raise UserError(f"{folder / name}: an array of shape {pixels.shape}, expected [N, 28, 28]")
    return pixels


def find(folder: Path, name: str) -> Path | None:
    """Return the idx file of a name in the folder, gzipped or not, if there is one."""
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)


def read_idx(folder: Path, name: str) -> np.ndarray:
    """Return the uint8 array of an idx file, ``name`` or ``name.gz`` in the folder.

    Raises:
        UserError: missing, or not an idx file of bytes, or cut short.
    """
    path = find(folder, name)
    if path is None:
        raise UserError(f"{folder / name}: missing (with or without .gz)")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    # Magic: two zero bytes, the type (8: unsigned byte), the number of axes; then their lengths.
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise UserError(f"{path}: not an idx file of bytes")
    axes = data[3]
    start = 4 + 4 * axes
    if len(data) < start:
        raise UserError(f"{path}: cut short within its header")
    shape = tuple(np.frombuffer(data, ">u4", axes, offset=4).tolist())
    values = np.frombuffer(data[start:], np.uint8)
    if len(values) != math.prod(shape):
        raise UserError(f"{path}: cut short, {len(values)} bytes for an array of shape {shape}")
    return values.reshape(shape)


def read_static(path: Path) -> np.ndarray:
    """Return the fixed binarisation, uint8 [70000, 28, 28] of 0 and 1: train, valid, test.

    Raises:
        UserError: missing or damaged.
    """
    try:
        with lzma.open(path) as stream:
            packed = np.frombuffer(stream.read(), np.uint8)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if len(packed) != _STATIC_IMAGES * 98:
        raise UserError(
            f"{path}: {len(packed)} bytes, expected {_STATIC_IMAGES:,} images of 98 bytes, one bit "
            f"a pixel"
        )
    return np.unpackbits(packed.reshape(-1, 98), axis=1).reshape(-1, *_SIZE)
