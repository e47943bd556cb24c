"""Accuracy schedules against their closed forms in float64 and against autograd."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bfn_core.schedules import AccuracySchedule, CategoricalSchedule, GaussianSchedule

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)
times = st.floats(0, 1)
sigmas = st.floats(1e-3, 0.99)
SCHEDULES = [GaussianSchedule(1e-3), GaussianSchedule(0.3), CategoricalSchedule(3.0)]


@SETTINGS
@given(sigma=sigmas, t=times)
def test_gaussian_closed_forms(sigma, t):
    schedule, tensor = GaussianSchedule(sigma), torch.tensor(t, dtype=torch.float64)
    beta = sigma ** (-2 * t) - 1
    assert float(schedule.beta(tensor)) == pytest.approx(beta, rel=1e-9, abs=1e-12)
    assert float(schedule.gamma(tensor)) == pytest.approx(1 - sigma ** (2 * t), rel=1e-9, abs=1e-12)
    assert float(schedule.gamma_complement(tensor)) == pytest.approx(1 / (1 + beta), rel=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rate_is_the_derivative_of_beta(schedule):
    t = torch.linspace(0, 1, 33, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(schedule.beta(t).sum(), t)
    torch.testing.assert_close(schedule.rate(t), slope, rtol=1e-12, atol=0)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_increments_add_up_to_beta(schedule):
    grid = torch.linspace(0, 1, 11, dtype=torch.float64) ** 1.7
    steps = schedule.increment(grid[:-1], grid[1:])
    assert bool((steps > 0).all())
    torch.testing.assert_close(steps.cumsum(0), schedule.beta(grid[1:]), rtol=1e-12, atol=0)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ends(schedule):
    zero, one = torch.zeros(1), torch.ones(1)
    assert float(schedule.beta(zero)) == 0.0
    assert float(schedule.gamma(zero)) == 0.0
    assert float(schedule.gamma_complement(zero)) == 1.0
    assert math.isfinite(float(schedule.rate(one)))
    assert float(schedule.increment(one, one)) == 0.0


def test_gaussian_input_entropy_is_linear_in_time():
    schedule = GaussianSchedule(0.02)
    entropy = -0.5 * torch.log1p(schedule.beta(torch.linspace(0, 1, 9, dtype=torch.float64)))
    slopes = entropy.diff()
    torch.testing.assert_close(slopes, slopes[:1].expand(8), rtol=1e-10, atol=0)
    assert float(entropy[-1]) == pytest.approx(math.log(0.02))


def test_gaussian_step_accuracy_of_the_paper():
    # alpha_i = sigma_1^(-2i/n) (1 - sigma_1^(2/n)), eq. 95.
    sigma, n = 0.05, 20
    i = torch.arange(1, n + 1, dtype=torch.float64)
    expected = sigma ** (-2 * i / n) * (1 - sigma ** (2 / n))
    actual = GaussianSchedule(sigma).increment((i - 1) / n, i / n)
    torch.testing.assert_close(actual, expected, rtol=1e-11, atol=0)


def test_categorical_step_accuracy_of_the_paper():
    # alpha_i = beta_1 (2i - 1) / n^2.
    n = 20
    i = torch.arange(1, n + 1, dtype=torch.float64)
    actual = CategoricalSchedule(3.0).increment((i - 1) / n, i / n)
    torch.testing.assert_close(actual, 3.0 * (2 * i - 1) / n**2, rtol=1e-12, atol=0)


@SETTINGS
@given(sigma=sigmas, t=st.floats(0, 1, width=32))
def test_float32_agrees_with_float64(sigma, t):
    schedule = GaussianSchedule(sigma)
    single, double = torch.tensor(t), torch.tensor(t, dtype=torch.float64)
    for name in ("beta", "rate", "gamma", "gamma_complement"):
        low, high = getattr(schedule, name)(single), getattr(schedule, name)(double)
        assert low.dtype == torch.float32
        assert float(low) == pytest.approx(float(high), rel=1e-4, abs=1e-37)


def test_small_steps_do_not_cancel_in_float32():
    start = torch.tensor(0.5)
    end = start + 2.0**-14
    for schedule in SCHEDULES:
        exact = schedule.increment(start.double(), end.double())
        assert float(schedule.increment(start, end)) == pytest.approx(float(exact), rel=1e-5)


def test_another_schedule_needs_two_methods():
    class Linear(AccuracySchedule):
        def beta(self, t):
            return 5 * t

        def rate(self, t):
            return torch.full_like(t, 5)

    t = torch.tensor([0.0, 0.2, 1.0])
    assert Linear().increment(t[:2], t[1:]).tolist() == pytest.approx([1.0, 4.0])
    torch.testing.assert_close(Linear().gamma(t), torch.tensor([0.0, 0.5, 5 / 6]))
    torch.testing.assert_close(Linear().gamma_complement(t), torch.tensor([1.0, 0.5, 1 / 6]))


@pytest.mark.parametrize("sigma", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_bad_sigma(sigma):
    with pytest.raises(ValueError, match="sigma_1"):
        GaussianSchedule(sigma)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.inf, math.nan])
def test_bad_beta(beta):
    with pytest.raises(ValueError, match="beta_1"):
        CategoricalSchedule(beta)
