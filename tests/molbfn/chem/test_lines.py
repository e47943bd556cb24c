from __future__ import annotations

import gzip
import io

import pytest

from molbfn.chem import lines
from molbfn.chem.lines import sniff, text_lines


def read(content: bytes, *, packed: bool = False) -> list[str]:
    return list(text_lines(io.BytesIO(content), packed=packed))


def test_line_ends_of_every_system() -> None:
    assert read(b"a\nb\r\nc\rd") == ["a\n", "b\n", "c\n", "d"]
    assert read(gzip.compress(b"a\r\nb"), packed=True) == ["a\n", "b"]


def test_encodings_line_by_line() -> None:
    content = (
        b"\xef\xbb\xbf" + "\xb5\u20ac\n".encode() + "\xb5\u20ac\n".encode("cp1252") + b"\x81\n"
    )
    assert read(content) == ["\xb5\u20ac\n", "\xb5\u20ac\n", "\ufffd\n"]


def test_a_line_without_end_comes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_LONGEST", 4)
    assert read(b"abcdefghij\nk") == ["abcd", "efgh", "ij\n", "k"]


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"3\nwater\nO 0 0 0\n", "xyz"),
        (b" 12 \r\n\r\nO 0 0 0\n", "xyz"),
        (b"title\n\n\n  3  2  0     0  0            999 V2000\n", "sdf"),
        (b"12\n\n\n  3  2  0     0  0            999 V2000\n", "sdf"),  # a number as the title
        (b"12\n\n\n  0  0  0     0  0            999 V3000\n", "sdf"),
        (b"", "sdf"),
    ],
)
def test_streams_without_a_name(start: bytes, kind: str) -> None:
    assert sniff(start) == (kind, False)
    assert sniff(gzip.compress(start)) == (kind, True)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le"])
@pytest.mark.parametrize("packed", [False, True])
def test_the_unicode_of_windows(encoding: str, packed: bool) -> None:
    text = "größer\r\n3.5\r\n"
    mark = "" if encoding == "utf-16" else "\ufeff"  # Python writes the mark with the first only
    data = (mark + text).encode(encoding)
    stream = io.BufferedReader(io.BytesIO(gzip.compress(data) if packed else data))
    assert list(text_lines(stream, packed=packed)) == ["größer\n", "3.5\n"]
