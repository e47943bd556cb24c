"""Intervals: the shortcuts against literal resampling, and coverage where the truth is known."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest

from molbfn.evaluation.intervals import (
    Interval,
    Ratio,
    additive_ratio,
    interval,
    median_interval,
)
from molbfn.evaluation.verdicts import _distinct_share, distinct_ratio


def test_value_counts_and_parts():
    ratio = additive_ratio(np.array([3, 0, 5]), np.array([4, 2, 5]))
    assert (ratio.numerator, ratio.denominator, ratio.value) == (8, 11, 8 / 11)
    assert ratio.parts.tolist() == [[3, 4], [0, 2], [5, 5]]


def test_no_denominator_no_interval():
    nothing = additive_ratio(np.zeros(4), np.zeros(4))
    assert nothing.value is None
    assert interval(nothing, seed=0) is None


def test_bootstrap_equals_literal_resampling_of_molecules():
    rng = np.random.default_rng(3)
    atoms = rng.integers(3, 30, 400)
    # whole molecules fail together: treating atoms as independent would be far too narrow
    stable = np.where(rng.random(400) < 0.8, atoms, atoms // 2)
    found = interval(additive_ratio(stable, atoms), seed=1)
    picks = rng.integers(0, 400, size=(10_000, 400))
    literal = np.quantile(stable[picks].sum(1) / atoms[picks].sum(1), [0.025, 0.975])
    assert found is not None
    assert found.method == "bootstrap"
    # Monte-Carlo error of a 2.5 % quantile of 4,000 draws: about sd / 25, sd 0.01
    np.testing.assert_allclose([found.low, found.high], literal, atol=0.0015)
    share = stable.sum() / atoms.sum()
    per_atom = 1.96 * np.sqrt(share * (1 - share) / atoms.sum())
    assert found.high - found.low > 2 * (2 * per_atom)


def test_bootstrap_is_seeded_and_does_not_depend_on_the_order_of_molecules():
    rng = np.random.default_rng(0)
    good = rng.integers(0, 4, 300)
    ratio, turned = (additive_ratio(x, np.full(300, 3)) for x in (good, good[::-1]))
    assert interval(ratio, seed=5) == interval(turned, seed=5)
    assert interval(ratio, seed=5) != interval(ratio, seed=6)


def test_chunks_of_draws_cover_all_resamples(monkeypatch: pytest.MonkeyPatch):
    ratio = additive_ratio(2 * (np.arange(50) % 3 == 0), np.full(50, 2))
    monkeypatch.setattr("molbfn.evaluation.intervals._DRAWS_PER_CHUNK", 2 * 1700)
    found = interval(ratio, seed=0)
    assert found is not None
    # normal approximation of 17 / 50
    np.testing.assert_allclose([found.low, found.high], [0.209, 0.471], atol=0.025)


@functools.cache
def of_share(successes: int, trials: int) -> Interval:
    """The interval of a share of molecules."""
    found = interval(additive_ratio(np.arange(trials) < successes, np.ones(trials)), seed=0)
    assert found is not None
    return found


def binomial(trials: int, rate: float) -> list[float]:
    """Probability of 0, 1, ... successes."""
    return [math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(trials + 1)]


@pytest.mark.parametrize("trials", [12, 200])
@pytest.mark.parametrize("rate", [0.5, 0.9, 0.95, 0.97, 0.98, 0.985, 0.99, 0.995, 0.999])
def test_shares_are_covered_by_exact_enumeration(trials: int, rate: float):
    """The percentile bootstrap covers 91 % at 200 and 0.98."""
    covered = missed = 0.0
    for k, probability in enumerate(binomial(trials, rate)):
        found = of_share(k, trials)
        covered += probability * (found.low <= rate <= found.high)
        missed += probability * (rate < found.low)
    assert covered >= 0.95 - 1e-9
    assert missed <= 0.025 + 1e-9


def test_share_has_clopper_and_pearsons_interval():
    """Each end leaves 2.5 % beyond the count."""
    for k, n in ((1, 2), (3, 10), (199, 200), (9_950, 10_000)):
        found = of_share(k, n)
        assert found.method == "binomial"
        if n <= 200:
            assert sum(binomial(n, found.low)[k:]) == pytest.approx(0.025, rel=1e-9)
            assert sum(binomial(n, found.high)[: k + 1]) == pytest.approx(0.025, rel=1e-9)
    np.testing.assert_allclose([found.low, found.high], [0.99341337, 0.99628669], atol=1e-8)


def test_one_failure_more_never_raises_an_end():
    for trials in (1, 2, 7, 200):
        ends = [(i.low, i.high) for i in (of_share(k, trials) for k in range(trials + 1))]
        assert ends == sorted(ends)
        assert [high for _, high in ends] == sorted(high for _, high in ends)
        assert all(low <= k / trials <= high for k, (low, high) in enumerate(ends))


@pytest.mark.parametrize("lost", [1, 18, 40])
def test_pooled_ratio_with_failures_is_not_surer_than_a_complete_one(lost: int):
    atoms, stable = np.full(200, 18), np.full(200, 18)
    np.subtract.at(stable, np.arange(lost) % 10, 1)
    complete = interval(additive_ratio(atoms, atoms), seed=0)
    found = interval(additive_ratio(stable, atoms), seed=0)
    none = interval(additive_ratio(atoms - atoms, atoms), seed=0)
    back = interval(additive_ratio(atoms - stable, atoms), seed=0)
    assert found.method == back.method == "bootstrap"
    assert found.low <= complete.low
    assert back.high >= none.high


@pytest.mark.parametrize("values", [6, 9, 17, 40])
def test_medians_are_covered_by_order_statistics(values: int):
    found = median_interval(np.arange(1.0, values + 1))
    assert found.method == "order statistics"
    k = int(found.low)
    assert found.high == values + 1 - k
    below = binomial(values, 0.5)
    # the median lies outside where fewer than k values are on one side of it
    assert 2 * sum(below[:k]) <= 0.05 < 2 * sum(below[: k + 1])


def test_medians_of_few_or_of_failures():
    assert median_interval(np.arange(5.0)) is None
    assert median_interval(np.zeros(0)) is None
    assert median_interval(np.array([3.0, np.inf, 1, 2, 5, 4])).high == np.inf


@pytest.mark.parametrize("complete", [True, False])
def test_no_spread_gives_the_exact_binomial_bound(complete: bool):
    count = np.full(20, int(complete))
    found = interval(additive_ratio(count, np.ones(20)), seed=0)
    # Clopper & Pearson for 20 of 20, as tables have it: 0.8316
    expected = (0.8316, 1.0) if complete else (0.0, 1 - 0.8316)
    assert found is not None
    assert found.method == "binomial bound"
    np.testing.assert_allclose([found.low, found.high], expected, atol=1e-4)


@pytest.mark.parametrize("molecules", [1, 30])
def test_molecules_that_are_all_alike_are_still_a_sample(molecules: int):
    """Wilson's interval for 5 of 6 atoms in each; the ends solve (p - q)^2 = z^2 q (1 - q) / n."""
    ratio = additive_ratio(np.full(molecules, 5), np.full(molecules, 6))
    found = interval(ratio, seed=0)
    assert found.method == "score"
    assert found.low < 5 / 6 < found.high
    for end in (found.low, found.high):
        spread = 1.959964**2 * end * (1 - end) / molecules
        assert (5 / 6 - end) ** 2 == pytest.approx(spread, rel=1e-5)


def test_pooled_bound_counts_molecules_not_atoms():
    atoms = np.full(20, 18)
    assert interval(additive_ratio(atoms, atoms), seed=0) == interval(
        additive_ratio(np.ones(20), np.ones(20)), seed=0
    )


def distinct_among_valid(structure: np.ndarray) -> Ratio:
    kinds = int(structure.max()) + 1
    return distinct_ratio(structure, np.ones(kinds, dtype=bool), structure >= 0)


def renumbered(species: np.ndarray) -> np.ndarray:
    """Numbers without gaps, -1 kept."""
    _, structure = np.unique(species[species >= 0], return_inverse=True)
    result = np.full(len(species), -1)
    result[species >= 0] = structure
    return result


def test_parts_are_what_leaving_one_molecule_out_changes():
    rng = np.random.default_rng(2)
    structure = renumbered(rng.integers(-1, 12, 25))
    new = rng.random(structure.max() + 1) < 0.5
    ratios = [
        distinct_among_valid(structure),
        distinct_ratio(structure, new, np.ones(25)),
        _distinct_share(structure, new),
    ]
    for k in range(25):
        rest = np.delete(structure, k)
        kinds = set(rest[rest >= 0].tolist())
        fresh = {s for s in kinds if new[s]}
        expected = [(len(kinds), (rest >= 0).sum()), (len(fresh), 24), (len(fresh), len(kinds))]
        for ratio, counts in zip(ratios, expected, strict=True):
            assert ratio.numerator - ratio.parts[k, 0] == counts[0]
            assert ratio.denominator - ratio.parts[k, 1] == counts[1]


def test_jackknife_equals_its_formula():
    structure = renumbered(np.random.default_rng(4).integers(-1, 30, 60))
    found = interval(distinct_among_valid(structure), seed=0)
    values = []
    for k in range(60):
        rest = np.delete(structure, k)
        values.append(len(set(rest[rest >= 0].tolist())) / (rest >= 0).sum())
    error = np.sqrt(59 / 60 * np.sum((np.array(values) - np.mean(values)) ** 2))
    p = len(set(structure.tolist()) - {-1}) / (structure >= 0).sum()
    shifts = np.array([-1.959964, 1.959964]) * error / (p * (1 - p))
    expected = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + shifts)))
    assert found is not None
    assert found.method == "jackknife"
    np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-6)


def draws(rng: np.random.Generator, kind: str, size: int, repeats: int) -> np.ndarray:
    """Species [repeats, size], 10 % of them -1 (not valid)."""
    if kind == "many":  # few duplicates, as with a good model
        species = rng.integers(0, 20_000, size=(repeats, size))
    else:  # some structures again and again, as with a collapsed one
        weights = 1 / np.arange(1, 2001)
        species = rng.choice(2000, size=(repeats, size), p=weights / weights.sum())
    return np.where(rng.random((repeats, size)) < 0.9, species, -1)


@pytest.mark.parametrize("kind", ["many", "collapsed"])
@pytest.mark.parametrize("metric", ["uniqueness", "novel", "novelty"])
def test_jackknife_covers_the_true_expectation(kind: str, metric: str):
    rng = np.random.default_rng(11)
    found: list[Interval] = []
    values = []
    for species in draws(rng, kind, 500, 400):
        structure = renumbered(species)
        new = np.unique(species[species >= 0]) % 3 > 0
        if metric == "uniqueness":
            ratio = distinct_among_valid(structure)
        elif metric == "novel":
            ratio = distinct_ratio(structure, new, np.ones(500))
        else:
            ratio = _distinct_share(structure, new)
        values.append(ratio.value)
        found.append(interval(ratio, seed=0))
    # 400 samples know the expectation to a twentieth of the spread of one sample
    truth = np.mean(values)
    covered = np.mean([i.low <= truth <= i.high for i in found])
    # 95 % less three standard errors of a share of 400
    assert covered > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400)
    # and not wide for nothing: sqrt(2) of what the spread asks for, more on the scale of odds
    width = np.mean([i.high - i.low for i in found])
    assert width < 2 * (2 * 1.96 * np.std(values))


def test_plain_bootstrap_would_miss_the_uniqueness_altogether():
    """Why the jackknife: 500 molecules redrawn with replacement hold duplicates by themselves."""
    rng = np.random.default_rng(12)
    structure = rng.integers(0, 20_000, 500)
    truth = 20_000 * (1 - (1 - 1 / 20_000) ** 500) / 500
    redrawn = [len(np.unique(structure[rng.integers(0, 500, 500)])) / 500 for _ in range(200)]
    assert max(redrawn) < 0.75 < truth
    found = interval(distinct_among_valid(renumbered(structure)), seed=0)
    assert found is not None
    assert found.low < truth < found.high


def test_structures_of_which_none_occurs_once_are_still_a_sample():
    structure = np.repeat(np.arange(12), 5)
    found = interval(distinct_among_valid(structure), seed=0)
    assert found.low < 12 / 60 - 0.01
    assert found.high > 12 / 60 + 0.01
