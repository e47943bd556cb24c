"""Densities by the probability-flow ODE, where the density is known."""

from __future__ import annotations

import math

import pytest
import torch

from bfn_core.flow_likelihood import flow_bound, flow_density
from bfn_core.flows import (
    CategoricalOutput,
    ContinuousFlow,
    DiscreteFlow,
    DiscretisedFlow,
    JointFlow,
    PointOutput,
)

SIGMA_1, SPREAD, BETA_1 = 0.05, 0.7, 2.0
PRIOR = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
GAUSSIAN = JointFlow(x=ContinuousFlow(sigma_1=SIGMA_1))
CENTRED = JointFlow(x=ContinuousFlow(sigma_1=SIGMA_1, centred=True))
DISCRETE = JointFlow(k=DiscreteFlow(classes=3, beta_1=BETA_1))
BOTH = JointFlow(x=ContinuousFlow(sigma_1=SIGMA_1), k=DiscreteFlow(classes=3, beta_1=BETA_1))
NOISE = 1 / (SIGMA_1**-2 - 1)  # variance of the noise on Gaussian data at t = 1
MASK = torch.arange(4) < torch.tensor([4, 3, 2])[:, None]


def network(states, times):
    """The exact posteriors of N(0, SPREAD^2) data and of classes with probabilities PRIOR."""
    outputs = {}
    if "x" in states:
        mean = states["x"].mean
        beta = (SIGMA_1 ** (-2 * times["x"]) - 1).reshape(-1, *[1] * (mean.dim() - 1))
        outputs["x"] = PointOutput((1 + beta) * SPREAD**2 / (1 + beta * SPREAD**2) * mean)
    if "k" in states:
        logits = states["k"].logits + PRIOR.log().to(states["k"].logits)
        outputs["k"] = CategoricalOutput(torch.log_softmax(logits, -1))
    return outputs


def gaussian_density(z):
    law = torch.distributions.Normal(0.0, math.sqrt(SPREAD**2 + NOISE))
    return law.log_prob(z).flatten(1).sum(1)


def discrete_density(z):
    """A mixture over classes, z = 3 e_k - 1 + N(0, 3 / beta_1)."""
    centres = 3 * torch.eye(3, dtype=z.dtype) - 1
    law = torch.distributions.Normal(centres, math.sqrt(3 / BETA_1))
    parts = law.log_prob(z[..., None, :]).sum(-1) + PRIOR.log()
    return torch.logsumexp(parts, -1).flatten(1).sum(1)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_gaussian_data():
    z = normal(6, 3)
    found = flow_density(GAUSSIAN, network, {"x": z}, steps=100, spread=SPREAD)
    torch.testing.assert_close(found.log_density, gaussian_density(z), rtol=0, atol=1e-5)
    assert found.calls == 4 * 100
    # The exact flow map: z_t grows in proportion to its standard deviation.
    noise = 1 / (SIGMA_1 ** (-2 * 1e-4) - 1)
    grown = math.sqrt((SPREAD**2 + noise) / (SPREAD**2 + NOISE))
    torch.testing.assert_close(found.start["x"], grown * z, rtol=1e-4, atol=0)


def test_classes():
    z = normal(5, 2, 3) * 1.5
    found = flow_density(DISCRETE, network, {"k": z}, eta=1e-3)
    # At eta the classes still add their own spread to the latent, K beta(eta) in all.
    torch.testing.assert_close(found.log_density, discrete_density(z), rtol=0, atol=1e-3)


def test_variables_together_are_the_sum_of_both():
    z = {"x": normal(4, 2), "k": normal(4, 2, 3, seed=1)}
    found = flow_density(BOTH, network, z, eta=1e-3, spread=SPREAD)
    expected = gaussian_density(z["x"]) + discrete_density(z["k"])
    torch.testing.assert_close(found.log_density, expected, rtol=0, atol=2e-3)


def test_centred_data_with_padding():
    """Points in the subspace of zero mean: 3 (N - 1) dimensions."""
    flow = CENTRED["x"]
    z = flow.signal(normal(3, 4, 3), mask=MASK)
    found = flow_density(CENTRED, network, {"x": z}, steps=100, spread=SPREAD, mask=MASK)
    variance, free = SPREAD**2 + NOISE, 3 * (MASK.sum(1) - 1)
    expected = -0.5 * (free * math.log(2 * math.pi * variance) + (z**2).sum((1, 2)) / variance)
    torch.testing.assert_close(found.log_density, expected, rtol=0, atol=1e-4)


def test_the_order_is_four():
    z = normal(3, 2)
    errors = [
        float((flow_density(GAUSSIAN, network, {"x": z}, steps=n, spread=SPREAD).log_density
               - gaussian_density(z)).abs().max())
        for n in (10, 20)
    ]  # fmt: skip
    assert 3.3 < math.log2(errors[0] / errors[1]) < 4.7


def tangled(states, times):
    """A network whose Jacobian is neither diagonal nor symmetric."""
    mean, logits = states["x"].mean, states["k"].logits
    x = torch.tanh(mean + 0.5 * mean.roll(1, -1) + 0.3 * logits.mean(-1))
    k = torch.log_softmax(logits.roll(1, -1) + mean[..., None] ** 2, -1)
    return {"x": PointOutput(0.3 * x), "k": CategoricalOutput(k)}


def test_the_exact_trace_is_that_of_the_whole_jacobian():
    """One step of the divergence against autograd's Jacobian of the written-out field."""
    z = {"x": normal(1, 2), "k": normal(1, 2, 3, seed=1)}
    flat = torch.cat([z["x"].flatten(), z["k"].flatten()])

    def field(v, t):
        beta_x, beta_k = SIGMA_1 ** (-2 * t) - 1, BETA_1 * t * t
        gamma = beta_x / (1 + beta_x)
        x, k = v[:2][None], v[2:].view(1, 2, 3)
        mean, logits = gamma * x, beta_k * k
        s_x = 0.3 * torch.tanh(mean + 0.5 * mean.roll(1, -1) + 0.3 * logits.mean(-1))
        p = torch.softmax(logits.roll(1, -1) + mean[..., None] ** 2, -1)
        c_x = -math.log(SIGMA_1) * (beta_x + 1) / beta_x
        return torch.cat([-c_x * (x - s_x).flatten(), -(k - (3 * p - 1)).flatten() / t])

    def level(t):
        """sqrt(beta), by which the integrator scales: y = level v has no part linear in y."""
        betas = [SIGMA_1 ** (-2 * t) - 1] * 2 + [BETA_1 * t * t] * 6
        return torch.tensor(betas, dtype=torch.float64).sqrt()

    start, end = 1.0, 0.9
    middle, step = math.sqrt(start * end), math.log(end / start)
    slope, gained, before = [], [], level(start) * flat
    for t, back in ((start, None), (middle, 0.5), (middle, 0.5), (end, 1.0)):
        y = before if back is None else before + back * step * slope[-1]
        v, rise = y / level(t), (level(t * (1 + 1e-6)) - level(t * (1 - 1e-6))) / 2e-6
        slope.append(level(t) * t * field(v, t) + rise * v)
        jacobian = torch.autograd.functional.jacobian(lambda v, t=t: t * field(v, t), v)
        # what z itself has of it, - d ln sqrt(beta), is integrated exactly below
        gained.append(-jacobian.trace() - (rise / level(t)).sum())
    change = step * sum(w * g for w, g in zip((1, 2, 2, 1), gained, strict=True)) / 6
    change = change + (level(end) / level(start)).log().sum()
    moved = before + step * sum(w * s for w, s in zip((1, 2, 2, 1), slope, strict=True)) / 6
    moved = moved / level(end)
    found = flow_density(BOTH, tangled, z, steps=1, eta=0.9)
    sigmas = [1 / (SIGMA_1 ** (-2 * 0.9) - 1)] * 2 + [3 / (BETA_1 * 0.81)] * 6
    law = torch.distributions.Normal(0.0, torch.tensor(sigmas, dtype=torch.float64).sqrt())
    expected = law.log_prob(moved).sum() - change
    torch.testing.assert_close(found.log_density[0], expected, rtol=1e-8, atol=1e-8)


def test_hutchinson_is_unbiased():
    count = 4000
    one = {"x": normal(1, 2), "k": normal(1, 2, 3, seed=1)}
    z = {name: value.expand(count, *value.shape[1:]).contiguous() for name, value in one.items()}
    exact = float(flow_density(BOTH, tangled, one, steps=4, eta=0.01).log_density)
    drawn = flow_density(
        BOTH, tangled, z, steps=4, eta=0.01, probes=1, generator=torch.Generator().manual_seed(0)
    ).log_density
    error = float(drawn.std()) / math.sqrt(count)
    assert 0 < error < 0.5
    assert abs(float(drawn.mean()) - exact) < 4 * error


def test_where_nothing_is_estimated_one_step_is_exact():
    """The signal is 0 everywhere: z grows as sqrt(beta) falls, whatever the step."""

    def ignorant(states, times):
        return {"x": PointOutput(torch.zeros_like(states["x"].mean))}

    z = normal(4, 3)
    found = flow_density(GAUSSIAN, ignorant, {"x": z}, steps=1, eta=1e-3)
    law = torch.distributions.Normal(0.0, math.sqrt(NOISE))
    spread = math.sqrt((SIGMA_1**-2 - 1) / (SIGMA_1 ** (-2 * 1e-3) - 1))
    torch.testing.assert_close(found.start["x"], spread * z)
    torch.testing.assert_close(found.log_density, law.log_prob(z).sum(1))


def test_one_probe_is_exact_where_coordinates_do_not_mix():
    """Signs squared are 1: neither the D of z nor a diagonal Jacobian adds variance."""
    z = {"x": normal(3, 4)}
    options = {"steps": 6, "eta": 0.01, "spread": SPREAD}
    exact = flow_density(GAUSSIAN, network, z, **options).log_density
    drawn = flow_density(GAUSSIAN, network, z, probes=1, **options).log_density
    torch.testing.assert_close(drawn, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("probes", [1, 3])
def test_probes_of_centred_data_are_unbiased(probes):
    """The best estimate scales what is centred: its trace is that of the projection."""
    z, count = CENTRED["x"].signal(normal(3, 4, 3), mask=MASK), 1000
    options = {"steps": 3, "eta": 0.05, "spread": SPREAD}
    exact = flow_density(CENTRED, network, {"x": z}, mask=MASK, **options).log_density
    drawn = flow_density(
        CENTRED, network, {"x": z.repeat(count, 1, 1)}, mask=MASK.repeat(count, 1), probes=probes,
        generator=torch.Generator().manual_seed(0), **options,
    ).log_density.view(count, 3)  # fmt: skip
    error = drawn.std(0) / math.sqrt(count)
    assert bool((error < 0.2).all())
    assert bool(((drawn.mean(0) - exact).abs() < 4 * error).all())


def test_the_bound_of_gaussian_data_is_tight():
    """E[ln q - ln p_1] is what z says of x, and the reconstruction the rest of -ln p(x)."""
    left = SPREAD / math.sqrt(1 + (SIGMA_1**-2 - 1) * SPREAD**2)
    flows = JointFlow(x=ContinuousFlow(sigma_1=SIGMA_1, reconstruction_sigma=left))
    x = torch.tensor([0.3, -1.4], dtype=torch.float64).expand(2000, 2)
    bound = flow_bound(
        flows, network, {"x": x}, spread=SPREAD, generator=torch.Generator().manual_seed(0)
    )
    exact = float(-torch.distributions.Normal(0.0, SPREAD).log_prob(x[0]).sum())
    error = float(bound.nats.std()) / math.sqrt(2000)
    assert error < 0.05
    assert abs(float(bound.nats.mean()) - exact) < 4 * error + 1e-4
    assert bound.calls == 4 * 50 + 1
    torch.testing.assert_close(bound.bits_per_dimension, bound.nats / (2 * math.log(2)))


def test_the_bound_of_classes_is_their_entropy():
    k = torch.multinomial(
        PRIOR, 6000, replacement=True, generator=torch.Generator().manual_seed(0)
    )[:, None]
    bound = flow_bound(
        DISCRETE, network, {"k": k}, steps=30, eta=1e-3, generator=torch.Generator().manual_seed(1)
    )
    entropy = float(-(PRIOR * PRIOR.log()).sum())
    error = float(bound.nats.std()) / math.sqrt(len(k))
    assert abs(float(bound.nats.mean()) - entropy) < 4 * error + 2e-3


def test_the_bound_of_bins_is_their_entropy():
    flow = DiscretisedFlow(bins=3, sigma_1=0.3)
    flows = JointFlow(b=flow)

    def predict(states, times):
        # p(k | mu) ~ p_k N(mu; gamma c_k, gamma (1 - gamma)), divided by gamma by hand.
        mean, beta = states["b"].mean, (0.3 ** (-2 * times["b"]) - 1)[:, None, None]
        centres = torch.tensor([-2 / 3, 0.0, 2 / 3], dtype=mean.dtype)
        exponent = (1 + beta) * mean[..., None] * centres - 0.5 * beta * centres.square()
        logits = PRIOR.log().to(mean.dtype) + exponent
        return {"b": CategoricalOutput(torch.log_softmax(logits, -1))}

    generator = torch.Generator().manual_seed(0)
    k = torch.multinomial(PRIOR, 4000, replacement=True, generator=generator)[:, None]
    bound = flow_bound(flows, predict, {"b": k}, steps=40, eta=1e-3, generator=generator)
    expected = float(-PRIOR.log()[k].mean())
    error = float((bound.nats + PRIOR.log()[k[:, 0]]).std()) / math.sqrt(len(k))
    assert error < 0.05
    assert abs(float(bound.nats.mean()) - expected) < 4 * error + 2e-3


def test_the_bound_leaves_padding_out():
    generator = torch.Generator().manual_seed(0)
    k = torch.tensor([[0, 1, 2]]).expand(3000, 3)
    mask = torch.tensor([[True, True, False]]).expand(3000, 3)
    bound = flow_bound(
        DISCRETE, network, {"k": k}, steps=30, eta=1e-3, mask=mask, generator=generator
    )
    expected = float(-PRIOR.log()[:2].sum())
    error = float(bound.nats.std()) / math.sqrt(len(k))
    assert abs(float(bound.nats.mean()) - expected) < 4 * error + 4e-3
    assert bound.dimensions["k"].unique().tolist() == [2]


def test_one_number_a_sample():
    z = normal(3)
    flat = flow_density(GAUSSIAN, network, {"x": z}, steps=20, spread=SPREAD)
    deep = flow_density(GAUSSIAN, network, {"x": z[:, None]}, steps=20, spread=SPREAD)
    torch.testing.assert_close(flat.log_density, deep.log_density)


@pytest.mark.parametrize("probes", [None, 2])
def test_a_batch_of_nothing(probes):
    data = {"x": torch.zeros(0, 3), "k": torch.zeros(0, 2, dtype=torch.int64)}
    assert flow_bound(BOTH, network, data, steps=2, probes=probes).nats.shape == (0,)


def test_inference_mode_is_refused():
    with torch.inference_mode(), pytest.raises(RuntimeError, match=r"use torch.no_grad\(\)"):
        flow_density(GAUSSIAN, network, {"x": torch.zeros(1, 1)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps and probes must be at least 1"),
        ({"probes": 0}, "steps and probes must be at least 1"),
        ({"eta": 0.0}, r"eta must lie in \(0, 1\)"),
        ({"eta": 1.0}, r"eta must lie in \(0, 1\)"),
        ({"spread": {"y": 0.5}}, "spread names y; the variables are x"),
        ({"spread": {"x": -0.5}}, "spread of x must be a number of at least 0, got -0.5"),
        ({"spread": math.nan}, "spread of x must be a number of at least 0, got nan"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        flow_density(GAUSSIAN, network, {"x": torch.zeros(1, 1)}, **options)


def test_times_have_the_precision_of_the_latents():
    linear, seen = torch.nn.Linear(2, 2).double(), []

    def predict(states, times):
        seen.append({name: (states[name], times[name].dtype) for name in states})
        raw = {"x": linear(states["x"].mean + times["x"][:, None]), "k": states["k"].logits}
        return BOTH.outputs(raw, states, times)

    data = {"x": torch.zeros(3, 2, dtype=torch.float64), "k": torch.zeros(3, 2, dtype=torch.int64)}
    bound = flow_bound(BOTH, predict, data, steps=2)
    assert bound.nats.dtype == torch.float64
    for call in seen:
        assert call["x"][0].precision.dtype == call["x"][1] == torch.float64
        assert call["k"][0].logits.dtype == call["k"][1] == torch.float32


def test_the_spread_of_each_variable():
    latents = {"x": normal(3, 2), "k": normal(3, 2, 3)}
    options = {"steps": 40, "eta": 0.3}
    found = flow_density(BOTH, network, latents, spread={"x": SPREAD}, **options)
    parts = [
        flow_density(flows, network, {name: latents[name]}, spread=spread, **options).log_density
        for flows, name, spread in ((GAUSSIAN, "x", SPREAD), (DISCRETE, "k", 0.0))
    ]
    torch.testing.assert_close(found.log_density, sum(parts), rtol=1e-6, atol=1e-6)
    plain = flow_density(BOTH, network, latents, **options).log_density
    assert bool(((found.log_density - plain).abs() > 0.01).all())


def test_outputs_that_would_broadcast_are_refused():
    def wrong(states, times):
        return {"x": PointOutput(states["x"].mean[:, :1])}

    with pytest.raises(ValueError, match=r"output for x of shape \(3, 1\), which does not fit"):
        flow_density(GAUSSIAN, wrong, {"x": normal(3, 2)}, steps=1)


def test_a_bound_is_that_of_its_generator_and_its_probes():
    """The trace of a full Jacobian by one sign vector is not the exact one: probes count."""
    mix = normal(3, 3)

    def mixing(inputs, times, mask):
        return {"x": torch.tanh(inputs["x"] @ mix.to(inputs["x"]))}

    data = {"x": normal(4, 3)}

    def nats(probes, seed):
        torch.manual_seed(seed)  # nothing hangs on it
        generator = torch.Generator().manual_seed(7)
        bound = flow_bound(
            GAUSSIAN, GAUSSIAN.predictor(mixing), data, steps=4, probes=probes, generator=generator
        )
        return bound.nats

    for probes in (None, 1, 2):
        assert torch.equal(nats(probes, 0), nats(probes, 1))
    assert not torch.equal(nats(1, 0), nats(2, 0))
    assert not torch.equal(nats(1, 0), nats(None, 0))


def test_the_bound_of_centred_data_with_padding():
    """3 (N - 1) dimensions: the density of N(0, SPREAD^2) within the subspace."""
    left = SPREAD / math.sqrt(1 + (SIGMA_1**-2 - 1) * SPREAD**2)
    flow = ContinuousFlow(sigma_1=SIGMA_1, reconstruction_sigma=left, centred=True)
    count = 1000
    x = flow.project(normal(3, 4, 3), mask=MASK)
    bound = flow_bound(
        JointFlow(x=flow), network, {"x": x.repeat(count, 1, 1)}, mask=MASK.repeat(count, 1),
        steps=20, spread=SPREAD, probes=1, generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    free = 3 * (MASK.sum(1) - 1)
    exact = 0.5 * (free * math.log(2 * math.pi * SPREAD**2) + x.square().sum((1, 2)) / SPREAD**2)
    nats = bound.nats.view(count, 3)
    error = nats.std(0) / math.sqrt(count)
    assert bool((error < 0.2).all())
    assert bool(((nats.mean(0) - exact).abs() < 4 * error + 1e-2).all())
    assert bound.dimensions["x"].view(count, 3)[0].tolist() == free.tolist()


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="no latent given for k"):
        flow_density(BOTH, network, {"x": normal(1, 2)})
    with pytest.raises(ValueError, match="no data given for k"):
        flow_bound(BOTH, network, {"x": normal(1, 2)})
