from __future__ import annotations

import errno
from pathlib import Path

import pytest

from molbfn.chem.records import highest, one_line, partial_path, record_index, system_errors
from molbfn.errors import UserError


def test_one_line_keeps_words_and_drops_breaks() -> None:
    assert one_line(" a\nb\r\tc  d\u2028e \x00") == "a b  c  d e"
    assert one_line(12) == "12"


def test_record_index_prefers_the_specific_name() -> None:
    assert record_index({"index": 4, "molbfn_index": 9}) == 9
    assert record_index({"index": 4}) == 4
    assert record_index({"index": "x"}) is None
    assert record_index({}) is None


def test_highest_with_missing_ones() -> None:
    assert highest(None, None) is None
    assert highest(None, 3) == highest(3, None) == highest(2, 3) == highest(3, 2) == 3
    assert highest(0, None) == 0


def test_partial_name() -> None:
    assert partial_path(Path("a/b.sdf.gz")) == Path("a/b.sdf.gz.partial")


def test_a_full_disk_is_named_with_the_fix() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    expected = r"^out\.sdf: No space left on device; free some space"
    with pytest.raises(UserError, match=expected), system_errors(Path("out.sdf")):
        raise full
