"""Downloads against a server on this machine: mirrors, resume, checksums, archives."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from molbfn.data import download
from molbfn.data.download import (
    EXCLUDED,
    RAW_FILES,
    SDF,
    TABLE,
    Mirror,
    download_qm9,
    extract,
    fetch,
)
from molbfn.errors import UserError

CONTENT = bytes(range(256)) * 4096  # 1 MiB
CHECKSUM = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``files``; cuts the first ``cuts`` answers after ``cut_after`` bytes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/file": CONTENT}
        self.cuts, self.cut_after = 0, 700_000
        self.ranges = True
        self.asked: list[str | None] = []

    def url(self, path: str = "/file") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    """GET with Range, RFC 9110."""

    server: Server

    def do_GET(self) -> None:
        content = self.server.files.get(self.path)
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        if content is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.server.cuts:
            self.server.cuts -= 1
            self.wfile.write(content[start : start + self.server.cut_after])
            self.close_connection = True
        else:
            self.wfile.write(content[start:])

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    thread.join()
    served.server_close()


def test_a_file_comes_whole_with_progress(server: Server, tmp_path: Path):
    seen: list[tuple[int, int | None]] = []
    path = fetch(
        "f", [Mirror(server.url(), CHECKSUM)], tmp_path, progress=lambda *state: seen.append(state)
    )
    assert path == tmp_path / "f"
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [file.name for file in tmp_path.iterdir()] == ["f"]


def test_a_cut_download_goes_on_where_it_stopped(server: Server, tmp_path: Path):
    server.cuts = 1
    path = fetch("f", [Mirror(server.url(), CHECKSUM)], tmp_path)
    assert path.read_bytes() == CONTENT
    first, second = server.asked
    assert first is None
    assert second is not None
    assert 0 < int(second.removeprefix("bytes=").rstrip("-")) <= server.cut_after


def test_the_next_call_resumes_what_the_last_one_left(server: Server, tmp_path: Path):
    server.cuts, server.cut_after = 3, 300_000
    with pytest.raises(UserError, match=r"127\.0\.0\.1.*--from-dir"):
        fetch("f", [Mirror(server.url(), CHECKSUM)], tmp_path)
    (partial,) = tmp_path.glob("*.partial")
    have = partial.stat().st_size
    assert CONTENT.startswith(partial.read_bytes())
    assert 0 < have < len(CONTENT)
    assert not (tmp_path / "f").exists()
    assert fetch("f", [Mirror(server.url(), CHECKSUM)], tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == f"bytes={have}-"
    assert not list(tmp_path.glob("*.partial"))


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path):
    server.cuts, server.ranges = 1, False
    assert fetch("f", [Mirror(server.url(), CHECKSUM)], tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] is not None


@pytest.mark.parametrize("left", [CONTENT, CONTENT + b"more"])
def test_a_partial_file_as_long_as_the_file_or_longer(
    server: Server, tmp_path: Path, left: bytes, monkeypatch: pytest.MonkeyPatch
):
    partial = tmp_path / "f.partial"
    partial.write_bytes(left)
    monkeypatch.setattr(download, "_partial_path", lambda *_: partial)
    assert fetch("f", [Mirror(server.url(), CHECKSUM)], tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_goes_to_the_next_mirror(server: Server, tmp_path: Path):
    server.files["/bad"] = CONTENT[:-1] + b"?"
    mirrors = [Mirror(server.url("/bad"), CHECKSUM), Mirror(server.url(), CHECKSUM)]
    assert fetch("f", mirrors, tmp_path).read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["f"]


def test_when_all_mirrors_fail_each_is_named_with_its_reason(server: Server, tmp_path: Path):
    server.files["/bad"] = b"damaged"
    closed = "http://127.0.0.1:9/f"  # the discard port: nothing listens
    mirrors = [
        Mirror(server.url("/bad"), CHECKSUM),
        Mirror(server.url("/none"), CHECKSUM),
        Mirror(closed),
    ]
    with pytest.raises(UserError) as caught:
        fetch("f", mirrors, tmp_path)
    message = str(caught.value)
    assert "/bad (its content does not match the checksum)" in message
    assert "/none (HTTP 404)" in message
    assert f"{closed} (no connection)" in message
    assert "--from-dir" in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


def archive_of(kind: str, files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as packed:
            for name, content in files.items():
                packed.writestr(name, content)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                packed.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_extract_takes_named_files_only_wherever_they_lie(tmp_path: Path, kind: str):
    archive = tmp_path / "a"
    inside = {f"./some/{SDF}": b"sdf", TABLE: b"csv", "../../escaped": b"evil"}
    archive.write_bytes(archive_of(kind, inside))
    target = tmp_path / "below" / "out"
    target.mkdir(parents=True)
    extract(archive, (SDF, TABLE), target)
    assert {file.name: file.read_bytes() for file in target.iterdir()} == {
        SDF: b"sdf",
        TABLE: b"csv",
    }
    assert not (tmp_path / "escaped").exists()
    with pytest.raises(UserError, match="no file other"):
        extract(archive, ("other",), target)


def test_a_damaged_archive_is_removed_and_named(tmp_path: Path):
    archive = tmp_path / "a"
    archive.write_bytes(archive_of("tar", {SDF: bytes(100_000)})[:-40])
    with pytest.raises(UserError, match="is damaged"):
        extract(archive, (SDF,), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_download_qm9_fetches_what_is_missing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    server.files["/qm9"] = archive_of("zip", {f"x/{SDF}": b"sdf", f"x/{TABLE}": b"csv"})
    server.files["/list"] = b"list"
    monkeypatch.setattr(download, "ARCHIVE_MIRRORS", (Mirror(server.url("/qm9")),))
    monkeypatch.setattr(download, "EXCLUDED_MIRRORS", (Mirror(server.url("/list")),))
    folder = download_qm9(tmp_path / "new" / "raw")
    assert {file.name for file in folder.iterdir()} == set(RAW_FILES)
    assert (folder / EXCLUDED).read_bytes() == b"list"
    asked = len(server.asked)
    assert download_qm9(folder) == folder
    assert len(server.asked) == asked  # nothing is fetched twice


def test_published_sources_have_two_addresses_each():
    for mirrors in (download.ARCHIVE_MIRRORS, download.EXCLUDED_MIRRORS):
        assert len({mirror.url for mirror in mirrors}) >= 2
        assert any(mirror.checksum for mirror in mirrors)
