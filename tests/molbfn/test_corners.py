import pytest

from molbfn.corners import read_corners


def test_corners_of_a_time_grid():
    assert read_corners("0.85:0.6") == ((0.85, 0.6),)
    assert read_corners("0.1:0.3+0.9:0.6") == ((0.1, 0.3), (0.9, 0.6))


@pytest.mark.parametrize(
    "text", ["", "0.5", "0.5:x", "0.5:0.2:0.1", "0.5:1.2", "0.5:0.5+0.4:0.6", "0.5:nan", "+0.5:0.2"]
)
def test_what_is_no_corner(text):
    with pytest.raises(ValueError, match=r"unpack|could not convert|increase strictly"):
        read_corners(text)
