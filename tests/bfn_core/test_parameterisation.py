"""Noise, data and preconditioned predictions against their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bfn_core.parameterisation import DataPrediction, NoisePrediction, PreconditionedPrediction
from bfn_core.schedules import GaussianSchedule

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)
ALL = [DataPrediction(), NoisePrediction(), PreconditionedPrediction(0.5)]
T = torch.tensor([0.05, 0.3, 0.7, 1.0], dtype=torch.float64)


def flow_sample(schedule, t, generator, spread=1.0):
    x = spread * torch.randn(len(t), 6, generator=generator, dtype=t.dtype)
    noise = torch.randn(len(t), 6, generator=generator, dtype=t.dtype)
    gamma = schedule.gamma(t)[:, None]
    return x, noise, gamma * x + torch.sqrt(gamma * (1 - gamma)) * noise


def test_the_true_noise_gives_the_data(generator):
    schedule = GaussianSchedule(0.02)
    x, noise, mean = flow_sample(schedule, T, generator)
    torch.testing.assert_close(NoisePrediction().estimate(noise, mean, T, schedule), x)


def test_data_prediction_is_the_identity(generator):
    schedule = GaussianSchedule(0.02)
    x, _, mean = flow_sample(schedule, T, generator)
    assert DataPrediction().estimate(x, mean, T, schedule) is x
    assert DataPrediction().inputs(mean, T, schedule) is mean


@SETTINGS
@given(sigma_1=st.floats(1e-3, 0.5), sigma_data=st.floats(0.1, 3), t=st.floats(1e-3, 1))
def test_preconditioning_as_written_in_edm(sigma_1, sigma_data, t):
    schedule, times = GaussianSchedule(sigma_1), torch.tensor([t], dtype=torch.float64)
    mean = torch.tensor([[0.7, -0.2]], dtype=torch.float64)
    raw = torch.tensor([[0.3, 1.1]], dtype=torch.float64)
    gamma = 1 - sigma_1 ** (2 * t)
    z, variance = mean / gamma, (1 - gamma) / gamma
    total = variance + sigma_data**2
    expected_input = z / total**0.5
    expected = sigma_data**2 / total * z + (variance / total) ** 0.5 * sigma_data * raw
    ours = PreconditionedPrediction(sigma_data)
    torch.testing.assert_close(ours.inputs(mean, times, schedule), expected_input)
    torch.testing.assert_close(ours.estimate(raw, mean, times, schedule), expected)


@SETTINGS
@given(sigma_1=st.floats(1e-3, 0.5), s=st.floats(0.1, 3), t=st.floats(1e-3, 1))
def test_preconditioned_inputs_and_targets_have_unit_variance(sigma_1, s, t):
    # Var(z) = s^2 + sigma^2; the target is F = (x - c_skip z) / c_out, z = x + sigma eps.
    schedule, times = GaussianSchedule(sigma_1), torch.tensor([t], dtype=torch.float64)
    ours = PreconditionedPrediction(s)
    one = torch.ones(1, 1, dtype=torch.float64)
    gamma = schedule.gamma(times)
    c_in = float(ours.inputs(one, times, schedule)) * float(gamma)
    c_skip = float(ours.estimate(0 * one, one, times, schedule)) * float(gamma)
    c_out = float(ours.scale(times, schedule))
    variance = float((1 - gamma) / gamma)
    assert c_in**2 * (s**2 + variance) == pytest.approx(1, rel=1e-8)
    assert ((1 - c_skip) ** 2 * s**2 + c_skip**2 * variance) / c_out**2 == pytest.approx(1, 1e-6)


@SETTINGS
@given(sigma_1=st.floats(1e-3, 0.5), s=st.floats(0.1, 3), t=st.floats(0, 1))
def test_preconditioned_loss_weight_is_bounded(sigma_1, s, t):
    schedule, times = GaussianSchedule(sigma_1), torch.tensor([t], dtype=torch.float64)
    weight = 0.5 * schedule.rate(times) * PreconditionedPrediction(s).scale(times, schedule) ** 2
    relative = float(weight / 0.5 / schedule.rate(torch.zeros(1, dtype=torch.float64)))
    assert min(s**2, 1) * (1 - 1e-9) <= relative <= max(s**2, 1) * (1 + 1e-9)


@pytest.mark.parametrize("ours", ALL)
def test_scale_is_the_derivative_of_the_estimate(ours):
    schedule = GaussianSchedule(0.02)
    times = torch.cat([torch.zeros(1, dtype=torch.float64), T])
    raw = torch.zeros(5, 1, dtype=torch.float64, requires_grad=True)
    estimate = ours.estimate(raw, torch.ones_like(raw), times, schedule)
    slope = torch.autograd.grad(estimate.sum(), raw, allow_unused=True)[0]
    torch.testing.assert_close(slope[:, 0].abs(), ours.scale(times, schedule))


@pytest.mark.parametrize("ours", ALL)
def test_log_std_adds_the_log_scale(ours):
    schedule, raw = GaussianSchedule(0.02), torch.full((4, 3), -0.4, dtype=torch.float64)
    expected = torch.log(ours.scale(T, schedule))[:, None] - 0.4
    torch.testing.assert_close(ours.log_std(raw, T, schedule), expected.expand(4, 3))


def test_noise_prediction_below_t_min_is_the_prior():
    schedule, ours = GaussianSchedule(0.02), NoisePrediction(t_min=0.01)
    t, raw = torch.tensor([0.0, 0.009, 0.01]), torch.full((3, 2), 5.0)
    mean = torch.ones(3, 2)
    assert not ours.estimate(raw, mean, t, schedule)[:2].any()
    assert ours.estimate(raw, mean, t, schedule)[2].all()
    assert not ours.log_std(raw, t, schedule)[:2].any()
    assert ours.log_std(raw, t, schedule)[2].all()


@pytest.mark.parametrize("ours", ALL)
@pytest.mark.parametrize("sigma_1", [1e-3, 0.5])
def test_float32_at_the_ends(ours, sigma_1):
    schedule = GaussianSchedule(sigma_1)
    t = torch.tensor([0.0, 1e-30, 1e-10, 1e-6, 1e-3, 0.5, 1 - 1e-7, 1.0])
    # The law of mu given x = 0.8 and noise of one standard deviation.
    high = t.double()
    mean = schedule.gamma(high) * 0.8
    mean = (mean + torch.sqrt(schedule.gamma(high) * schedule.gamma_complement(high)))[:, None]
    raw = torch.full((8, 1), 0.7, requires_grad=True)
    estimate = ours.estimate(raw, mean.float(), t, schedule)
    reference = ours.estimate(raw.detach().double(), mean, high, schedule)
    torch.testing.assert_close(estimate.double(), reference, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        ours.inputs(mean.float(), t, schedule).double(),
        ours.inputs(mean, high, schedule),
        rtol=1e-4,
        atol=1e-4,
    )
    (slope,) = torch.autograd.grad(estimate.sum(), raw)
    assert bool(slope.isfinite().all())
    assert bool(ours.log_std(raw, t, schedule).isfinite().all())


def test_preconditioned_at_exactly_zero_and_one():
    schedule, ours = GaussianSchedule(1e-3), PreconditionedPrediction(0.7)
    zero, one = torch.zeros(1), torch.ones(1)
    assert float(ours.inputs(torch.zeros(1, 1), zero, schedule)) == 0.0
    raw = torch.full((1, 1), 2.0)
    assert float(ours.estimate(raw, torch.zeros(1, 1), zero, schedule)) == pytest.approx(1.4)
    # At t = 1 the state is the data to within sigma_1.
    assert float(ours.estimate(raw, raw, one, schedule)) == pytest.approx(2.0, abs=3e-3)


def test_bad_arguments():
    for t_min in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="t_min"):
            NoisePrediction(t_min)
    for sigma_data in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="sigma_data"):
            PreconditionedPrediction(sigma_data)


def test_inputs_at_zero_are_finite_whatever_the_dtypes():
    """float32 times beside float64 means: the smallest number is that of the times."""
    schedule, ours = GaussianSchedule(0.1), PreconditionedPrediction()
    for mean in (torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3, 2).half()):
        for t in (torch.zeros(3), torch.zeros(3, dtype=torch.float64)):
            assert not ours.inputs(mean, t, schedule).any()
