"""Where the benchmarks' data lie on this machine, and where they can be had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from molbfn.benchmarks.data import cifar10, mnist, text8
from molbfn.data.download import Mirror, Progress, extract, fetch, make_folder
from molbfn.data.locate import cache_dir, data_dirs
from molbfn.errors import UserError, nearest


@dataclass(frozen=True)
class _File:
    """One file to download: its name here, its mirrors, and what to take out of it, if anything."""

    name: str
    mirrors: tuple[Mirror, ...]
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Known:
    files: tuple[_File, ...]
    is_here: Callable[[Path], bool]


def _idx(name: str, md5: str) -> _File:
    hosts = ("https://ossci-datasets.s3.amazonaws.com/mnist",
             "https://storage.googleapis.com/cvdf-datasets/mnist")  # fmt: skip
    return _File(f"{name}.gz", tuple(Mirror(f"{host}/{name}.gz", f"md5:{md5}") for host in hosts))


# md5 of MNIST and CIFAR-10 as published by their authors and by torchvision; sha256 of text8.zip
# as pinned by projects that train on it.
_KNOWN = {
    "mnist": _Known(
        files=(
            _idx(mnist.TRAIN_IMAGES, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            _idx(mnist.TRAIN_LABELS, "d53e105ee54ea40749a09fcbcd1e9432"),
            _idx(mnist.TEST_IMAGES, "9fb629c4189551a2d022fa330f9573f3"),
            _idx(mnist.TEST_LABELS, "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
        is_here=lambda folder: (
            all(mnist.find(folder, name) for name in (mnist.TRAIN_IMAGES, mnist.TEST_IMAGES))
            or (folder / mnist.STATIC).is_file()
        ),
    ),
    "cifar10": _Known(
        files=(
            _File(
                "cifar-10-binary.tar.gz",
                (
                    Mirror(
                        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                        "md5:c32a1d4ab5d03f1284b67883e8d87530",
                    ),
                ),
                members=tuple(f"{name}.bin" for name in (*cifar10.TRAIN, cifar10.TEST)),
            ),
        ),
        is_here=lambda folder: (
            any(folder.glob(f"*{cifar10.TEST}*"))
            or any(folder.glob(f"cifar-10-batches-*/{cifar10.TEST}*"))
        ),
    ),
    "text8": _Known(
        files=(
            _File(
                text8.ARCHIVE,
                (
                    Mirror(
                        "http://mattmahoney.net/dc/text8.zip",
                        "sha256:a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
                    ),
                ),
            ),
        ),
        is_here=lambda folder: (
            any(folder.glob(text8.PREFIX))
            or any((folder / name).is_file() for name in (text8.PLAIN, text8.ARCHIVE))
        ),
    ),
}
NAMES = tuple(_KNOWN)


def locate(name: str) -> Path:
    """Return the folder of a data set, looked for as ``NAME/`` in the data folders.

    Raises:
        UserError: it is in none of them.
    """
    folders = [folder / name for folder in data_dirs()]
    for folder in folders:
        if folder.is_dir() and _KNOWN[name].is_here(folder):
            return folder
    raise UserError(
        f"data set '{name}' is not on this machine: run 'molbfn bench data {name}', or set "
        f"MOLBFN_DATA to the folder above {name}/"
    )


def download(name: str, folder: Path | None = None, *, progress: Progress | None = None) -> Path:
    """Fetch the files of a data set that are not there yet and return their folder.

    Args:
        name: one of :data:`NAMES`.
        folder: where to put them; the user's cache by default.

    Raises:
        UserError: unknown name, no mirror answers, damaged files, or no room.
    """
    if name not in _KNOWN:
        raise UserError(f"no data set '{name}';{nearest(name, NAMES)} known: {', '.join(NAMES)}")
    folder = folder or cache_dir() / name
    make_folder(folder)
    files = _KNOWN[name].files
    by_hand = ", ".join(part for file in files for part in (file.members or (file.name,)))
    for file in files:
        wanted = [folder / member for member in (file.members or (file.name,))]
        if all(path.is_file() for path in wanted):
            continue
        path = fetch(
            file.name,
            file.mirrors,
            folder,
            progress=progress,
            offline=f"put {by_hand} into a folder {name}/ and set "
            f"MOLBFN_DATA to the folder above it",
        )
        if file.members:
            extract(path, file.members, folder)
            path.unlink()
    return folder
