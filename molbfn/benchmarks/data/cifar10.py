"""CIFAR-10 (Krizhevsky 2009), from its official pickles, its binary version, or lossless strips.

The pickles are read by an unpickler that builds arrays, lists and dictionaries and nothing else.
"""

from __future__ import annotations

import io
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from molbfn.benchmarks.data.samples import BenchData, digest_of, hold_out
from molbfn.errors import UserError

TRAIN = tuple(f"data_batch_{k}" for k in range(1, 6))
TEST = "test_batch"
_SIZE, _BATCH = 32, 10_000
_VALIDATION_SHARE = 0.01
# A damaged pickle can raise almost anything while it is read.
_DAMAGE = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError,
    MemoryError, NotImplementedError, OSError, RuntimeError, TypeError, ValueError,
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class ColourImages:
    """Images uint8 [N, 32, 32, 3] as bins, or as the bins' centres on [-1, 1].

    Args:
        pixels: levels 0 to 255.
        bins: they are joined to this many.
        centres: return floats, for continuous flows.
    """

    def __init__(self, pixels: np.ndarray, *, bins: int, centres: bool) -> None:
        self._pixels = torch.from_numpy(np.array(pixels))
        self._bins, self._centres = bins, centres

    def __len__(self) -> int:
        return len(self._pixels)

    def digest(self) -> str:
        return digest_of(self._pixels)

    def take(self, index: np.ndarray, generator: torch.Generator) -> Tensor:
        """Return bins int64, or centres ``(2k + 1) / K - 1`` float32, [B, 32, 32, 3]."""
        bins = (self._pixels[torch.from_numpy(index)].long() * self._bins) // 256
        return (2 * bins + 1).float() / self._bins - 1 if self._centres else bins


def load_cifar10(folder: Path, *, bins: int = 256, centres: bool = False) -> BenchData:
    """Read CIFAR-10 in whichever of the three forms the folder has.

    Raises:
        UserError: a file is missing or damaged.
    """
    pixels = np.concatenate([read_batch(folder, name) for name in TRAIN])
    kept, held = hold_out(len(pixels), _VALIDATION_SHARE)
    options = {"bins": bins, "centres": centres}
    return BenchData(
        label="CIFAR-10" if bins == 256 else f"CIFAR-10, {bins} bins",
        unit="images",
        note="",
        train=ColourImages(pixels[kept], **options),
        valid=ColourImages(pixels[held], **options),
        test=ColourImages(read_batch(folder, TEST), **options),
    )


def read_batch(folder: Path, name: str) -> np.ndarray:
    """Return the images of one batch, uint8 [N, 32, 32, 3].

    Looks for ``name`` (pickle), ``name.bin`` (binary version) and ``cifar10_name.zip`` (lossless
    WebP strips, 32 wide, images on top of each other), in the folder and in the archives' own
    folders ``cifar-10-batches-py`` and ``cifar-10-batches-bin`` below it.

    Raises:
        UserError: missing or damaged.
    """
    readers = (
        (folder / name, _from_pickle),
        (folder / "cifar-10-batches-py" / name, _from_pickle),
        (folder / f"{name}.bin", _from_binary),
        (folder / "cifar-10-batches-bin" / f"{name}.bin", _from_binary),
        (folder / f"cifar10_{name}.zip", _from_strips),
    )
    for path, read in readers:
        if path.is_file():
            try:
                return read(path)
            except _DAMAGE as error:
                raise UserError(f"{path}: not a batch of CIFAR-10 ({error})") from None
    raise UserError(f"{folder}: has no CIFAR-10 batch {name}")


def read_labels(folder: Path, name: str) -> np.ndarray:
    """Return the classes of one batch, uint8 [N]; they stand beside or in what has the images.

    Raises:
        UserError: missing or damaged.
    """
    pickles = (folder / name, folder / "cifar-10-batches-py" / name)
    binaries = (folder / f"{name}.bin", folder / "cifar-10-batches-bin" / f"{name}.bin")
    together = folder / "cifar10_labels.npy"
    try:
        for path in (p for p in pickles if p.is_file()):
            content = _unpickle(path)
            return np.asarray(content.get(b"labels", content.get("labels")), dtype=np.uint8)
        for path in (p for p in binaries if p.is_file()):
            return _records(path)[:, 0]
        labels = np.load(together, allow_pickle=False)
    except _DAMAGE as error:
        raise UserError(f"{folder}: no labels of {name} ({error})") from None
    start = (*TRAIN, TEST).index(name) * _BATCH
    return labels[start : start + _BATCH]


def _planes_to_images(rows: np.ndarray) -> np.ndarray:
    """[N, 3072] of red, green and blue planes to [N, 32, 32, 3]."""
    return rows.reshape(-1, 3, _SIZE, _SIZE).transpose(0, 2, 3, 1)


def _from_binary(path: Path) -> np.ndarray:
    """Records of one label byte and 3,072 pixels."""
    return _planes_to_images(_records(path)[:, 1:])


def _records(path: Path) -> np.ndarray:
    return np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 1 + 3 * _SIZE * _SIZE)


def _from_pickle(path: Path) -> np.ndarray:
    content = _unpickle(path)
    rows = content[b"data"] if b"data" in content else content["data"]
    return _planes_to_images(np.asarray(rows, dtype=np.uint8))


def _unpickle(path: Path) -> dict[Any, Any]:
    with path.open("rb") as stream:
        content = _ArraysOnly(stream, encoding="bytes").load()
    if not isinstance(content, dict):
        raise ValueError("its pickle is not a dictionary")
    return content


class _ArraysOnly(pickle.Unpickler):
    """Builds numpy arrays from a pickle; any other object is refused before it is made."""

    def find_class(self, module: str, name: str) -> Any:
        place = module.replace("numpy.core", "numpy._core")
        if (place, name) == ("numpy._core.multiarray", "_reconstruct"):
            return np.zeros(0).__reduce__()[0]
        if (place, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (place, name) == ("numpy", "dtype"):
            return np.dtype
        if (place, name) == ("_codecs", "encode"):
            return _latin1
        raise pickle.UnpicklingError(f"it holds a {module}.{name}, which is not an array")


def _latin1(text: str, encoding: str) -> bytes:
    """Stand for ``codecs.encode``, which Python 3 uses to pickle bytes with old protocols."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding}")
    return text.encode("latin1")


def _from_strips(path: Path) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError:
        raise UserError(f"{path}: reading it needs Pillow: pip install 'molbfn[bench]'") from None
    with zipfile.ZipFile(path) as archive:
        strips = [
            np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
            for name in sorted(archive.namelist())
        ]
    return np.concatenate([strip.reshape(-1, _SIZE, _SIZE, 3) for strip in strips])
