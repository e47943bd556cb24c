"""Downloads with checksums, mirrors and resume; here the raw files of QM9.

Sources: Ramakrishnan et al., Sci. Data 1:140022 (2014), figshare collection 978904, and the SDF
form of it that DeepChem distributes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from molbfn.atomic import replacing
from molbfn.data.locate import cache_dir
from molbfn.errors import UserError

#: called with (bytes so far, bytes in all or None)
Progress = Callable[[int, "int | None"], None]

SDF, TABLE, EXCLUDED = "gdb9.sdf", "gdb9.sdf.csv", "uncharacterized.txt"
RAW_FILES = (SDF, TABLE, EXCLUDED)
_OFFLINE = f"get {', '.join(RAW_FILES)} elsewhere and give their folder with --from-dir"
_ATTEMPTS = 3  # per mirror, each goes on where the last one stopped
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two pieces
_PIECE = 1 << 18


@dataclass(frozen=True)
class Mirror:
    """One address of a file.

    Attributes:
        url: http or https.
        checksum: "md5:..." or "sha256:...", or None where none is published; what such a file
            holds is then checked when it is read.
    """

    url: str
    checksum: str | None = None


# The SDF archive: md5 as published by torchdrug's QM9 data set. The zip carries the same SDF and
# table; no checksum of it is published, its CRCs and the number of records are checked instead.
_ARCHIVE_MD5 = "md5:560f62d8e6c992ca0cf8ed8d013f9131"
ARCHIVE_MIRRORS = (
    Mirror("https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/gdb9.tar.gz", _ARCHIVE_MD5),
    Mirror("https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/molnet_publish/qm9.zip"),
    Mirror(
        "http://deepchem.io.s3-website-us-west-1.amazonaws.com/datasets/gdb9.tar.gz", _ARCHIVE_MD5
    ),
)
# sha256 as published by TensorFlow Datasets (qm9/checksums.tsv).
_EXCLUDED_SHA256 = "sha256:3aa5115d540b356de94791d4a74c3bf1ed91c469ecf52a4f5d7cc0506fe02e24"
EXCLUDED_MIRRORS = (
    Mirror("https://ndownloader.figshare.com/files/3195404", _EXCLUDED_SHA256),
    Mirror("https://springernature.figshare.com/ndownloader/files/3195404", _EXCLUDED_SHA256),
)


def download_qm9(folder: Path | None = None, *, progress: Progress | None = None) -> Path:
    """Fetch the raw files of QM9 that are not there yet and return their folder.

    Args:
        folder: where to put `RAW_FILES`; the user's cache by default.

    Raises:
        UserError: no mirror answered, or what came is damaged; names the addresses and the way
            to do without a network.
    """
    folder = folder or cache_dir() / "qm9" / "raw"
    make_folder(folder)
    if not (folder / EXCLUDED).is_file():
        fetch(EXCLUDED, EXCLUDED_MIRRORS, folder, progress=progress)
    if not ((folder / SDF).is_file() and (folder / TABLE).is_file()):
        archive = fetch("gdb9.archive", ARCHIVE_MIRRORS, folder, progress=progress)
        extract(archive, (SDF, TABLE), folder)
        archive.unlink()
    return folder


def fetch(
    name: str,
    mirrors: Sequence[Mirror],
    folder: Path,
    *,
    progress: Progress | None = None,
    offline: str = _OFFLINE,
) -> Path:
    """Download one file from the first mirror that gives it whole; return ``folder / name``.

    A download that was cut short stays as a ``.partial`` file and is continued by the next
    attempt or the next call.

    Args:
        offline: what to do without a network, for the error.

    Raises:
        UserError: no mirror gave the file; names each address with its reason.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    failures: list[str] = []
    for mirror in mirrors:
        try:
            found = pooch.retrieve(
                mirror.url,
                known_hash=mirror.checksum,
                fname=name,
                path=folder,
                downloader=_Resuming(_partial_path(folder, name, mirror.url), progress),
            )
        except requests.RequestException as error:
            failures.append(f"{mirror.url} ({_short(error)})")
        except ValueError:
            failures.append(f"{mirror.url} (its content does not match the checksum)")
        except OSError as error:
            raise UserError(f"cannot write {folder / name}: {error.strerror or error}") from None
        else:
            return Path(found)
    raise UserError(f"cannot download {name}: {'; '.join(failures)}. Without a network: {offline}")


class _Resuming:
    """A pooch downloader that keeps what it has and asks for the rest (HTTP Range, RFC 9110 14)."""

    def __init__(self, partial: Path, progress: Progress | None) -> None:
        self.partial = partial
        self.progress = progress

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        """Download ``url`` into ``output_file``; ``pooch`` is part of the interface, unused."""
        import requests

        for attempt in range(_ATTEMPTS):
            try:
                self._continue(url)
                break
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                if attempt == _ATTEMPTS - 1:
                    raise
        shutil.move(self.partial, output_file)

    def _continue(self, url: str) -> None:
        import requests

        have = self.partial.stat().st_size if self.partial.exists() else 0
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                # Nothing lies beyond our end: the file is whole, or it is not this file.
                if answer.headers.get("Content-Range") != f"bytes */{have}":
                    self.partial.unlink()
                    raise requests.ConnectionError("the file has changed on the server")
                return
            answer.raise_for_status()
            resumed = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            if not (have and answer.status_code == requests.codes.partial and resumed):
                have = 0
            self._write(answer, have)

    def _write(self, answer: object, have: int) -> None:
        import requests

        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        with self.partial.open("ab" if have else "wb") as stream:
            for piece in answer.iter_content(_PIECE):
                stream.write(piece)
                have += len(piece)
                if self.progress:
                    self.progress(have, total)
        if total is not None and have < total:
            raise requests.ConnectionError(f"cut after {have} of {total} bytes")


def extract(archive: Path, names: Sequence[str], folder: Path) -> None:
    """Take the named files out of a zip or tar archive, wherever they lie in it.

    Raises:
        UserError: the archive is damaged (it is removed) or lacks a file.
    """
    try:
        with _members(archive) as members:
            for name in names:
                if name not in members:
                    raise UserError(
                        f"{archive} has no file {name}; it is not the archive it should be"
                    )
                with members[name]() as source, replacing(folder / name) as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        archive.unlink()
        raise UserError(f"{archive} is damaged ({error}) and was removed; run it again") from None


@contextlib.contextmanager
def _members(archive: Path) -> Iterator[dict[str, Callable[[], IO[bytes]]]]:
    """File name without folders -> a function that opens it."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            yield {Path(n).name: (lambda n=n: packed.open(n)) for n in packed.namelist()}
    else:
        with tarfile.open(archive) as packed:
            files = [member for member in packed.getmembers() if member.isfile()]
            yield {Path(m.name).name: (lambda m=m: packed.extractfile(m)) for m in files}


def make_folder(folder: Path) -> None:
    """Create a folder with its parents.

    Raises:
        UserError: it cannot be created.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create the folder {folder}: {error.strerror}") from None


def _partial_path(folder: Path, name: str, url: str) -> Path:
    """Each address has its own partial file, so that two mirrors' bytes never mix."""
    return folder / f"{name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.partial"


def _short(error: Exception) -> str:
    import requests

    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.HTTPError):
        return f"HTTP {error.response.status_code}"
    text = str(error)
    return text if len(text) < 80 else "no connection"
