import numpy as np
import pytest

from molbfn.errors import UserError
from molbfn.generation.sizes import SizeDistribution, choose_sizes

TRAINED = {4: 1, 6: 2, 9: 1}


def test_quantiles_follow_the_histogram():
    sizes = SizeDistribution.of({9: 1, 4: 1, 6: 2, 7: 0})
    assert [sizes.at(u) for u in (0.0, 0.249, 0.25, 0.5, 0.749, 0.75, 0.999999)] == [
        *(4, 4, 6, 6, 6, 9, 9),
    ]


def test_evenly_spaced_quantiles_give_back_the_histogram():
    trained = {3: 7, 5: 11, 8: 2}
    sizes = SizeDistribution.of(trained)
    drawn = [sizes.at((k + 0.5) / 20) for k in range(20)]
    values, counts = np.unique(drawn, return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == trained


def test_nothing_asked_for_means_as_trained():
    sizes = choose_sizes(None, TRAINED)
    assert sizes.sizes == (4, 6, 9)
    assert sizes.asked == "as trained"


@pytest.mark.parametrize("text", [6, "6", " 6 "])
def test_one_size(text):
    sizes = choose_sizes(text, TRAINED)
    assert sizes.sizes == (6,)
    assert sizes.asked == "6"


@pytest.mark.parametrize("text", ["5-9", " 5 - 9 "])
def test_a_range_follows_the_histogram_within_it(text):
    sizes = choose_sizes(text, TRAINED)
    assert sizes.sizes == (6, 9)
    assert sizes.cumulative == (2.0, 3.0)
    assert sizes.asked == "5-9"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a number such as 18"),
        ("many", "expected a number such as 18"),
        (-3, "expected a number such as 18"),
        ("6.5", "expected a number such as 18"),
        ("9-6", "write it as 6-9"),
        ("3", "trained on 4 to 9 atoms"),
        ("0", "trained on 4 to 9 atoms"),
        ("6-10", "trained on 4 to 9 atoms"),
        ("7-8", "nearest it saw have 6 and 9 atoms"),
        (5, "nearest it saw have 4 and 6 atoms"),
    ],
)
def test_what_the_model_cannot_do_is_refused(text, message):
    with pytest.raises(UserError, match=message) as caught:
        choose_sizes(text, TRAINED)
    assert str(caught.value).startswith(f"--num-atoms {text}:")
