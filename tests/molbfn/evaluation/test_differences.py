from __future__ import annotations

import numpy as np
import pytest

from molbfn.evaluation.differences import (
    additive_difference,
    as_estimate,
    combined,
    holm,
    statistic_difference,
)
from molbfn.evaluation.intervals import Estimate, Interval, Ratio, additive_ratio
from molbfn.evaluation.rarefaction import Structures, share_at


def bernoulli(rng: np.random.Generator, n: int, rate: float) -> Ratio:
    return additive_ratio(rng.random(n) < rate, np.ones(n, dtype=np.int64))


def test_equal_sets_do_not_differ() -> None:
    ratio = bernoulli(np.random.default_rng(0), 300, 0.9)
    found = additive_difference(ratio, ratio, seed=0)
    assert found.value == 0
    assert found.p == 1
    assert found.low < 0 < found.high
    share = as_estimate(ratio, seed=0)
    assert combined(share, share).p == 1


def test_known_rates_are_found() -> None:
    first = additive_ratio(np.arange(2000) < 1882, np.ones(2000, dtype=np.int64))
    second = additive_ratio(np.arange(2000) < 1960, np.ones(2000, dtype=np.int64))
    found = additive_difference(first, second, seed=0)
    assert found.method == "square and add"
    assert found.value == pytest.approx((1960 - 1882) / 2000)
    error = np.sqrt(0.941 * 0.059 / 2000 + 0.98 * 0.02 / 2000)  # of two binomials
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.001)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.001)
    assert found.p < 0.001
    back = additive_difference(second, first, seed=0)
    assert back.value == -found.value


def test_square_and_add_is_newcombes() -> None:
    """Newcombe 1998, table II (a), method 10: 56/70 against 48/80 gives 0.0524 to 0.3339."""
    first = Estimate(48 / 80, Interval(0.4905, 0.7003, "Wilson"))
    second = Estimate(56 / 70, Interval(0.6918, 0.8774, "Wilson"))
    found = combined(first, second)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=2e-4)
    assert 0.001 < found.p < 0.05


@pytest.mark.parametrize(("size", "rate"), [(200, 0.98), (300, 0.5)])
def test_shares_of_one_law_seldom_differ(size: int, rate: float) -> None:
    rng = np.random.default_rng(3)
    pairs = [(bernoulli(rng, size, rate), bernoulli(rng, size, rate)) for _ in range(1000)]
    found = [additive_difference(*pair, seed=0).p < 0.05 for pair in pairs]
    # 5 % and three standard errors of a share of 1,000; not far below either
    assert 0.02 < np.mean(found) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_where_one_set_is_complete_the_bound_takes_over() -> None:
    rng = np.random.default_rng(0)
    full = bernoulli(rng, 200, 1.1)
    found = additive_difference(bernoulli(rng, 200, 0.95), full, seed=0)
    assert found.method == "square and add"
    assert found.low < found.value < found.high <= 1
    none = Ratio(0, 0, np.zeros((3, 2), np.int64), additive=True)
    assert additive_difference(none, full, seed=0) is None


def test_a_handful_of_molecules_proves_nothing() -> None:
    """Sets of one law, at the level of thirteen metrics: resamples of few hardly vary."""
    rng = np.random.default_rng(0)
    for size in (2, 3, 5):
        drawn = rng.gamma(2.0, size=(100, 2, size))
        found = [statistic_difference(a, b, np.mean, seed=0).p for a, b in drawn]
        assert np.mean(np.array(found) < 0.05 / 13) <= 0.02
    many = np.linspace(0, 1, 30_000)
    assert statistic_difference(many, many + 1, np.mean, seed=0).p < 0.001  # at once
    five_of_six, three_of_four = (
        additive_ratio(np.array([good]), np.array([of])) for good, of in ((5, 6), (3, 4))
    )
    one_each = additive_difference(five_of_six, three_of_four, seed=0)
    assert one_each.low < 0 < one_each.high
    assert one_each.p > 0.5


def test_means_have_the_interval_of_their_standard_errors() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(10, 2, size=400), rng.normal(11, 3, size=300)
    found = statistic_difference(first, second, np.mean, seed=0)
    assert found.value == pytest.approx(second.mean() - first.mean())
    reach = 1.96 * np.sqrt(first.var() / 400 + second.var() / 300)
    assert (found.low, found.high) == pytest.approx(
        (found.value - reach, found.value + reach), abs=0.04
    )
    assert found.p < 0.001
    same = statistic_difference(first, first, np.mean, seed=0)
    assert (same.value, same.p) == (0, 1)
    assert statistic_difference(first[:1], second, np.mean, seed=0) is None
    failed = np.append(first, np.inf)  # the mean of every other resample is infinite
    assert statistic_difference(failed, second, np.mean, seed=0) is None
    median = statistic_difference(failed, second, np.median, seed=0)
    assert median.value == pytest.approx(np.median(second) - np.median(failed))


def test_coverage_of_a_median_of_skewed_numbers() -> None:
    """120 pairs like energies; nominal 95 % and 5 %, 3.5 binomial errors each way."""
    rng = np.random.default_rng(3)
    covered = false = 0
    for k in range(120):
        first, second = rng.lognormal(0.4, 0.8, 40), rng.lognormal(0.9, 0.8, 50)
        found = statistic_difference(first, second, np.median, seed=k)
        covered += found.low <= np.exp(0.9) - np.exp(0.4) <= found.high
        same = statistic_difference(first, rng.lognormal(0.4, 0.8, 50), np.median, seed=k)
        false += same.p < 0.05
    assert covered / 120 > 0.88
    assert false / 120 < 0.12


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_coverage_and_false_positives_of_the_bootstrap() -> None:
    """400 pairs: nominal 95 % and 5 %; binomial error 1.1 points, so 3.5 of them each way."""
    rng = np.random.default_rng(1)
    covered = false = 0
    for k in range(400):
        a, b = bernoulli(rng, 400, 0.90), bernoulli(rng, 300, 0.95)
        found = additive_difference(a, b, seed=k)
        covered += found.low <= 0.05 <= found.high
        same = additive_difference(a, bernoulli(rng, 300, 0.90), seed=k)
        false += same.p < 0.05
    assert 0.912 < covered / 400 < 0.988
    assert 0.012 < false / 400 < 0.088


def test_coverage_of_uniqueness_at_a_common_number() -> None:
    """Wide rather than narrow: the jackknife's variance is up to twice the true one."""
    rng = np.random.default_rng(2)

    def drawn(n: int, kinds: int) -> Structures:
        _, labels = np.unique(rng.integers(kinds, size=n), return_inverse=True)
        return Structures(labels, np.ones(labels.max() + 1, dtype=bool), among_all=True)

    def expected(n: int, kinds: int) -> float:
        return kinds * (1 - (1 - 1 / kinds) ** n) / n

    true = expected(200, 900) - expected(200, 400)
    covered = false = 0
    for _ in range(300):
        a = share_at(drawn(200, 400), 200)
        found = combined(a, share_at(drawn(500, 900), 200))
        covered += found.low <= true <= found.high
        false += combined(a, share_at(drawn(300, 400), 200)).p < 0.05
    assert covered / 300 > 0.92
    assert false / 300 < 0.08
