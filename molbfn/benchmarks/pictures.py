"""Samples as files: PNG grids of images, text."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from torch import Tensor

from molbfn.atomic import replacing
from molbfn.benchmarks.config import BenchModelConfig, TextConfig
from molbfn.benchmarks.data.text8 import decode
from molbfn.benchmarks.model import classes_of
from molbfn.errors import UserError

_GAP = 2  # pixels between images


def to_pixels(samples: Tensor, config: BenchModelConfig) -> np.ndarray:
    """Return images as grey or colour levels, uint8 [B, H, W] or [B, H, W, 3].

    Args:
        samples: classes or bins, or floats on [-1, 1] for continuous flows.
        config: of the model that made them.
    """
    if config.flow.kind == "continuous":
        levels = (samples + 1) * 127.5
    else:
        levels = samples * (255 / (classes_of(config) - 1))
    return levels.round().clamp(0, 255).byte().numpy()


def image_grid(images: np.ndarray, *, columns: int | None = None, scale: int = 2) -> np.ndarray:
    """Return one picture of many, row by row, uint8 [H, W] or [H, W, 3].

    Args:
        images: uint8 [B, H, W] or [B, H, W, 3].
        columns: images a row; as many as make it square by default.
        scale: each pixel becomes a square of so many.
    """
    count, height, width = images.shape[:3]
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    cell = (height * scale + _GAP, width * scale + _GAP)
    shape = (rows * cell[0] + _GAP, columns * cell[1] + _GAP, *images.shape[3:])
    grid = np.full(shape, 128, np.uint8)
    for k, image in enumerate(images):
        top, left = (k // columns) * cell[0] + _GAP, (k % columns) * cell[1] + _GAP
        large = image.repeat(scale, 0).repeat(scale, 1)
        grid[top : top + height * scale, left : left + width * scale] = large
    return grid


def write_samples(samples: Tensor, config: BenchModelConfig, path: Path) -> None:
    """Write images as one PNG grid, or text as one sample a line.

    Raises:
        UserError: the file cannot be written, or Pillow is missing.
    """
    if isinstance(config.data, TextConfig):
        with replacing(path) as stream:
            stream.write(("\n".join(decode(samples)) + "\n").encode())
        return
    write_png(image_grid(to_pixels(samples, config)), path)


def write_png(picture: np.ndarray, path: Path) -> None:
    """Write uint8 [H, W] or [H, W, 3] as a PNG.

    Raises:
        UserError: the file cannot be written, or Pillow is missing.
    """
    try:
        from PIL import Image
    except ImportError:
        raise UserError("pictures need Pillow: pip install 'molbfn[bench]'") from None
    with replacing(path) as stream:
        Image.fromarray(picture).save(stream, format="PNG", optimize=True)
