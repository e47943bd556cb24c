"""Categorical data: update, flow distribution and losses against independent derivations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.distributions import Independent, Normal

from bfn_core.flows import CategoricalOutput, CategoricalState, DiscreteFlow

SETTINGS = settings(max_examples=60, deadline=None, derandomize=True)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def exact_step_kl(p_other, accuracy):
    """K = 2, x = 0: ln p_S - ln p_R = -ln(p_0 + p_1 e^(y_1 - y_0)), y_1 - y_0 ~ N(-2a, 4a)."""
    gap = -2 * accuracy + 2 * math.sqrt(accuracy) * NODES
    return float(-(WEIGHTS * np.log1p(p_other * np.expm1(gap))).sum())


@SETTINGS
@given(classes=st.integers(2, 12), accuracy=st.floats(0.01, 5), seed=st.integers(0, 2**20))
def test_update_is_bayes_rule(classes, accuracy, seed):
    # theta'_k ~ theta_k N(y; alpha (K e_k - 1), alpha K I)
    generator = torch.Generator().manual_seed(seed)
    flow = DiscreteFlow(classes=classes, beta_1=1.0)
    logits, y = torch.randn(2, 1, classes, generator=generator, dtype=torch.float64)
    means = accuracy * (classes * torch.eye(classes, dtype=torch.float64) - 1)
    likelihood = Normal(means, math.sqrt(accuracy * classes)).log_prob(y).sum(-1)
    expected = torch.softmax(torch.log_softmax(logits, -1) + likelihood, -1)
    state = flow.update(CategoricalState(logits), y, torch.tensor([accuracy]))
    torch.testing.assert_close(torch.softmax(state.logits, -1), expected)


def test_prior_is_uniform():
    flow = DiscreteFlow(classes=5, beta_1=1.0)
    state = flow.prior((2, 3))
    assert state.logits.shape == (2, 3, 5)
    torch.testing.assert_close(torch.softmax(state.logits, -1), torch.full((2, 3, 5), 0.2))
    torch.testing.assert_close(flow.inputs(state, torch.zeros(2)), torch.full((2, 3, 5), -0.6))


def test_sender_law(generator):
    flow, accuracy = DiscreteFlow(classes=3, beta_1=1.0), 0.8
    estimate = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).expand(20000, 3)
    y = flow.sender(estimate, torch.full((20000,), accuracy).double(), generator=generator)
    for k, mean in enumerate([-accuracy, 2 * accuracy, -accuracy]):
        law = stats.norm(mean, math.sqrt(3 * accuracy))
        assert stats.kstest(y[:, k].numpy(), law.cdf).pvalue > 1e-5
    correlation = np.corrcoef(y.numpy().T)
    assert np.abs(correlation - np.eye(3)).max() < 5 / math.sqrt(20000)


def test_accuracies_add_in_law(generator):
    flow, count = DiscreteFlow(classes=4, beta_1=1.0), 20000
    estimate = torch.eye(4, dtype=torch.float64)[2].expand(count, 4)
    a, b = (torch.full((count,), value).double() for value in (0.3, 0.9))
    start = flow.prior((count,), dtype=torch.float64)
    halfway = flow.observe(start, estimate, a, generator=generator)
    twice = flow.observe(halfway, estimate, b, generator=generator).logits
    once = flow.observe(start, estimate, a + b, generator=generator).logits
    for k in range(4):
        assert stats.ks_2samp(twice[:, k].numpy(), once[:, k].numpy()).pvalue > 1e-5
        law = stats.norm(1.2 * (4 * (k == 2) - 1), math.sqrt(1.2 * 4))
        assert stats.kstest(twice[:, k].numpy(), law.cdf).pvalue > 1e-5
    # And in the law of theta itself.
    thetas = [torch.softmax(z, -1)[:, 2].numpy() for z in (twice, once)]
    assert stats.ks_2samp(*thetas).pvalue > 1e-5


def test_flow_distribution_law(generator):
    # z ~ N(beta (K e_x - 1), beta K), beta = beta_1 t^2, eqs. 182 and 185.
    flow = DiscreteFlow(classes=3, beta_1=2.0)
    state = flow.sample(
        torch.zeros(20000, dtype=torch.long), torch.full((20000,), 0.7), generator=generator
    )
    beta = 2.0 * 0.49
    for k in range(3):
        law = stats.norm(beta * (3 * (k == 0) - 1), math.sqrt(3 * beta))
        assert stats.kstest(state.logits[:, k].double().numpy(), law.cdf).pvalue > 1e-5


def test_flow_distribution_at_time_zero_is_the_prior(generator):
    flow = DiscreteFlow(classes=3, beta_1=2.0)
    assert not flow.sample(torch.tensor([1, 2]), torch.zeros(2), generator=generator).logits.any()


def test_temperature_scales_the_variance():
    flow, accuracy = DiscreteFlow(classes=3, beta_1=2.0), torch.tensor([0.7]).double()
    estimate = torch.tensor([[0.2, 0.3, 0.5]]).double()

    def run(temperature):
        generator = torch.Generator().manual_seed(4)
        return flow.sender(estimate, accuracy, temperature=temperature, generator=generator)

    torch.testing.assert_close(run(4.0) - run(0.0), 2 * (run(1.0) - run(0.0)))
    torch.testing.assert_close(run(0.0), 0.7 * (3 * estimate - 1))


def test_receiver_is_the_mixture(generator):
    flow = DiscreteFlow(classes=3, beta_1=1.0)
    log_probs = torch.log_softmax(torch.randn(2, 4, 3, generator=generator), -1)
    accuracy, y = torch.tensor([0.4, 2.0]), torch.randn(2, 4, 3, generator=generator)
    actual = flow.receiver(CategoricalOutput(log_probs), accuracy).log_prob(y)
    assert actual.shape == (2, 4)
    total = torch.zeros(2, 4)
    for k in range(3):
        mean = accuracy[:, None, None] * (3 * torch.eye(3)[k] - 1)
        law = Normal(mean, torch.sqrt(3 * accuracy)[:, None, None].expand(2, 1, 3))
        total = total + log_probs[..., k].exp() * law.log_prob(y).sum(-1).exp()
    torch.testing.assert_close(actual, total.log())


@pytest.mark.usefixtures("float64_default")
@pytest.mark.parametrize("classes", [2, 5, 27])
def test_step_loss_for_given_noise_is_the_log_ratio_and_its_control(classes):
    # The same y through torch.distributions, term by term.
    flow = DiscreteFlow(classes=classes, beta_1=3.0)
    maker = torch.Generator().manual_seed(classes)
    log_probs = torch.log_softmax(torch.randn(3, 4, classes, generator=maker), -1)
    data = torch.randint(0, classes, (3, 4), generator=maker)
    t, end = torch.tensor([0.0, 0.4, 0.9]), torch.tensor([0.1, 0.7, 1.0])
    output = CategoricalOutput(log_probs)
    accuracy = flow.schedule.increment(t, end)
    same = [torch.Generator().manual_seed(8) for _ in range(2)]
    y = flow.sender(flow.embed(data), accuracy, generator=same[0])
    means = accuracy[:, None, None] * (classes * flow.embed(data) - 1)
    spread = torch.sqrt(classes * accuracy)[:, None, None].expand_as(means)
    sender = Independent(Normal(means, spread), 1).log_prob(y)
    receiver = flow.receiver(output, accuracy).log_prob(y)
    s = 2 * classes * accuracy[:, None]
    control = s / torch.expm1(s) * (torch.exp(receiver - sender) - 1)  # its mean is 0
    expected = (sender - receiver + control).sum(1)
    actual = flow.step_loss(data, output, t, end, generator=same[1])
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.usefixtures("float64_default")
@pytest.mark.parametrize("p_other", [0.05, 0.5, 0.9])
def test_step_loss_by_quadrature(p_other, assert_mean, generator):
    flow = DiscreteFlow(classes=2, beta_1=2.0)
    t, end = torch.full((20000,), 0.3), torch.full((20000,), 0.8)
    output = CategoricalOutput(torch.tensor([1 - p_other, p_other]).log().expand(20000, 1, 2))
    data = torch.zeros(20000, 1, dtype=torch.long)
    draws = flow.step_loss(data, output, t, end, generator=generator, samples=2)
    assert_mean(draws, exact_step_kl(p_other, 2.0 * (0.64 - 0.09)))


@pytest.mark.parametrize("alpha", [1e-4, 1e-2, 1.0, 30.0])
def test_the_control_leaves_the_mean_and_takes_noise(alpha, assert_mean, generator):
    flow, p_other = DiscreteFlow(classes=2, beta_1=alpha), 0.3
    count = 40000
    output = CategoricalOutput(torch.tensor([1 - p_other, p_other]).log().expand(count, 1, 2))
    data, t = torch.zeros(count, 1, dtype=torch.long), torch.zeros(count)
    draws = flow.step_loss(data, output, t, t + 1, generator=generator)
    exact = exact_step_kl(p_other, alpha)
    assert_mean(draws.double(), exact)
    gap = 2 * math.sqrt(alpha) * NODES - 2 * alpha
    plain = -np.log1p(p_other * np.expm1(gap))
    noise = math.sqrt(float((WEIGHTS * (plain - exact) ** 2).sum()))
    assert float(draws.std()) < 1.02 * noise
    if alpha < 0.1:
        assert float(draws.std()) < 0.3 * noise


@pytest.mark.usefixtures("float64_default")
def test_n_step_loss_converges_to_the_continuous_one():
    flow, p_other, t = DiscreteFlow(classes=2, beta_1=2.0), 0.3, 0.4
    output = CategoricalOutput(torch.tensor([[[1 - p_other, p_other]]]).log())
    data = torch.zeros(1, 1, dtype=torch.long)
    limit = float(flow.continuous_time_loss(data, output, torch.tensor([t])))
    errors = [
        abs(n * exact_step_kl(p_other, 2.0 * ((t + 1 / n) ** 2 - t**2)) / limit - 1)
        for n in (10, 100, 1000)
    ]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 3e-3


@pytest.mark.usefixtures("float64_default")
def test_continuous_time_loss_of_the_paper():
    # K beta_1 t ||e_x - p||^2, eq. 205.
    flow = DiscreteFlow(classes=3, beta_1=2.0)
    output = CategoricalOutput(torch.tensor([[[0.2, 0.5, 0.3]]]).log())
    expected = 3 * 2.0 * 0.6 * (0.2**2 + 0.5**2 + 0.3**2)
    loss = flow.continuous_time_loss(torch.tensor([[1]]), output, torch.tensor([0.6]))
    assert float(loss) == pytest.approx(expected)


def test_expectation_draw_mode_and_reconstruction(assert_frequencies, generator):
    flow, probs = DiscreteFlow(classes=3, beta_1=2.0), torch.tensor([0.2, 0.5, 0.3])
    output = CategoricalOutput(probs.log().expand(20000, 2, 3))
    torch.testing.assert_close(flow.expectation(output)[0, 0], probs)
    counts = flow.draw(output, generator=generator).sum((0, 1))
    assert_frequencies(counts, probs)
    assert flow.mode(output)[0].tolist() == [1, 1]
    data = torch.tensor([[0, 2]]).expand(20000, 2)
    loss = flow.reconstruction_loss(data, output)
    assert float(loss[0]) == pytest.approx(-math.log(0.2) - math.log(0.3))
    assert flow.dimensions(data)[0] == 2


@pytest.mark.parametrize("classes", [2, 16, 256])
def test_float32_agrees_with_float64(classes):
    flow = DiscreteFlow(classes=classes, beta_1=100 / classes)
    t = torch.tensor([0.0, 1e-6, 0.3, 1.0])
    maker = torch.Generator().manual_seed(0)
    data = torch.randint(0, classes, (4, 6), generator=maker)
    noise = torch.randn(4, 6, classes, generator=maker, dtype=torch.float64)
    beta = flow.schedule.beta(t.double())[:, None, None]
    one_hot = torch.nn.functional.one_hot(data, classes).double()
    logits = beta * (classes * one_hot - 1) + torch.sqrt(classes * beta) * noise
    results = []
    for dtype in (torch.float32, torch.float64):
        state, times = CategoricalState(logits.to(dtype)), t.to(dtype)
        raw = logits.to(dtype).requires_grad_()
        output = flow.output(raw, state, times)
        loss = flow.continuous_time_loss(data, output, times)
        (slope,) = torch.autograd.grad(loss.sum(), raw)
        results.append(
            [flow.inputs(state, times), loss, flow.reconstruction_loss(data, output), slope]
        )
    for single, double in zip(*results, strict=True):
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classes", [2, 256])
def test_losses_and_gradients_are_finite_at_the_ends(classes, generator):
    flow = DiscreteFlow(classes=classes, beta_1=100 / classes)
    t = torch.tensor([0.0, 1e-20, 0.5, 1.0])
    data = torch.randint(0, classes, (4, 5), generator=generator)
    state = flow.sample(data, t, generator=generator)
    assert state.logits.dtype == torch.float32
    for size in (0.0, 1.0, 1e4):
        raw = (size * torch.randn(4, 5, classes, generator=generator)).requires_grad_()
        output = flow.output(raw, state, t)
        for loss in (
            flow.continuous_time_loss(data, output, t),
            flow.step_loss(data, output, t * 0.9, t * 0.9 + 0.1, generator=generator),
            flow.reconstruction_loss(data, output),
        ):
            assert bool(loss.isfinite().all())
            (slope,) = torch.autograd.grad(loss.sum(), raw, retain_graph=True)
            assert bool(slope.isfinite().all())


def test_sure_and_right_costs_nothing(generator):
    flow = DiscreteFlow(classes=4, beta_1=25.0)
    data, t = torch.tensor([[2]]), torch.tensor([0.5])
    output = flow.output(1e4 * flow.embed(data), flow.prior((1, 1)), t)
    assert float(flow.step_loss(data, output, t, torch.ones(1), generator=generator)) == 0.0
    assert float(flow.continuous_time_loss(data, output, t)) == 0.0


def test_losses_are_float32_under_autocast(generator):
    flow, network = DiscreteFlow(classes=4, beta_1=3.0), torch.nn.Linear(4, 4)
    data, t = torch.arange(4)[:, None], torch.tensor([0.0, 0.3, 0.9, 1.0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        state = flow.sample(data, t, generator=generator)
        raw = network(flow.inputs(state, t))
        assert raw.dtype == torch.bfloat16
        output = flow.output(raw, state, t)
        assert output.log_probs.dtype == torch.float32
        starts = (t * 10).floor().clamp_max(9) / 10
        for loss in (
            flow.continuous_time_loss(data, output, t),
            flow.discrete_time_loss(data, output, starts, n_steps=10, generator=generator),
            flow.reconstruction_loss(data, output),
        ):
            assert loss.dtype == torch.float32
            assert bool(loss.isfinite().all())


def test_half_precision_default_does_not_reach_the_state(generator):
    flow = DiscreteFlow(classes=4, beta_1=3.0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        state = flow.sample(torch.tensor([1, 2]), torch.ones(2), generator=generator)
    finally:
        torch.set_default_dtype(torch.float32)
    assert state.logits.dtype == torch.float32


def test_padding_is_zero_and_does_not_count(generator):
    flow = DiscreteFlow(classes=3, beta_1=2.0)
    data, mask = torch.tensor([[1, 2, 0]]), torch.tensor([[True, True, False]])
    t = torch.tensor([0.6])
    state = flow.sample(data, t, mask=mask, generator=generator)
    assert not state.logits[0, 2].any()
    raw = torch.zeros(1, 3, 3)
    dirty = raw.clone()
    dirty[0, 2] = math.nan
    for name in ("continuous_time_loss", "reconstruction_loss"):
        times = (t,) if name.startswith("cont") else ()
        clean_loss, dirty_loss = (
            getattr(flow, name)(data, flow.output(x, state, t), *times, mask=mask)
            for x in (raw, dirty)
        )
        assert torch.equal(clean_loss, dirty_loss)
    assert flow.dimensions(data, mask=mask).tolist() == [2]


def test_residual_output_is_bayes_rule():
    """Two dependent variables: the network returns what the other one says, and no more."""
    generator = torch.Generator().manual_seed(0)
    flow = DiscreteFlow(classes=3, beta_1=1.0, residual=True)
    joint = torch.rand(3, 3, generator=generator, dtype=torch.float64)
    joint = joint / joint.sum()
    z = torch.randn(1, 2, 3, generator=generator, dtype=torch.float64)
    # p(x_1, x_2 | z) ~ p(x_1, x_2) e^(z_1[x_1] + z_2[x_2]), for independent noise.
    posterior = joint * torch.exp(z[0, 0][:, None] + z[0, 1][None])
    posterior = posterior / posterior.sum()
    from_other = torch.stack(
        [torch.log(joint @ torch.exp(z[0, 1])), torch.log(torch.exp(z[0, 0]) @ joint)]
    )
    output = flow.output(from_other[None], CategoricalState(z), torch.ones(1))
    expected = torch.stack([posterior.sum(1), posterior.sum(0)])
    torch.testing.assert_close(output.log_probs.exp()[0], expected)
    plain = DiscreteFlow(classes=3, beta_1=1.0).output(from_other[None], CategoricalState(z), None)
    torch.testing.assert_close(plain.log_probs, torch.log_softmax(from_other[None], -1))


def test_bad_arguments():
    with pytest.raises(ValueError, match="classes"):
        DiscreteFlow(classes=1, beta_1=1.0)
    with pytest.raises(ValueError, match="beta_1"):
        DiscreteFlow(classes=3, beta_1=0.0)
    flow = DiscreteFlow(classes=4, beta_1=1.0)
    for shape in ((1, 1, 3), (1, 1, 4)):  # too few logits; one element that would be all
        with pytest.raises(ValueError, match=r"\(1, 1, .\) where \(1, 2, 4\) is expected"):
            flow.output(torch.zeros(shape), flow.prior((1, 2)), torch.zeros(1))
