"""Arrays are handed out only in the shape and type asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from molbfn.data.checks import CheckedArrays
from molbfn.errors import UserError

ARRAYS = {"counts": np.array([2, 0, 3]), "points": np.ones((2, 3)), "text": np.uint8([67, 10, 79])}


@pytest.fixture
def checked() -> CheckedArrays:
    return CheckedArrays(Path("a.npz"), dict(ARRAYS))


def test_good_arrays_come_in_the_type_asked_for(checked: CheckedArrays):
    assert checked.whole("counts", (3,), 0, 3, dtype=np.int8).dtype == np.int8
    assert checked.real("points", (-1, 3), np.float32).dtype == np.float32
    assert checked.offsets("counts", smallest=0).tolist() == [0, 2, 2, 5]
    assert checked.lines("text", 2) == ["C", "O"]
    assert checked.unread == set()
    assert checked.lines("none", 2) is None
    assert checked.whole("none", (3,), 0, 3, optional=True) is None


def test_a_cast_never_wraps_a_value_around(checked: CheckedArrays):
    checked.arrays["counts"] = np.array([300])
    with pytest.raises(UserError, match="holds 300, expected 0 to 118"):
        checked.whole("counts", (1,), 0, 118, dtype=np.int8)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda c: c.get("point", (2, 3)), "'point' is missing; did you mean 'points'"),
        (lambda c: c.get("points", (-1, 2)), r"shape \[2, 3\], expected \[any, 2\]"),
        (lambda c: c.get("points", (6,)), r"shape \[2, 3\], expected \[6\]"),
        (lambda c: c.whole("points", (2, 3), 0, 1), "float64, expected integers"),
        (lambda c: c.real("counts", (3,), np.float32), "int64, expected floats"),
        (lambda c: c.offsets("counts", smallest=1), "holds 0, expected 1 to"),
        (lambda c: c.lines("text", 3), "has 2 lines, expected 3"),
        (lambda c: c.lines("counts", 3), "int64, expected uint8"),
    ],
)
def test_bad_arrays_are_named_with_their_file(checked: CheckedArrays, ask, message: str):
    with pytest.raises(UserError, match=message) as caught:
        ask(checked)
    assert str(caught.value).startswith("a.npz: array '")
