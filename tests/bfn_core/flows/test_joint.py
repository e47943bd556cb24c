"""The product of flows: names, times and masks per variable."""

from __future__ import annotations

import pytest
import torch

from bfn_core.flows import (
    CategoricalOutput,
    ContinuousFlow,
    DiscreteFlow,
    DiscretisedFlow,
    JointFlow,
)
from bfn_core.flows.discretised import BinnedOutput
from bfn_core.schedules import CategoricalSchedule, GaussianSchedule
from bfn_core.tensors import centre

MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()
CHANNELS = {"elements": (5,), "charges": (2,), "positions": (3,)}


def make():
    return JointFlow(
        positions=ContinuousFlow(sigma_1=0.02, centred=True),
        elements=DiscreteFlow(classes=5, beta_1=3.0),
        charges=DiscretisedFlow(bins=9, sigma_1=0.15),
    )


def make_data():
    generator = torch.Generator().manual_seed(4)
    return {
        "positions": centre(torch.randn(2, 4, 3, generator=generator), MASK),
        "elements": torch.randint(0, 5, (2, 4), generator=generator),
        "charges": torch.randint(0, 9, (2, 4), generator=generator),
    }


def raw_outputs():
    generator = torch.Generator().manual_seed(5)
    return {name: torch.randn(2, 4, *c, generator=generator) for name, c in CHANNELS.items()}


TIMES = {
    "positions": torch.tensor([0.1, 0.9]),
    "elements": torch.tensor([0.5, 0.2]),
    "charges": torch.tensor([0.0, 1.0]),
}


def test_container():
    flows = make()
    assert list(flows) == ["positions", "elements", "charges"]
    assert isinstance(flows["elements"], DiscreteFlow)


@pytest.mark.parametrize("t", [torch.tensor([0.3, 0.8]), TIMES])
def test_losses_are_those_of_the_parts_at_their_own_times(t):
    flows, data = make(), make_data()
    times = flows.times(t)
    states = flows.sample(data, t, mask=MASK, generator=torch.Generator().manual_seed(0))
    outputs = flows.outputs(raw_outputs(), states, t)
    loss = flows.continuous_time_loss(data, outputs, t, mask=MASK)
    same = [torch.Generator().manual_seed(1) for _ in range(2)]
    starts = {name: (own * 10).floor().clamp_max(9) / 10 for name, own in times.items()}
    steps = flows.discrete_time_loss(
        data, outputs, starts, n_steps=10, mask=MASK, generator=same[0], samples=2
    )
    reconstruction = flows.reconstruction_loss(data, outputs, mask=MASK)
    dimensions = flows.dimensions(data, mask=MASK)
    for name, flow in flows.flows.items():
        own = data[name], outputs[name]
        expected = flow.continuous_time_loss(*own, times[name], mask=MASK)
        assert torch.equal(loss[name], expected)
        expected = flow.discrete_time_loss(
            *own, starts[name], n_steps=10, mask=MASK, generator=same[1], samples=2
        )
        assert torch.equal(steps[name], expected)
        assert torch.equal(reconstruction[name], flow.reconstruction_loss(*own, mask=MASK))
        assert torch.equal(dimensions[name], flow.dimensions(data[name], mask=MASK))


def test_bayesian_steps_of_the_parts():
    flows, data = make(), make_data()
    states = flows.prior({name: tuple(value.shape) for name, value in data.items()})
    accuracies = {name: torch.tensor([0.5, 2.0]) for name in flows}
    estimates = {name: flow.embed(data[name]) for name, flow in flows.flows.items()}
    same = [torch.Generator().manual_seed(1) for _ in range(2)]
    ys = flows.sender(estimates, accuracies, mask=MASK, generator=same[0], temperature=0.5)
    new = flows.update(states, ys, accuracies)
    outputs = flows.outputs(raw_outputs(), new, TIMES)
    receivers = flows.receiver(outputs, accuracies, mask=MASK)
    for name, flow in flows.flows.items():
        y = flow.sender(
            estimates[name], accuracies[name], mask=MASK, generator=same[1], temperature=0.5
        )
        assert torch.equal(ys[name], y)
        expected = flow.update(states[name], y, accuracies[name])
        for field in vars(expected):
            assert torch.equal(getattr(new[name], field), getattr(expected, field))
        density = receiver_density(name, outputs[name], y, accuracies[name])
        torch.testing.assert_close(receivers[name].log_prob(y), density, rtol=1e-5, atol=1e-5)


def receiver_density(name, output, y, accuracy):
    """ln of ``sum_x p_O(x) p_S(y | x; accuracy)``, element by element; 0 on padding."""
    if name == "positions":
        error = (y - centre(output.mean, MASK)).square().sum((1, 2))
        free = 3 * (MASK.sum(1) - 1)
        return -0.5 * accuracy * error - 0.5 * free * torch.log(2 * torch.pi / accuracy)
    places = accuracy[:, None, None]
    if name == "elements":
        means = places[..., None] * (5 * torch.eye(5) - 1)
        law = torch.distributions.Normal(means, torch.sqrt(5 * places[..., None]))
        density = law.log_prob(y[:, :, None]).sum(-1)
    else:
        bins = (2 * torch.arange(9) + 1) / 9 - 1
        density = torch.distributions.Normal(bins, places**-0.5).log_prob(y[..., None])
    return torch.where(MASK, torch.logsumexp(output.log_probs + density, -1), 0.0)


def spoilt(output):
    """The same output with no number on padding."""
    values = {
        field: torch.where(MASK[..., None] if x.dim() == 3 else MASK, x, torch.nan)
        for field, x in vars(output).items() if isinstance(x, torch.Tensor) and x.dim() > 1
    }  # fmt: skip
    if "log_std" in values:
        return BinnedOutput(values["mean"], values["log_std"], output.bins)
    return type(output)(**values)


def test_receivers_do_not_see_padding():
    flows, data = JointFlow(**make().flows, free=ContinuousFlow(sigma_1=0.1)), make_data()
    data["free"] = data["positions"]
    times = TIMES | {"free": TIMES["charges"]}
    accuracies = {name: torch.tensor([0.5, 2.0]) for name in flows}
    states = flows.sample(data, times, mask=MASK, generator=torch.Generator().manual_seed(0))
    raw = raw_outputs()
    outputs = flows.outputs(raw | {"free": raw["positions"]}, states, times)
    clean = flows.receiver(outputs, accuracies, mask=MASK)
    dirty = flows.receiver({n: spoilt(o) for n, o in outputs.items()}, accuracies, mask=MASK)
    for name in flows:
        torch.manual_seed(1)
        y = clean[name].sample((3,))
        torch.manual_seed(1)
        assert torch.equal(dirty[name].sample((3,)), y)
        assert not y[:, ~MASK].any()
        density = clean[name].log_prob(y)
        assert torch.equal(dirty[name].log_prob(torch.where(y == 0, torch.nan, y)), density)
        if density.dim() > 2:
            assert not density[:, ~MASK].any()
            assert bool((density[:, MASK] != 0).all())


def test_senders_of_drawn_estimates_are_receiver_draws_with_a_generator(assert_mean):
    """First and second moments of both against the mixture's own."""
    flows, count = make(), 20000
    generator = torch.Generator().manual_seed(3)
    mask = MASK[:1].expand(count, 4)
    log_probs = {
        "elements": torch.log_softmax(torch.randn(1, 4, 5, generator=generator), -1),
        "charges": torch.log_softmax(torch.randn(1, 4, 9, generator=generator), -1),
    }
    for name, own in log_probs.items():
        flow, output = flows[name], CategoricalOutput(own.expand(count, *own.shape[1:]))
        accuracy, known = torch.full((count,), 1.5), {"mask": mask, "generator": generator}
        y = flow.sender(flow.draw(output, **known), accuracy, **known)
        law = flow.receiver(CategoricalOutput(own), accuracy[:1], mask=MASK[:1])
        assert_mean(y.flatten(1), law.mean.flatten())
        assert_mean((y - law.mean).square().flatten(1), law.variance.flatten())
        assert not y[~mask].any()


@pytest.mark.parametrize("accuracy", [0.0, -1.0, float("nan")])
def test_no_receiver_has_an_accuracy_that_is_not_positive(accuracy):
    flows, data = make(), make_data()
    states = flows.prior({name: tuple(value.shape) for name, value in data.items()})
    outputs = flows.outputs(raw_outputs(), states, TIMES)
    for flow, output in (*((flows[n], o) for n, o in outputs.items()),
                         (ContinuousFlow(sigma_1=0.1), outputs["positions"])):  # fmt: skip
        with pytest.raises(ValueError, match=f"needs positive accuracies, got {accuracy}"):
            flow.receiver(output, torch.tensor([1.0, accuracy]))


def test_predictor_binds_a_network():
    flows, seen = make(), {}

    def network(inputs, t, mask):
        seen.update(inputs=inputs, t=t, mask=mask)
        return raw_outputs()

    states = flows.sample(make_data(), TIMES, mask=MASK, generator=torch.Generator())
    outputs = flows.predictor(network, MASK)(states, TIMES)
    assert seen["mask"] is MASK
    assert all(seen["t"][name] is TIMES[name] for name in flows)
    for name, flow in flows.flows.items():
        given = seen["inputs"][name]
        assert not given[~MASK].any()
        assert torch.equal(given[MASK], flow.inputs(states[name], TIMES[name])[MASK])
        expected = flow.output(raw_outputs()[name], states[name], TIMES[name])
        for field in vars(expected):
            torch.testing.assert_close(
                getattr(outputs[name], field), getattr(expected, field), rtol=0, atol=0
            )


def test_a_predictor_takes_one_time_for_all():
    """The network indexes times by variable either way."""
    flows, t = make(), torch.tensor([0.3, 0.8])

    def network(inputs, times, mask):
        return {n: raw + times[n][:, None, None] for n, raw in raw_outputs().items()}

    states = flows.sample(make_data(), t, mask=MASK, generator=torch.Generator())
    predict = flows.predictor(network, MASK)
    for name, output in predict(states, t).items():
        expected = predict(states, flows.times(t))[name]
        assert torch.equal(flows[name].expectation(output), flows[name].expectation(expected))


def test_masks_may_differ_per_variable():
    flows, data = make(), make_data()
    masks = {"positions": MASK, "elements": None}
    dimensions = flows.dimensions(data, mask=masks)
    assert {name: value.tolist() for name, value in dimensions.items()} == {
        "positions": [6, 9],
        "elements": [4, 4],
        "charges": [4, 4],
    }


def test_padding_contents_do_not_matter():
    flows, data = make(), make_data()
    other = {
        name: torch.where(MASK[..., None] if v.dim() == 3 else MASK, v, torch.ones_like(v))
        for name, v in data.items()
    }
    results = []
    for values in (data, other):
        states = flows.sample(values, TIMES, mask=MASK, generator=torch.Generator().manual_seed(0))
        outputs = flows.outputs(raw_outputs(), states, TIMES)
        results.append(flows.continuous_time_loss(values, outputs, TIMES, mask=MASK))
    for name in flows:
        assert torch.equal(results[0][name], results[1][name])


def test_errors():
    with pytest.raises(ValueError, match="at least one"):
        JointFlow()
    with pytest.raises(ValueError, match="charges"):
        make().times({"positions": torch.ones(2), "elements": torch.ones(2)})
    with pytest.raises(TypeError, match="one for each variable, not float"):
        make().sample(make_data(), 0.5)
    with pytest.raises(TypeError, match=r"the time of elements must be a tensor \[B\], not 0.5"):
        make().sample(make_data(), TIMES | {"elements": 0.5})


def test_a_misspelt_mask_is_named():
    flows, data = make(), make_data()
    with pytest.raises(ValueError, match="a mask for atoms, but the variables are positions, elem"):
        flows.sample(data, TIMES, mask={"positions": MASK, "atoms": MASK})


@pytest.mark.parametrize("shape", [(), (1,), (2, 1), (3,)])
def test_times_that_would_broadcast_are_refused(shape):
    """[B, 1] times [B] is [B, B]: a wrong loss without a word."""
    flows, data = make(), make_data()
    states = flows.sample(data, TIMES, mask=MASK)
    outputs = flows.outputs(raw_outputs(), states, TIMES)
    t = torch.full(shape, 0.5)
    for name, flow in flows.flows.items():
        with pytest.raises(ValueError, match="expected one for each sample"):
            flow.sample(data[name], t, mask=MASK)
        with pytest.raises(ValueError, match="expected one for each sample"):
            flow.continuous_time_loss(data[name], outputs[name], t, mask=MASK)
        with pytest.raises(ValueError, match="expected one for each sample"):
            flow.step_loss(data[name], outputs[name], TIMES[name], t, mask=MASK)


def test_outputs_for_other_data_are_refused():
    flows, data = make(), make_data()
    states = flows.sample(data, TIMES, mask=MASK)
    outputs = flows.outputs(raw_outputs(), states, TIMES)
    for name, flow in flows.flows.items():
        wrong = data[name][:1]
        message = r"an output for data of shape \(2, 4.*does not fit data of shape \(1, 4"
        with pytest.raises(ValueError, match=message):
            flow.continuous_time_loss(wrong, outputs[name], TIMES[name][:1])
        with pytest.raises(ValueError, match=message):
            flow.reconstruction_loss(wrong, outputs[name])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.tensor([[0.0, 1.0]]), "must be whole numbers, got float32"),
        (torch.tensor([[0, 5]]), "5 is not one of 0 to 4"),
        (torch.tensor([[-1, 0]]), "-1 is not one of 0 to 4"),
    ],
)
def test_classes_and_bins_are_checked(wrong, message):
    for flow in (DiscreteFlow(classes=5, beta_1=1.0), DiscretisedFlow(bins=5, sigma_1=0.1)):
        with pytest.raises(ValueError, match=message):
            flow.sample(wrong, torch.tensor([0.5]))


def test_step_losses_do_not_depend_on_padding():
    """With one generator a sample, noise is drawn for the data alone."""
    flows, data = make(), make_data()
    raw = raw_outputs()
    wide = {n: torch.cat([x, x[:, :2]], 1) for n, x in data.items()}
    wide_raw = {n: torch.cat([x, x[:, :2]], 1) for n, x in raw.items()}
    wide_mask = torch.cat([MASK, torch.zeros(2, 2, dtype=torch.bool)], 1)
    starts = {name: (own * 5).floor().clamp_max(4) / 5 for name, own in TIMES.items()}
    losses = []
    for values, made, mask in ((data, raw, MASK), (wide, wide_raw, wide_mask)):
        generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        states = flows.sample(values, TIMES, mask=mask, generator=generators)
        outputs = flows.outputs(made, states, TIMES)
        losses.append(
            flows.discrete_time_loss(
                values, outputs, starts, n_steps=5, mask=mask, generator=generators, samples=2
            )
        )
    for name in flows:
        torch.testing.assert_close(losses[0][name], losses[1][name])


@pytest.mark.parametrize(
    ("make", "name"),
    [(lambda **k: DiscreteFlow(classes=3, **k), "beta_1"), (ContinuousFlow, "sigma_1"),
     (lambda **k: DiscretisedFlow(bins=3, **k), "sigma_1")],
)  # fmt: skip
def test_a_schedule_or_its_parameter(make, name):
    schedule = CategoricalSchedule(2.0) if name == "beta_1" else GaussianSchedule(0.1)
    assert make(schedule=schedule).schedule is schedule
    for arguments in ({}, {name: 0.5, "schedule": schedule}):
        with pytest.raises(ValueError, match=f"give either {name} or a schedule"):
            make(**arguments)


def test_the_reconstruction_has_the_schedules_last_spread():
    flow = ContinuousFlow(schedule=GaussianSchedule(0.1))
    assert flow.reconstruction_sigma == pytest.approx(0.1)
