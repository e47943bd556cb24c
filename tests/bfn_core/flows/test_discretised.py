"""Binned data: geometry, output distribution, losses by quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Normal

from bfn_core.flows import CategoricalOutput, DiscretisedFlow, GaussianState, JointFlow
from bfn_core.flows.discretised import BinnedOutput
from bfn_core.flows.probabilities import bin_log_probs
from bfn_core.parameterisation import DataPrediction, NoisePrediction, PreconditionedPrediction
from bfn_core.sampling import ode_solver, sample
from bfn_core.times import uniform_grid

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def output_of(probs):
    return CategoricalOutput(torch.tensor(probs, dtype=torch.float64).log()[None, None])


def log_ratio(centres, x, probs, accuracy):
    """ln p_S - ln p_R at the nodes."""
    y = x + NODES / math.sqrt(accuracy)
    receiver = sum(
        p * stats.norm(c, accuracy**-0.5).pdf(y) for p, c in zip(probs, centres, strict=True)
    )
    return stats.norm(x, accuracy**-0.5).logpdf(y) - np.log(receiver)


def exact_step_kl(centres, x, probs, accuracy):
    """KL(N(x, 1/alpha) || sum_k p_k N(k_c, 1/alpha)) by Gauss-Hermite quadrature."""
    return float((WEIGHTS * log_ratio(centres, x, probs, accuracy)).sum())


@pytest.mark.parametrize("bins", [2, 9, 256])
def test_bin_centres(bins):
    flow = DiscretisedFlow(bins=bins, sigma_1=0.1)
    centres = flow.centres(torch.zeros(1, dtype=torch.float64))
    # k_c = (2k - 1)/K - 1 for k = 1..K, section 5.
    expected = torch.tensor([(2 * k - 1) / bins - 1 for k in range(1, bins + 1)]).double()
    torch.testing.assert_close(centres, expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(flow.embed(torch.arange(bins)), centres.float())


@pytest.mark.usefixtures("float64_default")
@pytest.mark.parametrize("t", [0.02, 0.5, 1.0])
def test_output_of_noise_prediction_as_in_the_paper(t):
    # mu_x = mu/gamma - sqrt((1-gamma)/gamma) mu_eps, sigma_x = sqrt((1-gamma)/gamma) e^(ln s_eps).
    flow = DiscretisedFlow(bins=9, sigma_1=0.15, parameterisation=NoisePrediction())
    mean, raw_mean, raw_log_std = 0.3, -0.4, -0.7
    gamma = 1 - 0.15 ** (2 * t)
    ratio = math.sqrt((1 - gamma) / gamma)
    law = stats.norm(mean / gamma - ratio * raw_mean, ratio * math.exp(raw_log_std))
    cdf = law.cdf(np.linspace(-1, 1, 10))
    cdf[0], cdf[-1] = 0, 1
    state = GaussianState(torch.tensor([[mean]]), torch.ones(1))
    output = flow.output(torch.tensor([[[raw_mean, raw_log_std]]]), state, torch.tensor([t]))
    np.testing.assert_allclose(output.log_probs.exp()[0, 0].numpy(), np.diff(cdf), atol=1e-8)


@pytest.mark.usefixtures("float64_default")
@pytest.mark.parametrize(
    ("t", "raw_log_std", "std"),
    [
        (1.0, -0.5, 1e-3),  # sigma_1 e^-0.5 is below the lower limit
        (1.0, 0.5, None),
        (0.8, -9.0, 1e-3),
        (0.5, 0.0, None),
        (1e-4, 0.0, 10.0),  # e^(ln s) sqrt((1 - gamma) / gamma) is about 27 here
    ],
)
def test_limits_of_the_standard_deviation(t, raw_log_std, std):
    """Against CDF differences of scipy, at the accuracy of the paper's 256 bins."""
    flow = DiscretisedFlow(
        bins=256, sigma_1=1e-3, parameterisation=NoisePrediction(t_min=1e-6), std_limits=(1e-3, 10)
    )
    gamma = -math.expm1(2 * t * math.log(1e-3))
    ratio = math.sqrt((1 - gamma) / gamma)
    x = 0.5 - 3.5 / 256  # near the upper edge of a bin, so that the spread tells
    cdf = stats.norm.cdf(np.linspace(-1, 1, 257), x, std or ratio * math.exp(raw_log_std))
    cdf[0], cdf[-1] = 0, 1
    state = GaussianState(torch.tensor([[gamma * x]]), torch.ones(1))
    raw = torch.tensor([[[0.0, raw_log_std]]])
    output = flow.output(raw, state, torch.tensor([t]))
    np.testing.assert_allclose(output.log_probs.exp()[0, 0].numpy(), np.diff(cdf), atol=1e-10)
    flow.std_limits = None
    free = flow.output(raw, state, torch.tensor([t])).log_probs.exp()[0, 0].numpy()
    assert (np.abs(free - np.diff(cdf)).max() < 1e-10) == (std is None)


def test_limits_must_rise():
    for limits in ((0.0, 1.0), (1.0, 1.0), (10.0, 1e-3)):
        with pytest.raises(ValueError, match="std_limits must be positive and rise"):
            DiscretisedFlow(bins=4, sigma_1=0.1, std_limits=limits)


@pytest.mark.usefixtures("float64_default")
def test_output_of_noise_prediction_at_time_zero_is_the_prior():
    flow = DiscretisedFlow(bins=4, sigma_1=0.15, parameterisation=NoisePrediction())
    state = flow.prior((1, 1))
    output = flow.output(torch.tensor([[[3.0, -9.0]]]), state, torch.zeros(1))
    cdf = stats.norm.cdf([-0.5, 0.0, 0.5])
    expected = np.diff(np.concatenate([[0], cdf, [1]]))
    np.testing.assert_allclose(output.log_probs.exp()[0, 0].numpy(), expected, atol=1e-8)


def test_receiver_is_the_mixture(generator):
    flow = DiscretisedFlow(bins=5, sigma_1=0.1)
    log_probs = torch.log_softmax(torch.randn(2, 3, 5, generator=generator), -1)
    accuracy = torch.tensor([0.5, 40.0])
    y = torch.randn(2, 3, generator=generator)
    actual = flow.receiver(CategoricalOutput(log_probs), accuracy).log_prob(y)
    assert actual.shape == (2, 3)
    centres = flow.centres(log_probs)
    spread = accuracy.rsqrt()[:, None, None]
    expected = (
        (log_probs.exp() * Normal(centres, spread).log_prob(y[..., None]).exp()).sum(-1).log()
    )
    torch.testing.assert_close(actual, expected)


def test_expectation_draw_decoding_and_mode(assert_frequencies, generator):
    flow = DiscretisedFlow(bins=4, sigma_1=0.1)
    probs = torch.tensor([0.1, 0.2, 0.6, 0.1])
    output = CategoricalOutput(probs.log().expand(20000, 4))
    centres = torch.tensor([-0.75, -0.25, 0.25, 0.75])
    torch.testing.assert_close(flow.expectation(output)[0], (probs * centres).sum())
    draws = flow.draw(output, generator=generator)
    counts = torch.stack([((draws - c).abs() < 1e-6).sum() for c in centres])
    assert int(counts.sum()) == 20000
    assert_frequencies(counts, probs)
    assert flow.mode(output)[0] == 2
    assert flow.decode(output)[0] == 2
    split = CategoricalOutput(torch.tensor([[0.5, 0.0, 0.0, 0.5]]).clamp_min(1e-9).log())
    assert flow.decode(split)[0] in (1, 2)  # between two ends, where nothing is


@pytest.mark.parametrize(("mean", "std"), [(0.3, 0.4), (-0.9, 0.7), (0.1, 1e-4)])
def test_draws_have_the_probabilities_of_the_bins(mean, std, assert_frequencies, generator):
    flow = DiscretisedFlow(bins=5, sigma_1=0.1, parameterisation=DataPrediction())
    raw = torch.tensor([mean, math.log(std)]).expand(1, 20000, 2)
    output = flow.output(raw, flow.prior((1, 20000)), torch.ones(1))
    draws = flow.draw(output, generator=generator)
    cdf = stats.norm.cdf(np.linspace(-1, 1, 6), mean, std)
    cdf[0], cdf[-1] = 0, 1
    counts = torch.stack([((draws - c).abs() < 1e-6).sum() for c in flow.centres(draws)])
    assert int(counts.sum()) == 20000
    likely = torch.from_numpy(np.diff(cdf)) > 1e-9
    assert not counts[~likely].any()
    if likely.sum() > 1:
        assert_frequencies(counts[likely], torch.from_numpy(np.diff(cdf))[likely])


@pytest.mark.usefixtures("float64_default")
@pytest.mark.parametrize(("start", "end"), [(0.0, 0.3), (0.6, 0.65), (0.8, 1.0)])
def test_step_loss_by_quadrature(start, end, assert_mean, generator):
    flow = DiscretisedFlow(bins=5, sigma_1=0.15)
    probs = [0.05, 0.1, 0.5, 0.2, 0.15]
    t, t_next = torch.full((20000,), start), torch.full((20000,), end)
    accuracy = float(flow.schedule.increment(t, t_next)[0])
    data = torch.full((20000, 1), 3)
    output = CategoricalOutput(output_of(probs).log_probs.expand(20000, 1, 5))
    draws = flow.step_loss(data, output, t, t_next, generator=generator, samples=2)
    exact = exact_step_kl(flow.centres(t).tolist(), 0.4, probs, accuracy)
    assert_mean(draws, exact)


@pytest.mark.usefixtures("float64_default")
@pytest.mark.parametrize("probs", [[0.48, 0.03, 0.01, 0.0, 0.48], [1e-9, 0.0, 0.0, 0.2, 0.8]])
@pytest.mark.parametrize("accuracy", [0.5, 20.0, 150.0])
def test_step_loss_of_probabilities_far_from_a_gaussian(probs, accuracy, assert_mean, generator):
    """Data in a bin with next to nothing, between two others and beside them: no bias."""
    flow = DiscretisedFlow(bins=5, sigma_1=0.05)
    t = torch.zeros(20000)
    t_next = torch.full_like(t, math.log1p(accuracy) / (-2 * math.log(0.05)))
    output = CategoricalOutput(output_of(probs).log_probs.expand(20000, 1, 5))
    centres = flow.centres(t).tolist()
    draws = flow.step_loss(torch.full((20000, 1), 2), output, t, t_next, generator=generator)
    plain = log_ratio(centres, 0.0, probs, accuracy)
    assert_mean(draws, float((WEIGHTS * plain).sum()))
    spread = math.sqrt(float((WEIGHTS * plain**2).sum()) - float((WEIGHTS * plain).sum()) ** 2)
    assert float(draws.std()) < 1.01 * spread


@pytest.mark.usefixtures("float64_default")
@pytest.mark.parametrize(("n", "share"), [(10, 0.2), (100, 0.03), (1000, 0.003)])
def test_small_steps_do_not_drown_in_noise(n, share, generator):
    """The noise of -l falls as 1 / sqrt(n) and the step loss as 1 / n: l's own would win."""
    flow, probs = DiscretisedFlow(bins=5, sigma_1=0.15), [0.05, 0.1, 0.5, 0.2, 0.15]
    t = torch.full((4000,), 0.5)
    output = CategoricalOutput(output_of(probs).log_probs.expand(4000, 1, 5))
    data = torch.full((4000, 1), 3)
    draws = flow.step_loss(data, output, t, t + 1 / n, generator=generator)
    accuracy = float(flow.schedule.increment(t, t + 1 / n)[0])
    plain = log_ratio(flow.centres(t).tolist(), 0.4, probs, accuracy)
    spread = math.sqrt(float((WEIGHTS * plain**2).sum()) - float((WEIGHTS * plain).sum()) ** 2)
    assert float(draws.std()) < share * spread


@pytest.mark.usefixtures("float64_default")
def test_a_gaussian_output_has_a_step_loss_without_noise(generator):
    """KL of N(x, 1/a) and N(m, s^2 + 1/a), in closed form; 400 bins are narrow beside both."""
    flow = DiscretisedFlow(bins=400, sigma_1=0.05)
    mean, std, accuracy = 0.1, 0.08, 300.0
    t = torch.zeros(300)
    t_next = torch.full_like(t, math.log1p(accuracy) / (-2 * math.log(0.05)))
    output = BinnedOutput(torch.full((300, 1), mean), torch.full((300, 1), math.log(std)), 400)
    data = torch.full((300, 1), 215)
    x = (2 * 215 + 1) / 400 - 1
    draws = flow.step_loss(data, output, t, t_next, generator=generator)
    wide = std**2 + (2 / 400) ** 2 / 12 + 1 / accuracy
    exact = 0.5 * (math.log(wide * accuracy) + (1 / accuracy + (x - mean) ** 2) / wide - 1)
    torch.testing.assert_close(draws, torch.full_like(draws, exact), rtol=0, atol=1e-4)


@pytest.mark.usefixtures("float64_default")
def test_gradients_of_small_steps_lose_their_noise_and_stay_unbiased(assert_mean, generator):
    """By logits: the derivative of the KL by quadrature, ``p_k - E w_k``."""
    flow, count = DiscretisedFlow(bins=3, sigma_1=0.15), 4000
    probs = torch.tensor([0.2, 0.5, 0.3])
    t, t_next = torch.full((count,), 0.4), torch.full((count,), 0.41)
    accuracy = float(flow.schedule.increment(t, t_next)[0])
    logits = probs.log().expand(count, 1, 3).clone().requires_grad_()
    data = torch.full((count, 1), 2)
    output = CategoricalOutput(torch.log_softmax(logits, -1))
    loss = flow.step_loss(data, output, t, t_next, generator=generator)
    (slope,) = torch.autograd.grad(loss.sum(), logits)
    y = 2 / 3 + torch.from_numpy(NODES)[:, None] / math.sqrt(accuracy)
    centres = torch.tensor([-2 / 3, 0.0, 2 / 3])
    share = torch.softmax(probs.log() - 0.5 * accuracy * (y - centres) ** 2, -1)
    nodes = torch.from_numpy(WEIGHTS)[:, None]
    mean_share = (nodes * share).sum(0)
    assert_mean(slope[:, 0], probs - mean_share)
    spread = (nodes * (share - mean_share) ** 2).sum(0).sqrt()
    assert bool((slope[:, 0].std(0) < 0.1 * spread).all())


@pytest.mark.usefixtures("float64_default")
def test_n_step_loss_converges_to_the_continuous_one():
    flow = DiscretisedFlow(bins=5, sigma_1=0.15)
    probs = [0.05, 0.1, 0.5, 0.2, 0.15]
    t = torch.tensor([0.3])
    limit = float(flow.continuous_time_loss(torch.tensor([[3]]), output_of(probs), t))
    errors = []
    for n in (30, 300, 3000):
        accuracy = float(flow.schedule.increment(t, t + 1 / n))
        kl = exact_step_kl(flow.centres(t).tolist(), 0.4, probs, accuracy)
        errors.append(abs(n * kl / limit - 1))
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 2e-3


@pytest.mark.usefixtures("float64_default")
def test_continuous_time_loss_of_the_paper():
    flow = DiscretisedFlow(bins=4, sigma_1=0.15)
    probs = [0.1, 0.2, 0.6, 0.1]
    k_hat = sum(p * c for p, c in zip(probs, [-0.75, -0.25, 0.25, 0.75], strict=True))
    expected = -math.log(0.15) * (0.75 - k_hat) ** 2 / 0.15 ** (2 * 0.4)
    actual = flow.continuous_time_loss(torch.tensor([[3]]), output_of(probs), torch.tensor([0.4]))
    assert float(actual) == pytest.approx(expected)


def test_reconstruction_and_dimensions():
    flow = DiscretisedFlow(bins=4, sigma_1=0.15)
    output = CategoricalOutput(torch.tensor([0.1, 0.2, 0.6, 0.1]).log().expand(1, 3, 4))
    data, mask = torch.tensor([[2, 0, 1]]), torch.tensor([[True, True, False]])
    expected = -math.log(0.6) - math.log(0.1)
    assert float(flow.reconstruction_loss(data, output, mask=mask)) == pytest.approx(expected)
    assert flow.dimensions(data, mask=mask).tolist() == [2]


@pytest.mark.parametrize("bins", [2, 9, 256])
@pytest.mark.parametrize(
    "parameterisation", [DataPrediction(), NoisePrediction(), PreconditionedPrediction()]
)
def test_float32_agrees_with_float64(bins, parameterisation):
    flow = DiscretisedFlow(bins=bins, sigma_1=1e-3, parameterisation=parameterisation)
    t = torch.tensor([0.0, 1e-6, 0.1, 0.4])
    data = torch.arange(4)[:, None] % bins
    x = flow.embed(data).double()
    gamma = flow.schedule.gamma(t.double())[:, None]
    mean = gamma * x + 0.5 * torch.sqrt(gamma * (1 - gamma))
    raw = torch.tensor([0.2, -0.5], dtype=torch.float64).expand(4, 1, 2)
    results = []
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            state = GaussianState(mean.to(dtype), torch.ones(4, dtype=dtype))
            output = flow.output(raw.to(dtype), state, t.to(dtype))
            results.append(
                [
                    flow.continuous_time_loss(data, output, t.to(dtype)),
                    flow.reconstruction_loss(data, output),
                    flow.expectation(output)[:, 0],
                ]
            )
        finally:
            torch.set_default_dtype(torch.float32)
    for single, double in zip(*results, strict=True):
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("parameterisation", [NoisePrediction(), PreconditionedPrediction()])
@pytest.mark.parametrize("t", [0.0, 1e-6, 0.5, 0.9, 1.0])
def test_float32_agrees_with_float64_on_the_flows_own_states(t, parameterisation, generator):
    """256 bins at sigma_1 = 1e-3, all the way to t = 1: within 1e-4 nats, element by element."""
    count = 512
    flow = DiscretisedFlow(bins=256, sigma_1=1e-3, parameterisation=parameterisation)
    data = torch.randint(0, 256, (count, 1), generator=generator)
    raw = torch.randn(count, 1, 2, generator=generator) * torch.tensor([1.0, 0.1])
    times = torch.full((count,), t)
    single_state = flow.sample(data, times, generator=generator)
    losses = []
    for dtype in (torch.float32, torch.float64):
        state = GaussianState(single_state.mean.to(dtype), single_state.precision.to(dtype))
        output = flow.output(raw.to(dtype), state, times.to(dtype))
        losses.append(flow.reconstruction_loss(data, output))
    assert losses[0].dtype == torch.float32
    assert bool(losses[1].isfinite().all())
    torch.testing.assert_close(losses[0].double(), losses[1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("bins", [2, 256])
def test_losses_and_gradients_are_finite_at_the_ends(bins, generator):
    flow = DiscretisedFlow(bins=bins, sigma_1=1e-3)
    t = torch.tensor([0.0, 1e-8, 0.5, 1.0]).repeat_interleave(3)
    data = torch.randint(0, bins, (12, 1), generator=generator)
    state = flow.sample(data, t, generator=generator)
    # Right, badly wrong and overconfident networks.
    raw = torch.tensor([[0.0, 0.0], [50.0, -3.0], [-2e3, -20.0]]).repeat(4, 1)[:, None]
    raw.requires_grad_()
    output = flow.output(raw, state, t)
    losses = [
        flow.continuous_time_loss(data, output, t),
        flow.step_loss(data, output, t * 0.9, t * 0.9 + 0.1, generator=generator),
        flow.reconstruction_loss(data, output),
    ]
    for loss in losses:
        assert bool(loss.isfinite().all())
        (slope,) = torch.autograd.grad(loss.sum(), raw, retain_graph=True)
        assert bool(slope.isfinite().all())


def test_losses_are_float32_under_autocast(generator):
    flow, network = DiscretisedFlow(bins=9, sigma_1=0.15), torch.nn.Linear(1, 2)
    data, t = torch.arange(4)[:, None], torch.tensor([0.0, 0.3, 0.9, 1.0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        state = flow.sample(data, t, generator=generator)
        raw = network(flow.inputs(state, t)[..., None])
        assert raw.dtype == torch.bfloat16
        output = flow.output(raw, state, t)
        assert output.log_probs.dtype == torch.float32
        assert flow.continuous_time_loss(data, output, t).dtype == torch.float32
        assert flow.reconstruction_loss(data, output).dtype == torch.float32


def test_padding_does_not_count(generator):
    flow = DiscretisedFlow(bins=4, sigma_1=0.15)
    data, mask = torch.tensor([[2, 0, 1]]), torch.tensor([[True, True, False]])
    t = torch.tensor([0.4])
    state = flow.sample(data, t, mask=mask, generator=generator)
    assert float(state.mean[0, 2]) == 0.0
    raw = torch.zeros(1, 3, 2)
    dirty = raw.clone()
    dirty[0, 2] = math.nan
    for name in ("continuous_time_loss", "reconstruction_loss"):
        times = (t,) if name.startswith("cont") else ()
        clean_loss, dirty_loss = (
            getattr(flow, name)(data, flow.output(x, state, t), *times, mask=mask)
            for x in (raw, dirty)
        )
        assert torch.equal(clean_loss, dirty_loss)


def test_bad_arguments():
    with pytest.raises(ValueError, match="bins"):
        DiscretisedFlow(bins=1, sigma_1=0.1)
    with pytest.raises(ValueError, match="sigma_1"):
        DiscretisedFlow(bins=4, sigma_1=1.0)
    flow = DiscretisedFlow(bins=4, sigma_1=0.1)
    for shape in ((1, 2, 3), (1, 1, 2)):
        with pytest.raises(ValueError, match=r"\(1, ., .\) where \(1, 2, 2\) is expected"):
            flow.output(torch.zeros(shape), flow.prior((1, 2)), torch.zeros(1))


def test_probabilities_made_without_gradients_do_not_hide_them():
    flow = DiscretisedFlow(bins=4, sigma_1=0.1)
    raw = torch.zeros(1, 3, 2, requires_grad=True)
    t = torch.tensor([0.5])
    output = flow.output(raw, flow.prior((1, 3)), t)
    with torch.no_grad():
        seen = output.log_probs
    assert torch.equal(output.log_probs, seen)
    output.log_probs[..., 0].sum().backward()
    assert raw.grad is not None
    assert raw.grad.abs().max() > 0
    assert output.log_probs is output.log_probs


def test_a_sample_is_the_bin_nearest_to_the_expectation():
    """The loss says nothing of the spread; with a wide one the outer bins hold the most."""
    flow = DiscretisedFlow(bins=9, sigma_1=0.1)
    wide = BinnedOutput(torch.tensor([[1.3, 0.4, -3.0]]), torch.tensor([[1.0, 0.5, 0.0]]), 9)
    assert flow.mode(wide).tolist() == [[8, 8, 0]]
    expected = wide.log_probs.exp() @ ((2 * torch.arange(9) + 1) / 9 - 1)
    nearest = (((2 * torch.arange(9) + 1) / 9 - 1) - expected[..., None]).abs().argmin(-1)
    assert flow.decode(wide).tolist() == nearest.tolist()
    assert 4 <= int(flow.decode(wide)[0, 0]) < 8
    sure = BinnedOutput(torch.tensor([[0.0, 0.9]]), torch.tensor([[-4.0, -4.0]]), 9)
    assert torch.equal(flow.decode(sure), flow.mode(sure))
    assert flow.decode(sure).dtype == torch.int64


def test_a_network_with_a_wide_output_is_sampled_right():
    """Its expectation is exact and its spread is wide, which the loss allows."""
    flows = JointFlow(x=DiscretisedFlow(bins=9, sigma_1=0.05))
    truth = torch.tensor([[1, 6, 7, 4]])
    means = torch.linspace(-40, 40, 20001, dtype=torch.float64)
    log_std = torch.full_like(means, 0.5)
    reached = flows["x"].expectation(BinnedOutput(means, log_std, 9))
    wanted = (2 * truth + 1) / 9 - 1
    place = (reached[None, None] - wanted[..., None]).abs().argmin(-1)

    def predict(states, times):
        return {"x": BinnedOutput(means[place], log_std[place], 9)}

    made = sample(flows, predict, {"x": (1, 4)}, grid=uniform_grid(3), sampler=ode_solver())
    assert made["x"].tolist() == truth.tolist()


def test_many_steps_in_float32_add_little_error():
    """n times what the probabilities lack to 1 would be twice as much."""
    flow, n = DiscretisedFlow(bins=16, sigma_1=0.05), 10_000
    t = torch.full((2000,), 0.3, dtype=torch.float64)
    mean, log_std = torch.tensor(0.1, dtype=torch.float64), torch.tensor(-1.5, dtype=torch.float64)
    found = []
    for dtype in (torch.float32, torch.float64):
        log_probs = bin_log_probs(mean.to(dtype), log_std.to(dtype), 16).expand(2000, 1, 16)
        loss = flow.discrete_time_loss(
            torch.full((2000, 1), 9),
            CategoricalOutput(log_probs),
            t,
            n_steps=n,
            generator=torch.Generator().manual_seed(0),
        )
        found.append(float(loss.mean()))
    assert found[0] == pytest.approx(found[1], rel=4e-3)


def test_evidence_on_padding_moves_nothing():
    flow = DiscretisedFlow(bins=4, sigma_1=0.1)
    output = CategoricalOutput(torch.tensor([0.4, 0.3, 0.2, 0.1]).log().expand(1, 2, 4))
    score, mask = torch.full((1, 2), 0.3), torch.tensor([[True, False]])
    moved = flow.given_evidence(output, score, torch.tensor([0.1]), mask=mask)
    torch.testing.assert_close(moved.log_probs[0, 1], output.log_probs[0, 1])
    assert float((moved.log_probs - output.log_probs)[0, 0].abs().max()) > 0.1
