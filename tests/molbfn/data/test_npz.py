"""npz files: mapped where stored, whole or not at all when written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from molbfn.data.npz import read_npz, write_npz
from molbfn.errors import UserError

SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
DTYPES = st.sampled_from([np.int8, np.uint8, np.int64, np.float32, np.float64, np.bool_, "<U3"])


@settings(max_examples=40, deadline=None)
@given(st.lists(arrays.arrays(DTYPES, SHAPES), max_size=4), st.booleans())
def test_arrays_round_trip(
    tmp_path_factory: pytest.TempPathFactory, values: list[np.ndarray], compressed: bool
):
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    write_npz(path, {f"a{k}": value for k, value in enumerate(values)}, compressed=compressed)
    read = read_npz(path)
    assert list(read) == [f"a{k}" for k in range(len(values))]
    for value, back in zip(values, read.values(), strict=True):
        assert back.dtype == value.dtype
        np.testing.assert_array_equal(back, value)
        assert isinstance(back, np.memmap) is (not compressed and value.size > 0)


def test_mapped_arrays_cannot_be_written(tmp_path: Path):
    write_npz(tmp_path / "a.npz", {"a": np.arange(3)})
    with pytest.raises(ValueError, match="read-only"):
        read_npz(tmp_path / "a.npz")["a"][0] = 5


def test_the_bytes_depend_on_the_arrays_only(tmp_path: Path):
    for name in ("a.npz", "b.npz"):
        write_npz(tmp_path / name, {"a": np.arange(3)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_missing_folder_is_a_user_error(tmp_path: Path):
    with pytest.raises(UserError, match="cannot write"):
        write_npz(tmp_path / "none" / "a.npz", {})
