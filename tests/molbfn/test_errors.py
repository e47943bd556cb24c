import pytest

from molbfn.errors import UserError, nearest, run_script


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


def test_a_script_ends_with_one_line():
    def mistaken():
        raise UserError("x.yaml: no such key")

    with pytest.raises(SystemExit, match=r"^error: x\.yaml: no such key$"):
        run_script(mistaken)
    run_script(lambda: None)
