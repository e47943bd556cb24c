"""The bound on the likelihood where the likelihood is known.

With the exact posterior as the output distribution, the model's law of what is sent is the true
one, so the bound has no gap: ``L^n(x) + L^r(x) = -ln p(x)`` for each x, in continuous time for all
flows, and for any n where the output distribution can hold the posterior (categories and bins).
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from bfn_core.flows import (
    CategoricalOutput,
    ContinuousFlow,
    DiscreteFlow,
    DiscretisedFlow,
    JointFlow,
    PointOutput,
)
from bfn_core.likelihood import LikelihoodBound, likelihood_bound
from bfn_core.tensors import centre

PROBS = torch.tensor([0.5, 0.2, 0.1, 0.15, 0.05])


def gaussian_network(flows, spread):
    """The posterior mean of N(0, spread^2) data: z / (1 + 1 / (beta spread^2)), z = mu / gamma."""

    def predict(states, times):
        t = times["x"]
        beta = flows["x"].schedule.beta(t)
        factor = (1 + beta) * spread**2 / (1 + beta * spread**2)  # of mu; finite at beta = 0
        mean = states["x"].mean
        return {"x": PointOutput(factor.reshape(-1, *[1] * (mean.dim() - 1)) * mean)}

    return predict


def posterior_spread(sigma_1, spread):
    return spread / math.sqrt(1 + (sigma_1**-2 - 1) * spread**2)


def test_gaussian_bound_is_tight(assert_mean, generator):
    sigma_1, spread, count = 0.05, 0.7, 4000
    flow = ContinuousFlow(sigma_1=sigma_1, reconstruction_sigma=posterior_spread(sigma_1, spread))
    flows = JointFlow(x=flow)
    predict = gaussian_network(flows, spread)
    law = torch.distributions.Normal(0.0, spread)
    for x in ([0.0, 0.0], [0.3, -1.4]):
        data = {"x": torch.tensor(x).expand(count, 2)}
        bound = likelihood_bound(flows, predict, data, repeats=8, generator=generator)
        assert_mean(bound.nats, float(-law.log_prob(torch.tensor(x)).sum()))
        assert bound.dimensions["x"].tolist() == [2] * count


def test_gaussian_bound_of_n_steps_is_larger_and_exact_in_expectation(assert_mean, generator):
    # E L^n = sum_i alpha_i / 2 mse(t_{i-1}), with mse = s^2 / (1 + beta s^2).
    sigma_1, spread, count, n = 0.05, 0.7, 4000, 6
    flow = ContinuousFlow(sigma_1=sigma_1, reconstruction_sigma=posterior_spread(sigma_1, spread))
    flows = JointFlow(x=flow)
    data = {"x": spread * torch.randn(count, 1, generator=generator)}
    bound = likelihood_bound(
        flows, gaussian_network(flows, spread), data, n_steps=n, repeats=12, generator=generator
    )
    betas = [sigma_1 ** (-2 * i / n) - 1 for i in range(n + 1)]
    expected = sum(
        (after - before) / 2 * spread**2 / (1 + before * spread**2)
        for before, after in itertools.pairwise(betas)
    )
    assert_mean(bound.transmission["x"], expected)
    entropy = 0.5 * math.log(2 * math.pi * math.e * spread**2)
    assert float(bound.nats.mean()) > entropy
    reconstruction = 0.5 * math.log(2 * math.pi * math.e) + math.log(flow.reconstruction_sigma)
    assert_mean(bound.reconstruction["x"], reconstruction)


def test_centred_gaussian_bound_is_tight_in_the_subspace(assert_mean, generator):
    sigma_1, spread, count = 0.05, 0.7, 4000
    flow = ContinuousFlow(
        sigma_1=sigma_1, centred=True, reconstruction_sigma=posterior_spread(sigma_1, spread)
    )
    flows = JointFlow(x=flow)
    mask = torch.tensor([[1, 1, 1, 0, 0]]).bool().expand(count, 5)
    x = centre(torch.randn(1, 5, 3, generator=generator), mask[:1])
    bound = likelihood_bound(
        flows,
        gaussian_network(flows, spread),
        {"x": x.expand(count, 5, 3)},
        repeats=8,
        mask=mask,
        generator=generator,
    )
    # -ln of an isotropic Gaussian density in 3 (3 - 1) = 6 dimensions.
    exact = float(x.square().sum()) / (2 * spread**2) + 3 * math.log(2 * math.pi * spread**2)
    assert_mean(bound.nats, exact)
    assert bound.dimensions["x"].unique().tolist() == [6]


def categorical_network(states, times):
    # N(z; beta (K e_k - 1), beta K) is proportional to e^(z_k) as a function of k.
    return {"x": CategoricalOutput(torch.log_softmax(states["x"].logits + PROBS.log(), -1))}


@pytest.mark.parametrize("n_steps", [1, 3, None])
@pytest.mark.parametrize("beta_1", [0.3, 3.0])
def test_categorical_bound_is_the_log_probability(n_steps, beta_1, assert_mean, generator):
    flows = JointFlow(x=DiscreteFlow(classes=5, beta_1=beta_1))
    for k in (0, 4):
        data = {"x": torch.full((6000, 1), k)}
        bound = likelihood_bound(
            flows, categorical_network, data, n_steps=n_steps, repeats=6, generator=generator
        )
        assert_mean(bound.nats, -math.log(float(PROBS[k])))


@pytest.mark.parametrize("n_steps", [2, None])
def test_padding_costs_nothing(n_steps, assert_mean, generator):
    flows = JointFlow(x=DiscreteFlow(classes=5, beta_1=3.0))
    data, mask = torch.tensor([[0, 4, 2]]).expand(6000, 3), torch.tensor([[True, True, False]])
    bound = likelihood_bound(
        flows,
        categorical_network,
        {"x": data},
        n_steps=n_steps,
        repeats=6,
        mask=mask.expand(6000, 3),
        generator=generator,
    )
    assert_mean(bound.nats, -math.log(float(PROBS[0])) - math.log(float(PROBS[4])))
    assert bound.dimensions["x"].unique().tolist() == [2]


def test_more_draws_of_the_observation_mean_less_noise(generator):
    flows = JointFlow(x=DiscreteFlow(classes=5, beta_1=3.0))
    data = {"x": torch.full((2000, 1), 4)}
    few, many = (
        likelihood_bound(
            flows, categorical_network, data, n_steps=1, samples=samples, generator=generator
        ).transmission["x"]
        for samples in (1, 16)
    )
    assert float(many.var()) < 0.2 * float(few.var())
    assert float(many.mean()) == pytest.approx(float(few.mean()), abs=0.1)


def test_nothing_has_no_bound():
    flows = JointFlow(x=DiscreteFlow(classes=5, beta_1=3.0), y=ContinuousFlow(sigma_1=0.1))

    def predict(states, times):
        return {**categorical_network(states, times), "y": PointOutput(states["y"].mean)}

    data = {"x": torch.zeros(0, 3, dtype=torch.int64), "y": torch.zeros(0, 2)}
    bound = likelihood_bound(flows, predict, data)
    assert bound.nats.shape == bound.dimensions["x"].shape == (0,)


def test_categorical_bound_of_data_is_their_entropy(assert_mean, generator):
    flows = JointFlow(x=DiscreteFlow(classes=5, beta_1=4.0))
    data = {"x": torch.multinomial(PROBS.expand(10000, 5), 1, generator=generator)}
    bound = likelihood_bound(flows, categorical_network, data, repeats=6, generator=generator)
    entropy = float(-(PROBS * PROBS.log()).sum())
    assert_mean(bound.nats, entropy)
    assert_mean(bound.bits_per_dimension, entropy / math.log(2))


def test_a_worse_network_has_a_larger_bound(generator):
    flows = JointFlow(x=DiscreteFlow(classes=5, beta_1=4.0))
    data = {"x": torch.multinomial(PROBS.expand(4000, 5), 1, generator=generator)}

    def ignores_the_frequencies(states, times):
        return {"x": CategoricalOutput(torch.log_softmax(states["x"].logits, -1))}

    nats = [
        float(likelihood_bound(flows, network, data, repeats=6, generator=generator).nats.mean())
        for network in (categorical_network, ignores_the_frequencies)
    ]
    assert nats[1] > nats[0] + 0.1
    # It is a bound on the uniform model, which it is exact for.
    assert nats[1] == pytest.approx(math.log(5), abs=0.1)


@pytest.mark.parametrize("n_steps", [1, 4, None])
def test_discretised_bound_is_the_log_probability(n_steps, assert_mean, generator):
    flow = DiscretisedFlow(bins=5, sigma_1=0.3)
    flows = JointFlow(x=flow)

    def predict(states, times):
        # p(k | mu) ~ p_k N(mu; gamma k_c, gamma (1 - gamma)), divided by gamma by hand.
        mean, beta = states["x"].mean, flow.schedule.beta(times["x"])[:, None, None]
        centres = flow.centres(mean)
        exponent = (1 + beta) * mean[..., None] * centres - 0.5 * beta * centres.square()
        return {"x": CategoricalOutput(torch.log_softmax(PROBS.log() + exponent, -1))}

    for k in (0, 3):
        data = {"x": torch.full((6000, 1), k)}
        bound = likelihood_bound(
            flows, predict, data, n_steps=n_steps, repeats=6, generator=generator
        )
        assert_mean(bound.nats, -math.log(float(PROBS[k])))


def test_more_repeats_mean_less_noise(generator):
    flows = JointFlow(x=ContinuousFlow(sigma_1=0.05))
    data = {"x": torch.zeros(2000, 1)}

    def predict(states, times):  # an error that depends on time only
        return {"x": PointOutput(0.05 ** times["x"][:, None])}

    spreads = [
        float(
            likelihood_bound(flows, predict, data, repeats=r, generator=generator)
            .transmission["x"]
            .std()
        )
        for r in (1, 4)
    ]
    # This integrand is constant in t: stratified or not, no noise at all.
    assert max(spreads) < 1e-5

    def rising(states, times):
        return {"x": PointOutput(0.05 ** times["x"][:, None] * times["x"][:, None])}

    one, four = (
        float(
            likelihood_bound(flows, rising, data, repeats=r, generator=generator)
            .transmission["x"]
            .std()
        )
        for r in (1, 4)
    )
    assert four < one / 3  # independent times would give one / 2


def test_repeats_are_of_the_reconstruction_too(assert_mean, generator):
    """Each repeat has a state of its own at t = 1: the variance is divided by their number."""
    sigma_1, spread, count, repeats = 0.05, 0.7, 4000, 16
    left = posterior_spread(sigma_1, spread)
    flows = JointFlow(x=ContinuousFlow(sigma_1=sigma_1, reconstruction_sigma=left))
    predict, data = gaussian_network(flows, spread), {"x": torch.full((count, 1), 0.3)}
    found = likelihood_bound(flows, predict, data, repeats=repeats, generator=generator)
    # The estimate is N(x - x share, left^2 (1 - share)); the loss is its squared error over
    # 2 left^2, and a constant.
    share = left**2 / spread**2
    v, off = left**2 * (1 - share), 0.3 * share
    exact = (v + off**2) / (2 * left**2) + 0.5 * math.log(2 * math.pi * left**2)
    assert_mean(found.reconstruction["x"], exact)
    variance = (2 * v**2 + 4 * v * off**2) / (4 * left**4) / repeats
    # A mean of 16 chi-squared numbers of one degree has kurtosis 3 + 12 / 16.
    tolerance = 5 * math.sqrt((2 + 12 / repeats) / count)
    assert float(found.reconstruction["x"].var()) == pytest.approx(variance, rel=tolerance)


def test_joint_bound_adds_up():
    bound = LikelihoodBound(
        transmission={"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([10.0, 20.0])},
        reconstruction={"a": torch.tensor([0.5, 0.5]), "b": torch.tensor([0.0, 1.0])},
        dimensions={"a": torch.tensor([3.0, 3.0]), "b": torch.tensor([2.0, 1.0])},
    )
    assert bound.nats.tolist() == [11.5, 23.5]
    expected = torch.tensor([11.5 / 5, 23.5 / 4]) / math.log(2)
    torch.testing.assert_close(bound.bits_per_dimension, expected)


def test_same_generator_same_bound():
    flows = JointFlow(x=DiscreteFlow(classes=5, beta_1=3.0))
    data = {"x": torch.tensor([[0, 1], [2, 3]])}
    first, second = (
        likelihood_bound(
            flows,
            categorical_network,
            data,
            n_steps=5,
            generator=torch.Generator().manual_seed(1),
        ).nats
        for _ in range(2)
    )
    assert torch.equal(first, second)
    assert not first.requires_grad


JOINT = torch.tensor([[0.30, 0.05, 0.15], [0.05, 0.25, 0.20]])
PAIR = JointFlow(a=DiscreteFlow(classes=2, beta_1=9.0), b=DiscreteFlow(classes=3, beta_1=9.0))


def test_bound_along_a_grid(assert_mean, generator, pair_network):
    """One after the other loses nothing (the chain rule), together something: p_O is a product."""
    data = {"a": torch.zeros(6000, 1).long(), "b": torch.full((6000, 1), 2)}
    even = torch.linspace(0, 1, 4)
    first = torch.cat([even, torch.ones(3)])
    second = torch.cat([torch.zeros(3), even])
    bounds = {
        name: likelihood_bound(
            PAIR, pair_network(JOINT), data, grid=grid, repeats=6, generator=generator
        )
        for name, grid in {
            "a first": {"a": first, "b": second},
            "b first": {"a": second, "b": first},
            "together": even,
            "as n_steps": {"a": even, "b": even},
            "given a": {"a": torch.ones(4), "b": even},
        }.items()
    }
    known = -math.log(float(JOINT[0, 2]))
    assert_mean(bounds["a first"].nats, known)
    assert_mean(bounds["b first"].nats, known)
    conditional = -math.log(float(JOINT[0, 2] / JOINT[0].sum()))
    given = bounds["given a"]
    assert float(given.transmission["a"].abs().max()) < 1e-5
    assert_mean(given.transmission["b"] + given.reconstruction["b"], conditional)
    plain = likelihood_bound(
        PAIR,
        pair_network(JOINT),
        data,
        n_steps=3,
        repeats=6,
        generator=torch.Generator().manual_seed(5),
    )
    same = likelihood_bound(
        PAIR,
        pair_network(JOINT),
        data,
        grid=even,
        repeats=6,
        generator=torch.Generator().manual_seed(5),
    )
    torch.testing.assert_close(same.nats, plain.nats)


def test_bits_of_data_of_different_sizes():
    bound = LikelihoodBound(
        transmission={"a": torch.tensor([3.0, 0.0, 1.0])},
        reconstruction={"a": torch.zeros(3)},
        dimensions={"a": torch.tensor([3.0, 0.0, 5.0])},
    )
    expected = torch.tensor([1.0, 0.0, 0.2]) / math.log(2)
    torch.testing.assert_close(bound.bits_per_dimension, expected)
    assert float(bound.mean_bits_per_dimension) == pytest.approx(0.5 / math.log(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_steps": 3, "grid": torch.tensor([0.0, 1.0])}, "n_steps or a grid"),
        ({"grid": {"a": torch.ones(2), "b": torch.ones(3)}}, "of one length"),
        ({"grid": torch.tensor([0.0, 0.7, 0.6])}, r"grid of a must rise within \[0, 1\]"),
        ({"grid": torch.tensor([0.0, 0.5])}, r"grid of a must end at 1, got 0\.5"),
        ({"grid": {"a": torch.ones(2)}}, "no time given for b"),
        ({"generator": [torch.Generator()] * 2}, "give one generator"),
    ],
)
def test_bad_grids_and_generators(arguments, message, pair_network):
    data = {"a": torch.zeros(2, 1).long(), "b": torch.zeros(2, 1).long()}
    with pytest.raises(ValueError, match=message):
        likelihood_bound(PAIR, pair_network(JOINT), data, **arguments)


@pytest.mark.parametrize("arguments", [{"repeats": 0}, {"n_steps": 0}, {"samples": 0}])
def test_bad_arguments(arguments):
    flows = JointFlow(x=DiscreteFlow(classes=5, beta_1=3.0))
    with pytest.raises(ValueError, match="at least 1"):
        likelihood_bound(flows, categorical_network, {"x": torch.zeros(1, 1).long()}, **arguments)


@pytest.mark.parametrize(("batch", "repeats"), [(6, 6), (4, 8), (5, 3), (8, 1)])
def test_all_times_of_a_bound_differ_and_fill_the_interval(batch, repeats):
    """Batch and repeats of one size met at the same few times."""
    flows, seen = JointFlow(x=ContinuousFlow(sigma_1=0.1)), []

    def predict(states, times):
        seen.append(times["x"])
        return {"x": PointOutput(states["x"].mean)}

    data = {"x": torch.zeros(batch, 2)}
    generator = torch.Generator().manual_seed(1)
    likelihood_bound(flows, predict, data, repeats=repeats, generator=generator)
    times = torch.stack(seen[::2])
    assert bool((torch.stack(seen[1::2]) == 1).all())  # the reconstruction's
    count = batch * repeats
    # One in each of B R equal parts, and for each sample one in each of R.
    assert sorted((times.flatten() * count - 1e-4).floor().int().unique().tolist()) in (
        list(range(count)), list(range(-1, count - 1))
    )  # fmt: skip
    gaps = times.sort(0).values.diff(dim=0)
    torch.testing.assert_close(gaps, torch.full_like(gaps, 1 / repeats))


def test_times_have_the_precision_of_the_data():
    """Steps k / n of float64 data are exact in float64; classes keep that of their own states."""
    flows = JointFlow(
        x=ContinuousFlow(sigma_1=0.1),
        k=DiscreteFlow(classes=5, beta_1=3.0),
        b=DiscretisedFlow(bins=4, sigma_1=0.1),
    )
    linear, seen = torch.nn.Linear(2, 2).double(), []

    def network(inputs, times, mask):
        seen.append(times)
        x = linear(inputs["x"] + times["x"][:, None])
        return {"x": x, "k": inputs["k"], "b": torch.zeros(*inputs["b"].shape, 2)}

    data = {
        "x": torch.zeros(6, 2, dtype=torch.float64),
        "k": torch.zeros(6, 2, dtype=torch.int64),
        "b": torch.zeros(6, 2, dtype=torch.int64),
    }
    found = likelihood_bound(flows, flows.predictor(network), data, n_steps=7, repeats=2)
    assert [len(seen), *(seen[0][name].dtype for name in flows)] == [
        4, torch.float64, torch.float32, torch.float32,
    ]  # fmt: skip
    assert set(seen[0]["x"].tolist()) <= {k / 7 for k in range(7)}
    assert torch.equal(seen[0]["k"], seen[0]["x"].float())
    assert found.transmission["x"].dtype == found.nats.dtype == torch.float64
    assert found.reconstruction["k"].dtype == found.transmission["b"].dtype == torch.float32


def test_the_network_sees_zero_on_padding():
    flows, seen = JointFlow(x=ContinuousFlow(sigma_1=0.1)), []
    mask = torch.tensor([[True, True, False], [True, False, False]])

    def predict(states, times):
        seen.append(states["x"].mean)
        return {"x": PointOutput(states["x"].mean)}

    data = {"x": torch.ones(2, 3)}
    for n_steps in (None, 4):
        likelihood_bound(flows, predict, data, n_steps=n_steps, mask=mask)
    assert len(seen) == 4
    for mean in seen:
        assert not mean[~mask].any()


def test_every_step_of_a_grid_is_taken_from_its_start_to_its_end():
    """In float32 29 / 41 times 41 falls short of 29."""
    flows, steps = JointFlow(x=ContinuousFlow(sigma_1=0.1)), 41
    grid = torch.linspace(0, 1, steps + 1) ** 2

    def ignorant(states, times):
        return {"x": PointOutput(torch.zeros_like(states["x"].mean))}

    bound = likelihood_bound(
        flows, ignorant, {"x": torch.ones(1, 1)}, grid=grid, repeats=steps,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    # Each step once, the increments of beta add up: (sigma_1^-2 - 1) / 2 times the error of 1.
    assert float(bound.transmission["x"]) == pytest.approx((0.1**-2 - 1) / 2, rel=1e-5)


def test_times_of_a_batch_are_not_in_the_order_of_its_samples():
    flows, seen = JointFlow(x=ContinuousFlow(sigma_1=0.1)), []

    def predict(states, times):
        seen.append(times["x"])
        return {"x": PointOutput(states["x"].mean)}

    generator = torch.Generator().manual_seed(0)
    likelihood_bound(flows, predict, {"x": torch.zeros(64, 1)}, generator=generator)
    falls = int((seen[0].diff() < 0).sum())
    assert falls > 16  # of 63: sorted times that begin anywhere have one
