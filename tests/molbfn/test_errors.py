import pytest

from molbfn.errors import nearest


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("renoised", " did you mean 'renoise'?"),
        ("bayes", " did you mean 'bayesian'?"),
        ("xyzzy", ""),
        ("", ""),
    ],
)
def test_the_nearest_name_is_suggested_if_it_is_near(name, expected):
    assert nearest(name, ["renoise", "bayesian", "window"]) == expected


def test_nothing_is_suggested_where_nothing_is_known():
    assert nearest("renoise", []) == ""
