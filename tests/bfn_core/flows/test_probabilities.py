"""Bin probabilities against 40-digit arithmetic, and draws against their probabilities."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bfn_core.flows.probabilities import (
    bin_expectation,
    bin_log_prob,
    bin_log_probs,
    draw_one_hot,
    log_ndtr,
    tilted_to,
)

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)


def exact_bin_log_prob(mean, log_std, bins, k):
    """ln of the mass of N(mean, std^2) in bin k; mpmath's exponents have no range to leave."""
    with mpmath.workdps(60):
        std = mpmath.exp(mpmath.mpf(log_std))
        low, high = (
            (mpmath.mpf(edge) / bins - 1 - mpmath.mpf(mean)) / std for edge in (2 * k, 2 * k + 2)
        )
        if low + high < 0:  # mirrored, so that the difference is one of small tails
            low, high, k = -high, -low, bins - 1 - k
        above_low = mpmath.erfc(low / mpmath.sqrt(2)) / 2 if k > 0 else mpmath.mpf(1)
        above_high = mpmath.erfc(high / mpmath.sqrt(2)) / 2 if k < bins - 1 else mpmath.mpf(0)
        return mpmath.log(above_low - above_high)


@SETTINGS
@given(
    mean=st.floats(-4, 4, width=32),
    log_std=st.floats(-9, 6, width=32),
    bins=st.sampled_from([2, 3, 9, 16, 256]),
    where=st.floats(0, 1),
)
@example(mean=0.0, log_std=-14.0, bins=256, where=0.0)
@example(mean=4.0, log_std=-9.0, bins=256, where=0.0)
@example(mean=0.1, log_std=math.log(2 / 256 / 0.03), bins=256, where=0.5)
@example(mean=0.1, log_std=math.log(2 / 256 / 0.0301), bins=256, where=0.9)
def test_bins_against_exact_arithmetic(mean, log_std, bins, where):
    k = min(int(where * bins), bins - 1)
    exact = float(exact_bin_log_prob(mean, log_std, bins, k))
    double = bin_log_probs(
        torch.tensor(mean, dtype=torch.float64), torch.tensor(log_std, dtype=torch.float64), bins
    )
    assert float(double[k]) == pytest.approx(exact, rel=1e-5, abs=1e-5)
    single = bin_log_probs(torch.tensor(mean), torch.tensor(log_std), bins)
    # An edge's place is known to a float32's rounding, 1e-7 / std standard deviations: the rest of
    # the tolerance is what that does to the answer, whose slope is sqrt(-2 answer).
    blur = 2e-7 * (1 + abs(mean)) * math.exp(-log_std) * (2 + math.sqrt(2 * abs(exact)))
    assert float(single[k]) == pytest.approx(exact, rel=1e-4, abs=1e-4 + blur)


@SETTINGS
@given(
    mean=st.floats(-3, 3, width=32),
    log_std=st.floats(-9, 6, width=32),
    bins=st.integers(2, 256),
)
def test_rows_are_normalised(mean, log_std, bins):
    row = bin_log_probs(torch.tensor(mean), torch.tensor(log_std), bins)
    assert row.shape == (bins,)
    # Rounded edges (see above) move mass between bins, and near-open ends may lose a little.
    blur = 1e-6 * math.exp(-log_std)
    assert float(torch.logsumexp(row, -1)) == pytest.approx(0, abs=1e-4 + min(blur, 1e-2))


@pytest.mark.parametrize("bins", [2, 9, 256])
def test_values_and_gradients_are_finite_at_extremes(bins):
    mean = torch.tensor([-1e4, -50.0, -1.0, 0.0, 1.0, 50.0, 1e4])
    log_std = torch.tensor([-200.0, -30.0, -14.0, -7.0, 0.0, 20.0, 200.0])
    mean, log_std = (
        x.flatten().requires_grad_() for x in torch.meshgrid(mean, log_std, indexing="ij")
    )
    row = bin_log_probs(mean, log_std, bins)
    assert bool(row.isfinite().all())
    for k in range(bins):
        for slope in torch.autograd.grad(row[:, k].sum(), (mean, log_std), retain_graph=True):
            assert bool(slope.isfinite().all()), k


@SETTINGS
@given(x=st.floats(-(2.0**60), 30, width=32))
@example(x=-1.0)
@example(x=-30000.0)
def test_log_ndtr_and_its_derivative(x):
    point = torch.tensor(x, requires_grad=True)
    value = log_ndtr(point)
    (slope,) = torch.autograd.grad(value, point)
    with mpmath.workdps(30):
        if x < -1e4:  # the asymptotic series: Phi(x) ~ phi(x) / -x
            exact = (
                -(mpmath.mpf(x) ** 2) / 2
                - mpmath.log(-mpmath.mpf(x))
                - mpmath.log(2 * mpmath.pi) / 2
            )
            exact_slope = -mpmath.mpf(x)
        else:
            exact = mpmath.log(mpmath.erfc(-mpmath.mpf(x) / mpmath.sqrt(2)) / 2)
            exact_slope = mpmath.exp(-(mpmath.mpf(x) ** 2) / 2 - exact) / mpmath.sqrt(2 * mpmath.pi)
    assert float(value.detach()) == pytest.approx(float(exact), rel=1e-5, abs=1e-12)
    assert float(slope) == pytest.approx(float(exact_slope), rel=1e-4, abs=1e-12)


@SETTINGS
@given(x=st.floats(-1e6, 8, width=32), dtype=st.sampled_from([torch.float32, torch.float64]))
@example(x=-1.0, dtype=torch.float32)
@example(x=-10.0, dtype=torch.float32)
@example(x=-10.000001, dtype=torch.float32)
@example(x=-100.0, dtype=torch.float32)
@example(x=-50.0, dtype=torch.float64)
@example(x=-50.000001, dtype=torch.float64)
def test_second_derivative_of_log_ndtr(x, dtype):
    """With r = phi / Phi the first derivative, it is -r (x + r)."""
    point = torch.tensor(x, dtype=dtype, requires_grad=True)
    (slope,) = torch.autograd.grad(log_ndtr(point), point, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, point)
    with mpmath.workdps(60):
        z = mpmath.mpf(float(point.detach()))
        # erfc(x) = e^(-x^2) x U(1, 3/2, x^2) / sqrt(pi) holds where erfc itself is too small.
        share = (
            mpmath.erfc(-z / mpmath.sqrt(2)) * mpmath.exp(z**2 / 2)
            if z > -100
            else -z / mpmath.sqrt(2 * mpmath.pi) * mpmath.hyperu(1, 1.5, z**2 / 2)
        )
        ratio = mpmath.sqrt(2 / mpmath.pi) / share
        exact = -ratio * (z + ratio)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert float(slope.detach()) == pytest.approx(float(ratio), rel=tolerance)
    assert float(curvature) == pytest.approx(float(exact), rel=tolerance)


@pytest.mark.parametrize("log_std", [-3.0, -7.0, -10.0])
@pytest.mark.parametrize("k", [0, 3])
def test_the_curvature_of_a_far_bin_is_that_of_a_gaussian(log_std, k):
    """In standard deviations the edge is far off: up to its distance^-2 it is -1 / sigma^2."""
    mean = torch.tensor(0.9, requires_grad=True)
    value = bin_log_prob(mean, torch.tensor(log_std), 8, torch.tensor(k))
    (slope,) = torch.autograd.grad(value, mean, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, mean)
    distance = 0.9 - (2 * (k + 1) / 8 - 1)
    rest = 2 * math.exp(2 * log_std) / distance**2
    assert float(curvature) == pytest.approx(-math.exp(-2 * log_std), rel=1e-5 + rest)


@pytest.mark.filterwarnings("ignore:There is a performance drop", "ignore:.*torch.jit.script")
def test_transforms_of_log_ndtr():
    points = torch.tensor([-1e3, -70.0, -12.0, -3.0, 0.0, 2.0], dtype=torch.float64)
    slope, curvature = torch.func.grad(log_ndtr), torch.func.grad(torch.func.grad(log_ndtr))
    ratio = torch.exp(-0.5 * points[2:] ** 2 - torch.special.log_ndtr(points[2:]))
    ratio = ratio / math.sqrt(2 * math.pi)
    slopes, curvatures = torch.vmap(slope)(points), torch.vmap(curvature)(points)
    torch.testing.assert_close(slopes[2:], ratio, rtol=1e-10, atol=0)
    torch.testing.assert_close(curvatures[2:], -ratio * (points[2:] + ratio), rtol=1e-9, atol=0)
    diagonal = torch.func.hessian(lambda x: log_ndtr(x).sum())(points).diagonal()
    torch.testing.assert_close(diagonal, curvatures)
    _, pushed = torch.func.jvp(log_ndtr, (points,), (torch.ones_like(points),))
    torch.testing.assert_close(pushed, slopes)
    torch.compiler.reset()
    compiled = torch.compile(log_ndtr, backend="eager", fullgraph=True)
    assert torch.equal(compiled(points), log_ndtr(points))


def test_gradients_match_finite_differences():
    mean = torch.tensor([0.3, -0.9, 1.7, 0.0], dtype=torch.float64, requires_grad=True)
    log_std = torch.tensor([-3.0, 0.5, -1.0, 2.5], dtype=torch.float64, requires_grad=True)
    # Two widths: all bins in the wide form, and all in the narrow one.
    assert torch.autograd.gradcheck(lambda m, s: bin_log_probs(m, s, 4), (mean, log_std))
    assert torch.autograd.gradcheck(
        lambda m, s: bin_log_probs(m, s, 64), (mean[3:], log_std[3:] + 2), atol=1e-4
    )


def test_draws_follow_their_probabilities(assert_frequencies, generator):
    probs = torch.tensor([0.1, 0.0, 0.45, 0.05, 0.4])
    draws = draw_one_hot(probs.log().expand(20000, 5), generator=generator)
    assert bool((draws.sum(-1) == 1).all())
    assert_frequencies(draws.sum(0), probs)


def test_certain_classes_are_certain(generator):
    for k in (0, 127, 255):
        log_probs = torch.full((1000, 256), -math.inf)
        log_probs[:, k] = 0
        assert bool((draw_one_hot(log_probs, generator=generator).argmax(-1) == k).all())


def test_draws_do_not_depend_on_padding():
    log_probs = torch.log_softmax(torch.randn(1, 9, 4, generator=torch.Generator()), -1)
    one, other = (torch.Generator().manual_seed(1) for _ in range(2))
    alone = draw_one_hot(log_probs[:, :5], mask=torch.ones(1, 5).bool(), generator=[one])
    mask = (torch.arange(9) < 5)[None]
    padded = draw_one_hot(log_probs, mask=mask, generator=[other])
    assert torch.equal(padded[:, :5], alone)


@pytest.mark.parametrize("middle", [0.0, 0.5, 0.9])
def test_narrow_bins_carry_their_corrections(middle):
    # Just below the width where the series takes over, about a bin `middle` deviations off centre.
    bins, width = 256, 0.0299
    log_std = math.log(2 / bins / width)
    mean = 1 / bins - middle * math.exp(log_std)  # bin 128 has its centre at 1/256
    exact = float(exact_bin_log_prob(mean, log_std, bins, 128))
    row = bin_log_probs(torch.tensor(mean).double(), torch.tensor(log_std).double(), bins)
    assert float(row[128]) == pytest.approx(exact, abs=5e-7)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_impossible_classes_are_never_drawn(uniform, monkeypatch):
    def constant(shape, **_):
        return torch.full(tuple(shape), uniform)

    monkeypatch.setattr("bfn_core.flows.probabilities.standard_uniform", constant)
    log_probs = torch.tensor([[-math.inf, math.log(0.4), math.log(0.6), -math.inf]])
    assert int(draw_one_hot(log_probs).argmax()) == (1 if uniform == 0 else 2)


@SETTINGS
@given(
    mean=st.floats(-3, 3, width=32),
    log_std=st.floats(-12, 6, width=32),
    bins=st.sampled_from([2, 3, 16, 256]),
)
@example(mean=0.0, log_std=-30.0, bins=256)
@example(mean=1e3, log_std=-12.0, bins=16)
def test_expectation_is_that_of_the_probabilities(mean, log_std, bins):
    arguments = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (mean, log_std)]
    probs = bin_log_probs(*arguments, bins).exp()
    centres = (2 * torch.arange(bins, dtype=torch.float64) + 1) / bins - 1
    both = (probs * centres).sum(), bin_expectation(*arguments, bins)
    slopes = [torch.autograd.grad(value, arguments) for value in both]
    for slow, fast in zip(*slopes, strict=True):
        assert float(fast) == pytest.approx(float(slow), rel=1e-4, abs=1e-6)
    expected, actual = (float(value.detach()) for value in both)
    assert actual == pytest.approx(expected, abs=1e-8)
    single = bin_expectation(torch.tensor(mean), torch.tensor(log_std), bins)
    # What a float32's rounding of an edge's place does to one bin's share.
    blur = 2e-7 * (1 + abs(mean)) * math.exp(-log_std) * 2 / bins
    assert float(single) == pytest.approx(actual, abs=1e-6 + min(blur, 2 / bins))


@SETTINGS
@given(
    mean=st.floats(-3, 3, width=32),
    log_std=st.floats(-9, 6, width=32),
    bins=st.sampled_from([2, 3, 16, 256]),
)
@example(mean=-2e3, log_std=-20.0, bins=256)
def test_one_bin_is_an_entry_of_all(mean, log_std, bins):
    m, s = (torch.full((bins,), x, dtype=torch.float64).requires_grad_() for x in (mean, log_std))
    index = torch.arange(bins)
    alone = bin_log_prob(m, s, bins, index)
    entries = bin_log_probs(m, s, bins)[index, index]
    torch.testing.assert_close(alone, entries, rtol=1e-6, atol=1e-6)
    slopes = [torch.autograd.grad(values.sum(), (m, s)) for values in (alone, entries)]
    for own, other in zip(*slopes, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("float64_default")
def test_tilting_reaches_any_mean_and_is_differentiable():
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor([-1.0, -0.2, 0.1, 0.9])
    log_probs = torch.log_softmax(8 * torch.randn(60, 4, generator=generator), -1)
    wanted = torch.linspace(-0.999, 0.899, 60)
    moved = tilted_to(log_probs, values, wanted)
    torch.testing.assert_close(moved.exp().sum(-1), torch.ones(60))
    torch.testing.assert_close((moved.exp() * values).sum(-1), wanted, rtol=0, atol=1e-12)
    # A tilt and nothing else: what log p has gained is linear in the values.
    gained = moved - log_probs
    slopes = gained.diff(dim=-1) / values.diff()
    torch.testing.assert_close(slopes, slopes[:, :1].expand(60, 3), rtol=1e-6, atol=1e-6)
    arguments = (log_probs[20:24].requires_grad_(), wanted[20:24].requires_grad_())
    assert torch.autograd.gradcheck(lambda p, m: tilted_to(p, values, m), arguments)


def test_tilting_beyond_the_values_and_where_the_bin_is_known():
    values = torch.tensor([-0.75, -0.25, 0.25, 0.75])
    log_probs = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(2, 4)
    moved = tilted_to(log_probs, values, torch.tensor([5.0, -0.75])).exp()
    torch.testing.assert_close(moved, torch.tensor([[0.0, 0, 0, 1], [1, 0, 0, 0]]))
    known = torch.tensor([[0.0, 1, 0, 0]]).log()
    found = tilted_to(known.requires_grad_(), values, torch.tensor([0.6]))
    torch.testing.assert_close(found.exp(), torch.tensor([[0.0, 1, 0, 0]]))
