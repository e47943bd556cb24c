"""Lines of text from files of any origin, in bounded memory."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO

#: What reading a damaged or unreadable text file raises.
READ_ERRORS = (EOFError, zlib.error, OSError)

_LONGEST = 16 << 20  # characters; a longer line comes in pieces
_GZIP = b"\x1f\x8b"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # "Unicode" of Windows' editors


def text_lines(stream: BinaryIO, *, packed: bool) -> Iterator[str]:
    """Yield the lines with ``\\n`` at their ends, whatever the line ends of the file.

    Text is UTF-8, with or without a byte-order mark, or UTF-16 with one; a line that is not is
    taken for Windows-1252.
    A line of more than 16 million characters comes in pieces.

    Args:
        stream: binary, at its start.
        packed: whether it is compressed by gzip.
    """
    raw = gzip.GzipFile(fileobj=stream) if packed else stream
    wide = hasattr(raw, "peek") and raw.peek(2)[:2] in _UTF_16
    encoding, errors = ("utf-16", "replace") if wide else ("utf-8-sig", "surrogateescape")
    text = io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline=None)
    while line := text.readline(_LONGEST):
        yield line if line.isascii() else _decoded(line)


def _decoded(line: str) -> str:
    try:
        line.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 came as surrogates
        return line.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
    return line


def sniff(start: bytes) -> tuple[str, bool]:
    """Return ("sdf" or "xyz", whether compressed) of a stream that has no name.

    Args:
        start: its first bytes; what is not clearly XYZ is taken for SDF.
    """
    packed = start.startswith(_GZIP)
    if packed:
        start = zlib.decompressobj(wbits=31).decompress(start, 4096)
    lines = start.splitlines()
    counts = lines[3] if len(lines) > 3 else b""
    is_xyz = bool(lines) and lines[0].strip().isdigit() and b"V2000" not in counts
    return "xyz" if is_xyz and b"V3000" not in counts else "sdf", packed
