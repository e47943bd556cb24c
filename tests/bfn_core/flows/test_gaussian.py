"""The Gaussian bookkeeping against Bayes' rule on a grid, and in law."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bfn_core.flows import ContinuousFlow, DiscretisedFlow, GaussianState
from bfn_core.parameterisation import DataPrediction, NoisePrediction, PreconditionedPrediction

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)
FLOW = ContinuousFlow(sigma_1=0.02)
CENTRED = ContinuousFlow(sigma_1=0.02, centred=True)
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_prior_is_standard():
    state = FLOW.prior((3, 4, 2), dtype=torch.float64)
    assert state.mean.shape == (3, 4, 2)
    assert not state.mean.any()
    assert torch.equal(state.precision, torch.ones(3, dtype=torch.float64))


@SETTINGS
@given(
    mean=st.floats(-2, 2), precision=st.floats(0.5, 20), y=st.floats(-3, 3), alpha=st.floats(0.1, 9)
)
def test_update_is_bayes_rule(mean, precision, y, alpha):
    # Prior density times likelihood on a grid, normalised numerically.
    x = np.linspace(-12, 12, 20001)
    log_density = -0.5 * precision * (x - mean) ** 2 - 0.5 * alpha * (y - x) ** 2
    weights = np.exp(log_density - log_density.max())
    weights /= weights.sum()
    centre = (weights * x).sum()
    spread = (weights * (x - centre) ** 2).sum()
    new = FLOW.update(
        GaussianState(tensor(mean)[:, None], tensor(precision)), tensor(y), tensor(alpha)
    )
    assert float(new.mean) == pytest.approx(centre, abs=1e-8)
    assert 1 / float(new.precision) == pytest.approx(spread, rel=1e-6)


@SETTINGS
@given(
    precision=st.floats(1, 1e4),
    first=st.floats(1e-3, 1e3),
    second=st.floats(1e-3, 1e3),
    seed=st.integers(0, 2**20),
)
def test_accuracies_add_exactly(precision, first, second, seed):
    # y_a and y_b carry what their accuracy-weighted mean carries, whose accuracy is the sum; and
    # that mean has the law of a sender of the summed accuracy: variance a/(a+b)^2 + b/(a+b)^2.
    generator = torch.Generator().manual_seed(seed)
    mean, y_a, y_b = torch.randn(3, 1, 5, generator=generator, dtype=torch.float64)
    state = GaussianState(mean, tensor(precision))
    twice = FLOW.update(FLOW.update(state, y_a, tensor(first)), y_b, tensor(second))
    pooled = (first * y_a + second * y_b) / (first + second)
    once = FLOW.update(state, pooled, tensor(first + second))
    torch.testing.assert_close(twice.mean, once.mean, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(twice.precision, once.precision)


def test_accuracies_add_in_law(generator):
    count, x, a, b = 20000, 0.7, 3.0, 11.0
    estimate = torch.full((count, 1), x)
    start = GaussianState(torch.full((count, 1), -0.4), torch.full((count,), 2.0))
    accuracy = [torch.full((count,), value) for value in (a, b, a + b)]
    halfway = FLOW.observe(start, estimate, accuracy[0], generator=generator)
    twice = FLOW.observe(halfway, estimate, accuracy[1], generator=generator)
    once = FLOW.observe(start, estimate, accuracy[2], generator=generator)
    assert stats.ks_2samp(twice.mean[:, 0].numpy(), once.mean[:, 0].numpy()).pvalue > 1e-5
    # The update distribution: N((rho mu + alpha x) / rho', alpha / rho'^2).
    law = stats.norm((2 * -0.4 + (a + b) * x) / (2 + a + b), math.sqrt(a + b) / (2 + a + b))
    assert stats.kstest(twice.mean[:, 0].double().numpy(), law.cdf).pvalue > 1e-5
    torch.testing.assert_close(twice.precision, once.precision)


def test_sender_law(generator):
    y = FLOW.sender(torch.full((20000, 1), 0.3), torch.full((20000,), 4.0), generator=generator)
    assert stats.kstest(y[:, 0].double().numpy(), stats.norm(0.3, 0.5).cdf).pvalue > 1e-5


@pytest.mark.parametrize("flow", [FLOW, CENTRED])
def test_observe_is_update_of_sender(flow, generator):
    estimate = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    state = GaussianState(torch.zeros(2, 4, 3, dtype=torch.float64), tensor(1.0, 5.0))
    accuracy = tensor(0.3, 40.0)
    same = [torch.Generator().manual_seed(1) for _ in range(2)]
    arguments = {"mask": MASK, "temperature": 0.7}
    y = flow.sender(estimate, accuracy, generator=same[0], **arguments)
    expected = flow.update(state, y, accuracy)
    actual = flow.observe(state, estimate, accuracy, generator=same[1], **arguments)
    torch.testing.assert_close(actual.mean, expected.mean)
    torch.testing.assert_close(actual.precision, expected.precision)


def test_accuracy_zero_changes_nothing(generator):
    state = GaussianState(torch.randn(2, 3, generator=generator), torch.tensor([1.0, 7.0]))
    new = FLOW.observe(state, torch.ones(2, 3), torch.zeros(2), generator=generator)
    assert torch.equal(new.mean, state.mean)
    assert torch.equal(new.precision, state.precision)


@pytest.mark.parametrize("t", [0.0, 0.1, 0.6, 1.0])
def test_flow_distribution_law(t, generator):
    # N(gamma x, gamma (1 - gamma)), eq. 77.
    data, times = torch.full((20000, 1), -0.8, dtype=torch.float64), torch.full((20000,), t)
    mean = FLOW.sample(data, times.double(), generator=generator).mean[:, 0]
    gamma = 1 - 0.02 ** (2 * t)
    if t == 0.0:
        assert not mean.any()
    else:
        law = stats.norm(-0.8 * gamma, math.sqrt(gamma * (1 - gamma)))
        assert stats.kstest(mean.numpy(), law.cdf).pvalue > 1e-5


def test_temperature_scales_the_variance():
    estimate, accuracy = torch.full((1, 50), 0.4, dtype=torch.float64), tensor(2.0)
    state = FLOW.prior(estimate.shape, dtype=torch.float64)

    def run(operation, temperature):
        generator = torch.Generator().manual_seed(2)
        return operation(temperature=temperature, generator=generator)

    def sender(**kwargs):
        return FLOW.sender(estimate, accuracy, **kwargs)

    def observe(**kwargs):
        return FLOW.observe(state, estimate, accuracy, **kwargs).mean

    for operation in (sender, observe):
        cold, mild, hot = (run(operation, value) for value in (0.0, 1.0, 4.0))
        torch.testing.assert_close(hot - cold, 2 * (mild - cold))
    torch.testing.assert_close(run(sender, 0.0), estimate)


def test_centred_noise_stays_in_the_subspace(assert_mean, generator):
    data = torch.randn(1, 4, 3, generator=generator).expand(8000, 4, 3)
    mask = torch.tensor([[1, 1, 1, 0]]).bool().expand(8000, 4)
    t = torch.full((8000,), 0.3)
    state = CENTRED.sample(data, t, mask=mask, generator=generator)
    y = CENTRED.sender(data, torch.full((8000,), 4.0), mask=mask, generator=generator)
    projected = data[:1, :3] - data[:1, :3].mean(1, keepdim=True)
    gamma = float(CENTRED.schedule.gamma(t)[0])
    for draws, centre, variance in (
        (state.mean, gamma * projected, gamma * (1 - gamma)),
        (y, projected, 0.25),
    ):
        assert not draws[:, 3].any()
        assert float(draws.sum(1).abs().max()) < 1e-5
        # 3 (N - 1) = 6 dimensions of the given variance.
        assert_mean((draws[:, :3] - centre).square().sum((1, 2)), 6 * variance)
    updated = CENTRED.update(state, y, torch.full((8000,), 4.0))
    assert float(updated.mean.sum(1).abs().max()) < 1e-5
    assert not updated.mean[:, 3].any()


def test_padding_is_exactly_zero_and_ignored(generator):
    data = torch.randn(2, 4, 3, generator=generator)
    dirty = torch.where(MASK[..., None], data, torch.full_like(data, math.nan))
    for flow in (FLOW, CENTRED):
        clean_state, dirty_state = (
            flow.sample(x, torch.tensor([0.2, 1.0]), mask=MASK, generator=g)
            for x, g in zip(
                (data, dirty), (torch.Generator().manual_seed(1) for _ in range(2)), strict=True
            )
        )
        assert torch.equal(clean_state.mean, dirty_state.mean)
        assert not clean_state.mean[~MASK].any()
        assert not flow.inputs(clean_state, torch.tensor([0.2, 1.0]))[~MASK].any()


def test_per_sample_generators_make_samples_independent_of_their_batch(generator):
    data = torch.randn(3, 4, 3, generator=generator)
    t = torch.tensor([0.1, 0.5, 0.9])

    def run(rows):
        own = [torch.Generator().manual_seed(100 + row) for row in rows]
        return FLOW.sample(data[rows], t[rows], generator=own).mean

    assert torch.equal(run([0, 1, 2])[1], run([1])[0])


@pytest.mark.parametrize("t", [0.0, 1e-8, 0.5, 1.0])
def test_float32_is_finite_for_the_smallest_sigma(t, generator):
    flow = ContinuousFlow(sigma_1=1e-3)
    state = flow.sample(torch.ones(4, 3), torch.full((4,), t), generator=generator)
    assert state.mean.dtype == torch.float32
    assert bool(state.mean.isfinite().all())
    assert bool(flow.inputs(state, torch.full((4,), t)).isfinite().all())
    exact = 10 ** (6 * t)
    assert float(state.precision[0]) == pytest.approx(exact, rel=1e-4)


def test_half_precision_data_become_float32(generator):
    data = torch.ones(2, 3, dtype=torch.bfloat16)
    assert FLOW.sample(data, torch.rand(2), generator=generator).mean.dtype == torch.float32


@pytest.mark.parametrize(
    "parameterisation", [DataPrediction(), NoisePrediction(), PreconditionedPrediction()]
)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_inputs_and_outputs_have_the_precision_of_the_state(kind, parameterisation):
    """Whatever the times have: a float32 network could not take the inputs otherwise."""
    bins = DiscretisedFlow(bins=4, sigma_1=0.1, parameterisation=parameterisation)
    points = ContinuousFlow(sigma_1=0.1, parameterisation=parameterisation)
    state = GaussianState(torch.tensor([[0.1, 0.2]], dtype=kind), torch.ones(1, dtype=kind))
    raw = torch.tensor([[[0.3, 0.1], [0.2, -0.4]]], dtype=kind)
    found = []
    for t in (torch.tensor([0.25]), torch.tensor([0.25], dtype=torch.float64)):
        shown, binned = points.inputs(state, t), bins.output(raw, state, t)
        found.append([shown, points.output(raw[..., 0], state, t).mean, binned.log_probs])
    for single, double in zip(*found, strict=True):
        assert double.dtype == kind
        assert torch.equal(single, double)
