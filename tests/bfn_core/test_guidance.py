"""Guidance against conditional laws known in closed form."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from bfn_core import (
    CategoricalOutput,
    ContinuousFlow,
    DataPrediction,
    DiscreteFlow,
    DiscretisedFlow,
    GaussianFlow,
    GaussianSchedule,
    JointFlow,
    PointOutput,
    bayesian_sampler,
    classifier_free_guidance,
    flow_density,
    gradient_guidance,
    inpainting,
    ode_solver,
    sample,
    sample_steps,
    sde_solver,
    uniform_grid,
)

SPREAD, NOISE, SEEN = 0.7, 0.3, 0.5
PRIOR = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
LIKELIHOOD = torch.tensor([0.1, 0.6, 0.9], dtype=torch.float64)
CONTINUOUS = JointFlow(x=ContinuousFlow(sigma_1=0.05))
DISCRETE = JointFlow(x=DiscreteFlow(classes=3, beta_1=6.0))
BINNED = JointFlow(x=DiscretisedFlow(bins=8, sigma_1=0.1))


def posterior(states, times, *, mean=0.0, spread=SPREAD):
    """Mean and variance of x ~ N(mean, spread^2) given mu = gamma x + sqrt(gamma (1 - gamma)) e."""
    beta = CONTINUOUS["x"].schedule.beta(times["x"])[:, None]
    precision = 1 / spread**2 + beta
    seen = states["x"].mean * (1 + beta)  # beta times the observation mu / gamma
    return (mean / spread**2 + seen) / precision, 1 / precision


def gaussian_network(states, times):
    return {"x": PointOutput(posterior(states, times)[0])}


def class_network(prior):
    def predict(states, times):
        return {"x": CategoricalOutput(torch.log_softmax(prior.log() + states["x"].logits, -1))}

    return predict


def run(flows, predict, *, shape, steps=60, seed=0, sampler=None, grid=None):
    return sample(
        flows,
        predict,
        shape,
        grid=uniform_grid(steps) if grid is None else grid,
        sampler=sampler or bayesian_sampler(),
        generator=torch.Generator().manual_seed(seed),
        dtype=torch.float64,
    )


def states_at(flows, data, t):
    times = {name: torch.full((len(data),), t, dtype=torch.float64) for name in flows}
    generator = torch.Generator().manual_seed(1)
    return flows.sample({"x": data}, times, generator=generator), times


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_the_gradient_makes_a_gaussian_posterior(t):
    """y = x + N(0, NOISE^2) was seen: the guided estimate is E[x | mu, y]."""
    states, times = states_at(CONTINUOUS, torch.randn(50, 1, dtype=torch.float64), t)

    def log_likelihood(states, outputs, times):
        mean, variance = posterior(states, times)
        return -0.5 * ((SEEN - mean).square() / (variance + NOISE**2)).sum(-1)

    guided = gradient_guidance(CONTINUOUS, gaussian_network, log_likelihood)
    mean, variance = posterior(states, times)
    expected = (mean / variance + SEEN / NOISE**2) / (1 / variance + 1 / NOISE**2)
    assert bool(((expected - mean).abs() > 1e-6).all())
    for t in (times, times["x"]):
        torch.testing.assert_close(guided(states, t)["x"].mean, expected, rtol=1e-9, atol=1e-12)


def test_a_likelihood_of_the_estimate_goes_through_the_network():
    states, times = states_at(CONTINUOUS, torch.randn(20, 1, dtype=torch.float64), 0.4)

    def log_likelihood(states, outputs, times):
        return -0.5 * (SEEN - outputs["x"].mean).square().sum(-1)

    guided = gradient_guidance(
        CONTINUOUS, gaussian_network, log_likelihood, scale=2.0, through_network=True
    )
    moved = guided(states, times)["x"].mean - gaussian_network(states, times)["x"].mean
    gamma = CONTINUOUS["x"].schedule.gamma(times["x"])[:, None]
    mean, variance = posterior(states, times)
    slope = variance / (1 - gamma)  # d mean / d mu: mean = variance mu (1 + beta) + ...
    expected = 2 * (1 - gamma) * (SEEN - mean) * slope
    torch.testing.assert_close(moved, expected, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="through_network=True"):
        gradient_guidance(CONTINUOUS, gaussian_network, log_likelihood)(states, times)


@pytest.mark.usefixtures("float64_default")
@pytest.mark.parametrize("t", [0.0, 0.3, 0.6])
def test_the_gradient_makes_a_class_posterior(t):
    states, times = states_at(DISCRETE, torch.arange(90)[:, None] % 3, t)
    prior, likelihood = PRIOR.log(), LIKELIHOOD

    def log_likelihood(states, outputs, times):
        own = torch.softmax(prior + states["x"].logits, -1)
        return (own * likelihood).sum(-1).log().sum(-1)

    guided = gradient_guidance(DISCRETE, class_network(PRIOR), log_likelihood)
    expected = torch.softmax((PRIOR * LIKELIHOOD).log() + states["x"].logits, -1)
    torch.testing.assert_close(
        guided(states, times)["x"].log_probs.exp(), expected, rtol=1e-9, atol=1e-12
    )


def test_guided_samples_follow_the_posterior(assert_frequencies):
    def log_likelihood(states, outputs, times):
        own = torch.softmax(PRIOR.log() + states["x"].logits, -1)
        return (own * LIKELIHOOD).sum(-1).log().sum(-1)

    guided = gradient_guidance(DISCRETE, class_network(PRIOR), log_likelihood)
    made = run(DISCRETE, guided, shape={"x": (4000, 1)})["x"]
    assert_frequencies(torch.bincount(made[:, 0], minlength=3), PRIOR * LIKELIHOOD)


@pytest.mark.usefixtures("float64_default")
def test_evidence_moves_the_mean_of_bins_by_the_score():
    states, times = states_at(BINNED, torch.arange(40)[:, None] % 8, 0.2)
    flow = BINNED["x"]
    raw = torch.randn(40, 1, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    raw[..., 1] += 1  # wider than a bin
    output = flow.output(raw, states["x"], times["x"])
    score = torch.linspace(-2, 2, 40, dtype=torch.float64)[:, None]
    expected = flow.schedule.gamma_complement(times["x"])[:, None] * score
    moved = flow.given_evidence(output, score, times["x"])
    wanted = (flow.expectation(output) + expected).clamp(-7 / 8, 7 / 8)
    assert float((wanted - flow.expectation(output)).abs().max()) > 0.5
    torch.testing.assert_close(flow.expectation(moved), wanted, rtol=0, atol=1e-9)
    sure = CategoricalOutput(torch.log_softmax(1000.0 * torch.eye(8, dtype=torch.float64), -1))
    far = flow.given_evidence(sure, torch.full((8,), 1e6).double(), torch.ones(8).double())
    assert bool(far.log_probs.exp().sum(-1).isclose(torch.ones(8).double()).all())


@pytest.mark.parametrize("sampler", [bayesian_sampler(), sde_solver()])
def test_guided_bins_follow_the_posterior(sampler, assert_frequencies):
    """The network's output is exact, and so is the likelihood of the noisy state."""
    prior = torch.tensor([0.4, 0.1, 0.2, 0.3], dtype=torch.float64)
    evidence = torch.tensor([0.1, 0.3, 0.5, 0.1], dtype=torch.float64)
    flow = DiscretisedFlow(bins=4, sigma_1=0.05)
    centres = torch.tensor([-0.75, -0.25, 0.25, 0.75])

    def posterior(states, times):
        gamma = flow.schedule.gamma(times["x"])[:, None, None]
        distance = states["x"].mean[..., None] - gamma * centres
        variance = (gamma * (1 - gamma)).clamp_min(1e-12)
        return torch.log_softmax(prior.log() - 0.5 * distance.square() / variance, -1).float()

    def log_likelihood(states, outputs, times):
        return torch.logsumexp(posterior(states, times) + evidence.log(), -1).sum(-1)

    flows = JointFlow(x=flow)
    guided = gradient_guidance(
        flows, lambda states, t: {"x": CategoricalOutput(posterior(states, t))}, log_likelihood
    )
    made = sample(
        flows,
        guided,
        {"x": (4000, 1)},
        grid=uniform_grid(100),
        sampler=sampler,
        generator=torch.Generator().manual_seed(0),
    )["x"]
    assert_frequencies(torch.bincount(made[:, 0], minlength=4), prior * evidence)


def test_evidence_beyond_the_simplex_and_on_padding():
    flow = DISCRETE["x"]
    output = CategoricalOutput(PRIOR.log().expand(2, 2, 3))
    score = torch.tensor([[[5.0, -2.0, -3.0]], [[0.0, 0.0, 0.0]]]).double().expand(2, 2, 3)
    mask = torch.tensor([[True, False], [True, True]])
    moved = flow.given_evidence(output, score, torch.ones(2).double(), mask=mask)
    one = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(moved.log_probs[0, 0].exp(), one)
    torch.testing.assert_close(moved.log_probs[0, 1].exp(), PRIOR)
    torch.testing.assert_close(moved.log_probs[1].exp(), PRIOR.expand(2, 3))
    assert bool(moved.log_probs.isfinite().all())


def test_the_gradient_stays_in_the_centred_subspace_and_off_padding():
    flows = JointFlow(x=ContinuousFlow(sigma_1=0.1, centred=True))
    mask = torch.tensor([[True, True, True, False]])
    data = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(4))
    times = {"x": torch.tensor([0.5])}
    states = flows.sample({"x": data}, times, mask=mask, generator=torch.Generator())

    def predict(states, times):
        return {"x": PointOutput(states["x"].mean)}

    def pulled(states, outputs, times):
        return (states["x"].mean * torch.arange(12.0).reshape(1, 4, 3)).sum((1, 2))

    guided = gradient_guidance(flows, predict, pulled, mask=mask)
    shift = guided(states, times)["x"].mean - states["x"].mean
    assert shift.abs().max() > 0.01
    torch.testing.assert_close(shift[:, :3].sum(1), torch.zeros(1, 3), atol=1e-6, rtol=0)
    assert not shift[:, 3].any()


def test_the_gradient_works_in_inference_mode():
    def log_likelihood(states, outputs, times):
        return (states["x"].mean * times["x"][:, None]).sum(-1)

    guided = gradient_guidance(CONTINUOUS, gaussian_network, log_likelihood)
    with torch.inference_mode():
        made = run(CONTINUOUS, guided, shape={"x": (5, 1)}, steps=4, sampler=ode_solver(order=2))
    assert not made["x"].requires_grad
    plain = run(CONTINUOUS, gaussian_network, shape={"x": (5, 1)}, steps=4, sampler=ode_solver())
    assert bool((made["x"] > plain["x"]).all())


@pytest.mark.parametrize("own_mask_each", [False, True])
def test_a_mask_made_in_inference_mode_does_not_hide_the_gradient(own_mask_each):
    """As a program does that samples in inference mode from a network of torch."""

    def log_likelihood(states, outputs, times):
        return -outputs["x"].mean.square().sum(-1)

    weight = torch.nn.Parameter(torch.ones(()))
    with torch.inference_mode():
        mask = torch.ones(5, 2, dtype=torch.bool)
        predict = CONTINUOUS.predictor(
            lambda inputs, times, mask: {"x": weight * inputs["x"]},
            {"x": mask} if own_mask_each else mask,
        )
        guided = gradient_guidance(
            CONTINUOUS, predict, log_likelihood, through_network=True, mask=mask
        )
        made = run(CONTINUOUS, guided, shape={"x": (5, 2)}, steps=3)
    assert bool(made["x"].isfinite().all())


def test_a_likelihood_of_the_wrong_shape_is_named():
    states, times = states_at(CONTINUOUS, torch.zeros(5, 1, dtype=torch.float64), 0.4)
    guided = gradient_guidance(
        CONTINUOUS, gaussian_network, lambda states, outputs, times: states["x"].mean
    )
    with pytest.raises(ValueError, match=r"one number a sample, got \(5, 1\)"):
        guided(states, times)


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_classifier_free_classes_follow_the_tilted_law(weight, assert_frequencies):
    other = torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)
    guided = classifier_free_guidance(
        DISCRETE, class_network(PRIOR), class_network(other), weight=weight
    )
    made = run(DISCRETE, guided, shape={"x": (4000, 1)})["x"]
    expected = PRIOR**weight * other ** (1 - weight)
    assert_frequencies(torch.bincount(made[:, 0], minlength=3), expected)


def test_classifier_free_points_follow_the_tilted_law(assert_mean, assert_variance):
    """N(m, s^2)^w N(0, s^2)^(1 - w) is N(w m, s^2)."""

    def conditional(states, times):
        return {"x": PointOutput(posterior(states, times, mean=0.4)[0])}

    guided = classifier_free_guidance(CONTINUOUS, conditional, gaussian_network, weight=3.0)
    made = run(CONTINUOUS, guided, shape={"x": (4000, 1)}, steps=400)["x"]
    assert_mean(made, 1.2)
    beta = 0.05**-2 - 1
    assert_variance(made, SPREAD**2 * beta * SPREAD**2 / (1 + beta * SPREAD**2))


def test_a_class_that_a_network_rules_out_leaves_no_nan():
    def predict(probs):
        return lambda states, times: {"x": CategoricalOutput(torch.tensor([[probs]]).log())}

    def mixed(a, b, weight):
        guided = classifier_free_guidance(DISCRETE, predict(a), predict(b), weight=weight)
        return guided({}, {})["x"].log_probs.exp()[0, 0]

    # gone from the first network or from both: gone; from the reference alone: all that is wanted
    torch.testing.assert_close(mixed([0.0, 0.5, 0.5], [0.0, 0.5, 0.5], 2.0)[0], torch.tensor(0.0))
    torch.testing.assert_close(mixed([0.0, 0.5, 0.5], [0.4, 0.3, 0.3], 2.0)[0], torch.tensor(0.0))
    torch.testing.assert_close(mixed([0.4, 0.3, 0.3], [0.0, 0.5, 0.5], 2.0)[0], torch.tensor(1.0))


JOINT = torch.tensor([[0.30, 0.05, 0.15], [0.05, 0.25, 0.20]], dtype=torch.float64)
PAIR = JointFlow(a=DiscreteFlow(classes=2, beta_1=8.0), b=DiscreteFlow(classes=3, beta_1=8.0))


def test_inpainting_is_exact_where_the_known_come_first(assert_frequencies, pair_network):
    steps, count = 40, 4000
    early = torch.cat([uniform_grid(steps)[1:], torch.ones(steps)])
    late = torch.cat([torch.zeros(steps), uniform_grid(steps)[1:]])
    grid = {"a": torch.cat([torch.zeros(1), early]), "b": torch.cat([torch.zeros(1), late])}
    known = {"a": torch.ones(count, 1, dtype=torch.bool)}
    given = torch.ones(count, 1, dtype=torch.int64)
    predict = inpainting(PAIR, pair_network(JOINT), {"a": given}, known)
    made = run(PAIR, predict, shape={"a": (count, 1), "b": (count, 1)}, grid=grid)
    assert bool((made["a"] == 1).all())
    assert_frequencies(torch.bincount(made["b"][:, 0], minlength=3), JOINT[1])
    free = run(PAIR, pair_network(JOINT), shape={"a": (count, 1), "b": (count, 1)}, grid=grid)
    assert_frequencies(torch.bincount(free["b"][:, 0], minlength=3), JOINT.sum(0))


@pytest.mark.parametrize("shape", [(4,), (4, 1), (1, 3)])
def test_inpainting_refuses_data_that_would_broadcast(shape):
    flows = JointFlow(x=ContinuousFlow(sigma_1=0.1))
    known = torch.ones(shape, dtype=torch.bool)
    predict = inpainting(
        flows,
        lambda states, t: {"x": PointOutput(0 * states["x"].mean)},
        {"x": torch.zeros(shape)},
        {"x": known},
    )
    states = flows.prior({"x": (4, 3)})
    with pytest.raises(ValueError, match=r"data of x have shape .* samples have \(4, 3\); expand"):
        predict(states, {"x": torch.zeros(4)})


def test_inpainting_fixes_what_is_known_and_nothing_else():
    flows = JointFlow(x=ContinuousFlow(sigma_1=0.05), k=DiscretisedFlow(bins=8, sigma_1=0.1))
    raw = {"x": torch.randn(2, 3), "k": torch.randn(2, 3, 2)}
    predict = flows.predictor(lambda inputs, t, mask: raw)
    states = flows.prior({"x": (2, 3), "k": (2, 3)})
    times = flows.times(torch.tensor([0.0, 0.0]))
    data = {"x": torch.full((2, 3), 0.25), "k": torch.full((2, 3), 6)}
    known = torch.tensor([[True, False, False], [False, False, True]])
    free = predict(states, times)
    fixed = inpainting(flows, predict, data, {"x": known, "k": known})(states, times)
    x, k = flows["x"].mode(fixed["x"]), flows["k"].mode(fixed["k"])
    assert bool((x[known] == 0.25).all())
    assert bool((k[known] == 6).all())
    torch.testing.assert_close(x[~known], free["x"].mean[~known])
    torch.testing.assert_close(fixed["k"].log_probs[~known], free["k"].log_probs[~known])
    centre = (2 * 6 + 1) / 8 - 1
    assert bool((flows["k"].expectation(fixed["k"])[known] == centre).all())
    whole = inpainting(flows, predict, data, {"x": torch.tensor([True, False])})(states, times)
    assert bool((whole["x"].mean[0] == 0.25).all())
    assert bool((whole["x"].mean[1] != 0.25).all())


def test_inpainting_of_centred_points_keeps_their_shape_in_any_frame():
    """Four points in a line, two of them known; the network knows the others exactly."""
    flows = JointFlow(x=ContinuousFlow(sigma_1=0.02, centred=True))
    line = torch.tensor([-1.5, -0.5, 0.5, 1.5], dtype=torch.float64)[:, None]
    truth = torch.cat([line, torch.zeros(4, 2)], 1)[None].repeat(2, 1, 1)
    known = torch.tensor([[True, True, False, False], [False] * 4])
    moved = truth + torch.tensor([5.0, -2.0, 1.0])
    predict = inpainting(flows, lambda states, times: {"x": PointOutput(truth)}, {"x": moved},
                         {"x": known})  # fmt: skip
    made = run(flows, predict, shape={"x": (2, 4, 3)}, steps=5)["x"]
    torch.testing.assert_close(made, truth)
    with pytest.raises(ValueError, match=r"known must be \(2, 4\), whole points"):
        inpainting(flows, predict, {"x": moved}, {"x": known[..., None].expand(2, 4, 3)})


@pytest.mark.parametrize("whole_samples", [False, True])
def test_padding_is_never_known(whole_samples):
    """On padding stands anything, here far away: it has no part in the frame."""
    flows = JointFlow(x=ContinuousFlow(sigma_1=0.02, centred=True), k=CONTINUOUS["x"])
    mask = torch.tensor([[True, True, True, False], [True] * 4])
    inside = torch.tensor([[True, True, False, False], [True, False, True, False]])
    points = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    points = torch.where(mask[..., None], points, torch.nan)
    shown = {name: PointOutput(torch.full((2, 4, 3), 50.0)) for name in flows}
    shown["x"].mean[mask] = torch.arange(21.0).view(7, 3)
    samples = torch.tensor([True, False]) if whole_samples else torch.ones(2, 4, dtype=torch.bool)
    known, data = {"x": inside | ~mask, "k": samples}, dict.fromkeys(flows, points)
    predict = inpainting(flows, lambda *_: shown, data, known, mask=dict.fromkeys(flows, mask))
    made = predict({}, {})
    for row in range(2):
        own, seen = made["x"].mean[row], shown["x"].mean[row]
        place = inside[row]
        frame = seen[place].mean(0) - points[row][place].mean(0)
        torch.testing.assert_close(own[place], points[row][place] + frame)
        assert torch.equal(own[~place], seen[~place])
    fixed = mask & samples[:, None] if whole_samples else mask
    assert torch.equal(made["k"].mean[fixed], points[fixed])
    assert bool((made["k"].mean[~fixed] == 50).all())


def own_flow(**options):
    """A Gaussian flow with points as outputs that is no ContinuousFlow, as a user may write."""
    names = {*GaussianFlow.__abstractmethods__, "_check_points"}
    body = {name: getattr(ContinuousFlow, name) for name in names}
    made = type("Own", (GaussianFlow,), body)
    return made(schedule=GaussianSchedule(0.05), parameterisation=DataPrediction(), **options)


def test_guidance_takes_flows_of_ones_own():
    flows = JointFlow(x=own_flow())
    one, other = (
        flows.predictor(lambda inputs, t, mask, x=x: {"x": torch.full_like(inputs["x"], x)})
        for x in (1.0, 0.25)
    )
    guided = classifier_free_guidance(flows, one, other, weight=2.0)
    made = run(flows, guided, shape={"x": (2, 3)}, steps=3)["x"]
    assert torch.equal(made, torch.full((2, 3), 1.75, dtype=torch.float64))
    centred = JointFlow(x=own_flow(centred=True))
    truth = torch.tensor([[[-2.0, 0.0], [0.5, 1.0], [1.5, -1.0]]], dtype=torch.float64)
    known = {"x": torch.tensor([[True, True, False]])}
    predict = centred.predictor(lambda inputs, t, mask: {"x": truth})
    fixed = inpainting(centred, predict, {"x": truth + 7}, known)
    made = run(centred, fixed, shape={"x": (1, 3, 2)}, steps=3)
    torch.testing.assert_close(made["x"], truth)


def test_points_and_classes_do_not_mix():
    point, classes = PointOutput(torch.zeros(1, 2)), CategoricalOutput(torch.zeros(1, 2, 1))
    guided = classifier_free_guidance(
        CONTINUOUS, lambda *_: {"x": point}, lambda *_: {"x": classes}, weight=2.0
    )
    with pytest.raises(TypeError, match="to mix, not PointOutput and CategoricalOutput"):
        guided({}, {})


def test_classifier_free_points_of_unequal_variance_follow_another_law():
    """What the docstring does not promise: N(.4, .5^2)^3 N(0, .8^2)^-2 has mean 0.541."""

    def network(mean, spread):
        return lambda states, times: {
            "x": PointOutput(posterior(states, times, mean=mean, spread=spread)[0])
        }

    guided = classifier_free_guidance(CONTINUOUS, network(0.4, 0.5), network(0.0, 0.8), weight=3.0)
    made = run(CONTINUOUS, guided, shape={"x": (4000, 1)}, steps=400)["x"]
    precision = 3 / 0.5**2 - 2 / 0.8**2
    error = float(made.std()) / len(made) ** 0.5
    assert abs(float(made.mean()) - 3 * 0.4 / 0.5**2 / precision) > 8 * error


def test_classifier_free_points_stay_within_the_limit():
    flows = JointFlow(x=ContinuousFlow(sigma_1=0.05, limit=1.0))
    predict, reference = (
        lambda states, times, x=x: {"x": PointOutput(torch.tensor([[x]]))} for x in (0.9, -0.9)
    )
    guided = classifier_free_guidance(flows, predict, reference, weight=3.0)
    assert guided({}, {})["x"].mean.tolist() == [[1.0]]


def test_inpainting_without_data_or_flow_is_refused(pair_network):
    with pytest.raises(ValueError, match="no data given for a"):
        inpainting(
            PAIR, pair_network(JOINT), {"b": torch.zeros(1, 1)}, {"a": torch.ones(1, 1).bool()}
        )
    with pytest.raises(ValueError, match="no variable c; there are a, b"):
        inpainting(
            PAIR, pair_network(JOINT), {"c": torch.zeros(1, 1)}, {"c": torch.ones(1, 1).bool()}
        )
    known = {"a": torch.ones(1, 1).bool()}
    half = inpainting(PAIR, pair_network(JOINT), {"a": torch.full((1, 1), 1.9)}, known)
    with pytest.raises(ValueError, match="must be whole numbers"):
        half(PAIR.prior({"a": (1, 1), "b": (1, 1)}), PAIR.times(torch.zeros(1)))


def noisy_likelihood(states, outputs, times):
    """ln p(y | mu) where y = x + N(0, NOISE^2) was seen, up to a constant."""
    mean, variance = posterior(states, times)
    return -0.5 * ((SEEN - mean).square() / (variance + NOISE**2)).sum(-1)


def test_a_guided_predictor_has_the_density_of_its_law():
    """The ODE's divergence is taken through the guidance: N(0, SPREAD^2) given y."""
    variance = 1 / (SPREAD**-2 + NOISE**-2)

    def conditional(states, times):
        law = {"mean": SEEN * variance / NOISE**2, "spread": variance**0.5}
        return {"x": PointOutput(posterior(states, times, **law)[0])}

    guided = gradient_guidance(CONTINUOUS, gaussian_network, noisy_likelihood)
    z = torch.randn(6, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found, expected = (
        flow_density(CONTINUOUS, one, {"x": z}, steps=20, spread=variance**0.5).log_density
        for one in (guided, conditional)
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    # Guidance of no weight changes nothing, whatever the likelihood sees.
    free = [
        gradient_guidance(
            CONTINUOUS, gaussian_network, noisy_likelihood, scale=0.0, through_network=through
        )
        for through in (False, True)
    ]
    plain, *others = (
        flow_density(CONTINUOUS, one, {"x": z}, steps=10).log_density
        for one in (gaussian_network, *free)
    )
    for other in others:
        torch.testing.assert_close(other, plain)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_reference_that_rules_a_class_out_has_no_part_at_weight_one(weight):
    ours = CategoricalOutput(torch.tensor([[0.1, 0.9]]).log())
    theirs = CategoricalOutput(torch.tensor([[0.0, 1.0]]).log())
    flows = JointFlow(x=DiscreteFlow(classes=2, beta_1=1.0))
    mixed = classifier_free_guidance(
        flows, lambda *_: {"x": ours}, lambda *_: {"x": theirs}, weight=weight
    )
    expected = ours if weight else theirs
    torch.testing.assert_close(mixed({}, {})["x"].log_probs.exp(), expected.log_probs.exp())


@pytest.mark.parametrize(
    ("known", "message"),
    [(torch.ones(2, 3), "bool"), (torch.ones(1, 3).bool(), r"\(1, 3\) does not fit .*\(2, 3\)")],
)
def test_what_is_known_fits_its_data(known, message):
    flows = JointFlow(x=DiscreteFlow(classes=3, beta_1=1.0))
    data = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        inpainting(flows, lambda *_: {}, {"x": data}, {"x": known})


@pytest.mark.parametrize("through_network", [False, True])
def test_the_derivative_through_guidance_is_that_of_the_field(through_network):
    """A likelihood of state and output: constant in its score, the output moves all the same."""

    def network(states, times):
        return {"x": PointOutput(torch.sin(states["x"].mean))}

    def log_likelihood(states, outputs, times):
        return -(states["x"].mean * outputs["x"].mean).sum(-1)

    guided = gradient_guidance(
        CONTINUOUS, network, log_likelihood, scale=0.7, through_network=through_network
    )
    times = {"x": torch.full((4,), 0.4, dtype=torch.float64)}
    state = CONTINUOUS.prior({"x": (4, 1)}, dtype=torch.float64)["x"]

    def field(mean):
        return guided({"x": replace(state, mean=mean)}, times)["x"].mean

    points = torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None].requires_grad_()
    assert torch.autograd.gradcheck(field, (points,))
    torch.testing.assert_close(field(points).detach(), field(points.detach()))


def test_a_constant_in_the_score_of_classes_says_nothing():
    flow = DISCRETE["x"]
    output, t = CategoricalOutput(PRIOR.log().expand(2, 1, 3)), torch.ones(2).double()
    score = torch.tensor([[[0.1, -0.04, -0.06]]]).double().expand(2, 1, 3)
    moved = flow.given_evidence(output, score + 0.3, t)
    torch.testing.assert_close(moved.log_probs.exp(), PRIOR + score)


def test_a_large_weight_on_a_class_that_the_reference_rules_out():
    def predict(probs):
        return lambda states, times: {"x": CategoricalOutput(torch.tensor([[probs]]).log())}

    for weight in (20.0, -20.0):
        guided = classifier_free_guidance(
            DISCRETE, predict([1.0, 0.0, 0.0]), predict([0.0, 0.5, 0.5]), weight=weight
        )
        probs = guided({}, {})["x"].log_probs.exp()[0, 0]
        wanted = [1.0, 0.0, 0.0] if weight > 0 else [0.0, 0.5, 0.5]
        torch.testing.assert_close(probs, torch.tensor(wanted))


@dataclass(frozen=True)
class ScaledState:
    """The state of a flow that somebody else wrote: ``z = mu / gamma``, and its time."""

    z: Tensor
    t: Tensor


class ScaledFlow(ContinuousFlow):
    """A continuous flow whose states are of another kind, and whose data are counted in tenths."""

    def prior(self, shape, *, dtype=torch.float32, device="cpu"):
        return self.from_latent(torch.zeros(shape, dtype=dtype), torch.zeros(shape[0]))

    def from_latent(self, latent, t):
        return ScaledState(latent, t)

    def latent(self, state):
        return state.z

    def inputs(self, state, t):
        return state.z

    def decode(self, output):
        return 10 * output.mean


def test_states_of_a_flow_of_ones_own():
    flows, seen = JointFlow(x=ScaledFlow(sigma_1=0.1)), []

    def predict(states, times):
        return {"x": PointOutput(0.25 * states["x"].z)}

    def log_likelihood(states, outputs, times):
        seen.append(states["x"])
        return 3.0 * states["x"].z.sum(-1)

    guided = gradient_guidance(flows, predict, log_likelihood)
    state, times = (
        ScaledState(torch.full((2, 1), 0.4), torch.full((2,), 0.5)),
        torch.full((2,), 0.5),
    )
    found = guided({"x": state}, times)["x"].mean
    assert type(seen[0]) is ScaledState
    torch.testing.assert_close(found, torch.full((2, 1), 0.25 * 0.4 + 3.0 * 0.1))
    made = sample(flows, predict, {"x": (3, 1)}, grid=uniform_grid(3), sampler=ode_solver())
    assert bool((made["x"].abs() > 0).all())
    *_, last = sample_steps(
        flows, predict, {"x": (3, 1)}, grid=uniform_grid(3), sampler=ode_solver(order=1),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    again = sample(
        flows, predict, {"x": (3, 1)}, grid=uniform_grid(3), sampler=ode_solver(order=1),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    torch.testing.assert_close(again["x"], 2.5 * last.states["x"].z)


def test_only_known_kinds_of_output_can_be_fixed():
    class Other:
        shape = (1, 1)

    data, known = {"x": torch.zeros(1, 1)}, {"x": torch.ones(1, 1, dtype=torch.bool)}
    completed = inpainting(CONTINUOUS, lambda states, times: {"x": Other()}, data, known)
    with pytest.raises(TypeError, match="can be fixed, not Other"):
        completed({}, {})
