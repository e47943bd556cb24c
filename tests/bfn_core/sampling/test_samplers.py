"""Samplers with the exact posterior in place of a network, against laws known in closed form."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy import stats

from bfn_core.flows import (
    CategoricalOutput,
    ContinuousFlow,
    DiscreteFlow,
    DiscretisedFlow,
    GaussianState,
    JointFlow,
    PointOutput,
)
from bfn_core.sampling import (
    bayesian_sampler,
    renoise_sampler,
    sample_steps,
    window_sampler,
)
from bfn_core.times import power_grid, uniform_grid

SIGMA_1 = 0.05
CONTINUOUS = JointFlow(x=ContinuousFlow(sigma_1=SIGMA_1))
PROBS = torch.tensor([0.5, 0.2, 0.3])


def run(flows, predict, sampler, *, count=5000, steps=20, shape=(1,), seed=0, grid=None):
    """Return the last step of a run on ``count`` samples, in float64."""
    *_, last = sample_steps(
        flows,
        predict,
        {"x": (count, *shape)},
        grid=uniform_grid(steps) if grid is None else grid,
        sampler=sampler,
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.float64,
    )
    return last


def gaussian_factor(beta, spread):
    """x_hat = factor * mu for N(0, spread^2) data, see test_likelihood."""
    return (1 + beta) * spread**2 / (1 + beta * spread**2)


def gaussian_network(spread, offset=0.0):
    def predict(states, times):
        beta = CONTINUOUS["x"].schedule.beta(times["x"])[:, None]
        mean = states["x"].mean
        gamma = beta / (1 + beta)
        return {"x": PointOutput(offset + gaussian_factor(beta, spread) * (mean - gamma * offset))}

    return predict


def betas(steps):
    return [SIGMA_1 ** (-2 * i / steps) - 1 for i in range(steps + 1)]


def bayesian_variance(steps, spread, temperature=1.0):
    """Variance of the sample: mu' = (rho mu + alpha x_hat + sqrt(T alpha) eps) / rho'."""
    b, variance = betas(steps), 0.0
    for before, after in itertools.pairwise(b):
        alpha = after - before
        gain = (1 + before + alpha * gaussian_factor(before, spread)) / (1 + after)
        variance = gain**2 * variance + temperature * alpha / (1 + after) ** 2
    return gaussian_factor(b[-1], spread) ** 2 * variance


def renoise_variance(steps, spread, temperature=1.0):
    """v' = c^2 v + T sigma'^2 for z = mu / gamma; the estimate is c z, its variance c^2 v."""
    estimate = 0.0  # at t = 0 the estimate is the mean of the data
    for beta in betas(steps)[1:]:
        noise = 1 / beta
        c = spread**2 / (spread**2 + noise)
        estimate = c**2 * (estimate + temperature * noise)
    return estimate


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("steps", [1, 5, 40])
def test_bayesian_updates_of_a_gaussian(steps, temperature, assert_variance, assert_mean):
    spread, offset = 0.7, 0.4
    last = run(
        CONTINUOUS,
        gaussian_network(spread, offset),
        bayesian_sampler(temperature=temperature),
        steps=steps,
    )
    x = last.outputs["x"].mean
    assert_mean(x, offset)
    assert_variance(x, bayesian_variance(steps, spread, temperature))


def test_bayesian_updates_converge_to_the_true_variance(assert_variance):
    spread = 0.7
    # What the sample lacks is the posterior's variance at t = 1, as the output is a point.
    limit = spread**2 - spread**2 / (1 + betas(1)[1] * spread**2)
    gaps = [abs(bayesian_variance(n, spread) / limit - 1) for n in (20, 200, 2000)]
    assert gaps[0] > 5 * gaps[1] > 25 * gaps[2]
    assert gaps[2] < 0.01
    last = run(CONTINUOUS, gaussian_network(spread), bayesian_sampler(), steps=400, count=3000)
    assert_variance(last.outputs["x"].mean, limit)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("steps", [1, 5, 40])
def test_renoising_a_gaussian_follows_its_own_recursion(steps, temperature, assert_variance):
    spread = 0.7
    last = run(
        CONTINUOUS, gaussian_network(spread), renoise_sampler(temperature=temperature), steps=steps
    )
    assert_variance(last.outputs["x"].mean, renoise_variance(steps, spread, temperature))


def test_renoising_does_not_converge_to_the_true_variance():
    # The fixed point of a' = c^2 (a + T sigma^2) is T s^4 / (2 s^2 + sigma^2).
    spread, noise = 0.7, 1 / betas(1)[1]
    limit = spread**4 / (2 * spread**2 + noise)
    assert renoise_variance(20000, spread) == pytest.approx(limit, rel=1e-3)
    assert limit < 0.51 * spread**2
    assert renoise_variance(20000, spread, 2.0) == pytest.approx(2 * limit, rel=1e-3)


@pytest.mark.parametrize(
    "sampler", [bayesian_sampler(), renoise_sampler(), window_sampler(4)], ids=str
)
def test_one_point(sampler):
    # All samplers are exact here: the state has the law of the flow and the sample is the point.
    def predict(states, times):
        return {"x": PointOutput(torch.full_like(states["x"].mean, 0.6))}

    last = run(CONTINUOUS, predict, sampler, steps=9)
    assert bool((last.outputs["x"].mean == 0.6).all())
    gamma = 1 - SIGMA_1**2
    law = stats.norm(0.6 * gamma, math.sqrt(gamma * (1 - gamma)))
    state = last.states["x"].mean[:, 0].numpy()
    assert stats.kstest(state, law.cdf).pvalue > 1e-5
    assert float(last.states["x"].precision[0]) == pytest.approx(SIGMA_1**-2)


def test_two_points(assert_mean):
    # x = +-0.8 with weights 0.3, 0.7: the posterior's log-odds given mu are 2 x mu rho + prior's.
    size, share = 0.8, 0.3

    def predict(states, times):
        rho = 1 + CONTINUOUS["x"].schedule.beta(times["x"])[:, None]
        odds = 2 * size * states["x"].mean * rho + math.log(share / (1 - share))
        return {"x": PointOutput(size * torch.tanh(odds / 2))}

    last = run(CONTINUOUS, predict, bayesian_sampler(), steps=400, count=4000)
    x = last.outputs["x"].mean[:, 0]
    near = (x.abs() - size).abs() < 0.05
    assert float(near.double().mean()) > 0.995
    assert_mean((x > 0).double(), share)


def categorical_network(states, times):
    return {"x": CategoricalOutput(torch.log_softmax(states["x"].logits + PROBS.log(), -1))}


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_bayesian_updates_of_categories_are_exact_at_any_number_of_steps(
    steps, assert_frequencies, assert_mean
):
    flows = JointFlow(x=DiscreteFlow(classes=3, beta_1=8.0))
    last = run(flows, categorical_network, bayesian_sampler(), steps=steps)
    # beta_1 K = 24: the mode is the class that was sent, up to a chance of 1e-5.
    counts = torch.bincount(flows["x"].mode(last.outputs["x"]).flatten(), minlength=3)
    assert_frequencies(counts, PROBS)
    # At a small beta_1 the outputs are not sure, but right on average.
    flows = JointFlow(x=DiscreteFlow(classes=3, beta_1=0.5))
    last = run(flows, categorical_network, bayesian_sampler(), steps=steps)
    assert_mean(last.outputs["x"].log_probs.exp()[:, 0], PROBS.double())


def test_categorical_states_follow_the_flow():
    flows = JointFlow(x=DiscreteFlow(classes=3, beta_1=1.5))
    last = run(flows, categorical_network, bayesian_sampler(), steps=4)
    data = torch.multinomial(PROBS.expand(5000, 3), 1, generator=torch.Generator().manual_seed(1))
    truth = flows["x"].sample(data, torch.ones(5000), generator=torch.Generator().manual_seed(2))
    for k in range(3):
        own, true = (s.logits[:, 0, k].numpy() for s in (last.states["x"], truth))
        assert stats.ks_2samp(own, true).pvalue > 1e-5


@pytest.mark.parametrize(
    "sampler", [renoise_sampler(), renoise_sampler(draw=True), window_sampler(3)], ids=str
)
def test_equal_classes_stay_equal(sampler, assert_frequencies):
    flows = JointFlow(x=DiscreteFlow(classes=4, beta_1=8.0))

    def predict(states, times):
        return {"x": CategoricalOutput(torch.log_softmax(states["x"].logits, -1))}

    last = run(flows, predict, sampler, steps=10)
    counts = torch.bincount(flows["x"].mode(last.outputs["x"]).flatten(), minlength=4)
    assert_frequencies(counts, torch.full((4,), 0.25))


def test_bayesian_updates_of_binned_data(assert_frequencies):
    flow = DiscretisedFlow(bins=3, sigma_1=0.05)
    flows = JointFlow(x=flow)

    def predict(states, times):
        mean, beta = states["x"].mean, flow.schedule.beta(times["x"])[:, None, None]
        centres = flow.centres(mean)
        exponent = (1 + beta) * mean[..., None] * centres - 0.5 * beta * centres.square()
        return {"x": CategoricalOutput(torch.log_softmax(PROBS.log() + exponent, -1))}

    for steps in (1, 7):
        last = run(flows, predict, bayesian_sampler(), steps=steps)
        counts = torch.bincount(flow.mode(last.outputs["x"]).flatten(), minlength=3)
        assert_frequencies(counts, PROBS)


@pytest.mark.parametrize("window", [1, 2, 3, 5, 8])
def test_window_means_without_noise(window):
    # Written from MolJO's rule: for i <= k re-noise from scratch, otherwise
    # mu_i = (rho_{i-k} mu_{i-k} + A x_hat) / rho_i with A = rho_i - rho_{i-k}.
    steps = 6
    estimates = [0.3, -0.2, 0.9, 0.1, -0.7, 0.5, 0.0]
    grid = power_grid(steps, 1.5)
    rho = SIGMA_1 ** (-2 * grid)
    expected = [0.0]
    for i in range(1, steps + 1):
        base = max(i - window, 0)
        gained = (rho[i] - rho[base]) * estimates[i - 1]
        expected.append(float((rho[base] * expected[base] + gained) / rho[i]))

    calls = iter(estimates)

    def predict(states, times):
        return {"x": PointOutput(torch.full_like(states["x"].mean, next(calls)))}

    means = [
        float(step.states["x"].mean)
        for step in sample_steps(
            CONTINUOUS,
            predict,
            {"x": (1, 1)},
            grid=grid,
            sampler=window_sampler(window, temperature=0.0),
            dtype=torch.float64,
        )
    ]
    assert means == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("window", "other"),
    [(1, bayesian_sampler()), (10, renoise_sampler(draw=True)), (99, renoise_sampler(draw=True))],
)
def test_the_window_joins_the_two_samplers(window, other):
    flows = JointFlow(x=DiscreteFlow(classes=3, beta_1=2.0))
    first, second = (
        run(flows, categorical_network, sampler, steps=10, count=50)
        for sampler in (window_sampler(window), other)
    )
    assert torch.equal(first.states["x"].logits, second.states["x"].logits)


def test_history_keeps_no_more_than_it_needs():
    for sampler, length in (
        (bayesian_sampler(), 1),
        (window_sampler(3), 3),
        (renoise_sampler(), 2),
    ):
        times = {"x": torch.zeros(2)}
        history = sampler.init(CONTINUOUS.prior({"x": (2, 1)}), times)
        for index in range(1, 6):
            outputs = {"x": PointOutput(torch.zeros(2, 1))}
            history = sampler.step(CONTINUOUS, history, outputs, {"x": torch.full((2,), index / 5)})
            assert len(history.states) == len(history.times) <= length
            assert history.taken == index
        assert history.current is history.states[-1]


def test_a_run_may_start_from_a_given_state():
    start = {"x": GaussianState(torch.full((1, 1), 0.5), torch.full((1,), 4.0))}
    begin = {"x": torch.full((1,), 0.3)}
    sampler = bayesian_sampler(temperature=0.0)
    history = sampler.init(start, begin)
    end = {"x": torch.full((1,), 0.6)}
    new = sampler.step(CONTINUOUS, history, {"x": PointOutput(torch.ones(1, 1))}, end)
    alpha = SIGMA_1**-1.2 - SIGMA_1**-0.6
    assert float(new.current["x"].mean) == pytest.approx((2 + alpha) / (4 + alpha), rel=1e-5)


def test_renoising_sends_expectations_unless_told_to_draw():
    flows = JointFlow(x=DiscreteFlow(classes=3, beta_1=2.0))
    outputs = {"x": CategoricalOutput(PROBS.log().expand(4000, 1, 3))}
    times = [{"x": torch.full((4000,), t)} for t in (0.0, 0.5)]
    beta = 0.5
    for draw in (False, True):
        sampler = renoise_sampler(draw=draw, temperature=0.0)
        history = sampler.init(flows.prior({"x": (4000, 1)}), times[0])
        generator = torch.Generator().manual_seed(0)
        new = sampler.step(flows, history, outputs, times[1], generator=generator)
        logits = new.current["x"].logits
        if draw:
            assert set(logits.unique().round(decimals=4).tolist()) == {-0.5, 1.0}
        else:
            torch.testing.assert_close(logits[0, 0], beta * (3 * PROBS - 1))


def test_padding_stays_zero_and_samples_are_independent_of_their_batch():
    flows = JointFlow(
        x=ContinuousFlow(sigma_1=SIGMA_1, centred=True), e=DiscreteFlow(classes=3, beta_1=2.0)
    )

    def predict(states, times):
        return {
            "x": PointOutput(0.5 * states["x"].mean),
            "e": CategoricalOutput(torch.log_softmax(states["e"].logits, -1)),
        }

    def final(sizes, seeds, padded):
        mask = torch.arange(padded) < torch.tensor(sizes)[:, None]
        *_, last = sample_steps(
            flows,
            predict,
            {"x": (len(sizes), padded, 3), "e": (len(sizes), padded)},
            grid=uniform_grid(6),
            sampler=bayesian_sampler(),
            mask=mask,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        )
        assert not last.states["x"].mean[~mask].any()
        assert not last.states["e"].logits[~mask].any()
        assert float(last.states["x"].mean.sum(1).abs().max()) < 1e-5
        return last.states

    together, alone = final([4, 7, 5], [1, 2, 3], 9), final([5], [3], 5)
    torch.testing.assert_close(together["x"].mean[2, :5], alone["x"].mean[0])
    torch.testing.assert_close(together["e"].logits[2, :5], alone["e"].logits[0])


def test_bad_arguments():
    with pytest.raises(ValueError, match="window"):
        window_sampler(0)
    for make in (bayesian_sampler, renoise_sampler):
        for temperature in (-1.0, math.nan):
            with pytest.raises(ValueError, match="temperature"):
                make(temperature=temperature)
