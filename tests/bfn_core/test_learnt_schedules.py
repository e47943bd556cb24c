"""Schedules with parameters: gradients by them against differences, t = 0 among the times."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from bfn_core import (
    AccuracySchedule,
    ContinuousFlow,
    DiscreteFlow,
    DiscretisedFlow,
    GaussianSchedule,
    JointFlow,
    MidpointSolver,
    ObservationSampler,
    PointOutput,
    SolverSampler,
    ode_solver,
    renoise_sampler,
    sample_steps,
    sde_solver,
)

T = torch.tensor([0.0, 0.3, 0.5], dtype=torch.float64)


class Learnt(AccuracySchedule):
    """``beta = e^(2 p t) - 1``, the Gaussian one of sigma_1 = e^-p."""

    def __init__(self, p):
        self.p = torch.tensor(p, dtype=torch.float64, requires_grad=True)

    def beta(self, t):
        return torch.expm1(2 * self.p * t)

    def rate(self, t):
        return 2 * self.p * torch.exp(2 * self.p * t)


def difference(function, p, width=1e-5):
    with torch.no_grad():
        return float(function(Learnt(p + width)) - function(Learnt(p - width))) / (2 * width)


def slope(function, p):
    schedule = Learnt(p)
    value = function(schedule)
    assert bool(value.isfinite())
    (found,) = torch.autograd.grad(value, schedule.p)
    return float(found)


FLOWS = {
    "continuous": lambda schedule: ContinuousFlow(schedule=schedule),
    "centred": lambda schedule: ContinuousFlow(schedule=schedule, centred=True),
    "discretised": lambda schedule: DiscretisedFlow(bins=4, schedule=schedule),
    "discrete": lambda schedule: DiscreteFlow(classes=4, schedule=schedule, residual=True),
}


def data_of(name):
    if name == "centred":
        return torch.tensor([[[0.3, 0.1], [-0.3, -0.1]]], dtype=torch.float64).expand(3, 2, 2)
    if name == "continuous":
        return torch.tensor([[0.3, -0.7]] * 3, dtype=torch.float64)
    return torch.tensor([[3, 0], [1, 2], [0, 0]])


@pytest.mark.usefixtures("float64_default")
@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("loss", ["continuous_time_loss", "discrete_time_loss"])
def test_losses_of_sampled_states(name, loss):
    """The states move with the schedule too: at t = 0 not at all."""

    def mean_loss(schedule):
        flow, data = FLOWS[name](schedule), data_of(name)
        generator = torch.Generator().manual_seed(2)
        state = flow.sample(data, T, generator=generator)
        raw = 0.7 * flow.inputs(state, T)
        if name == "discretised":
            raw = torch.stack([raw, 0.2 * raw - 1], -1)
        output = flow.output(raw, state, T)
        noisy = loss == "discrete_time_loss"
        options = {"n_steps": 4, "generator": generator, "samples": 2} if noisy else {}
        times = (T * 4).floor() / 4 if noisy else T
        return getattr(flow, loss)(data, output, times, **options).mean()

    assert slope(mean_loss, 1.2) == pytest.approx(difference(mean_loss, 1.2), rel=1e-6)


@pytest.mark.usefixtures("float64_default")
@pytest.mark.parametrize("name", FLOWS)
def test_latent_scales_and_observations(name):
    def sum_of_scales(schedule):
        scales = FLOWS[name](schedule).latent_scales(T)
        return (scales.signal + 3 * scales.noise).sum()

    def observed(schedule, temperature, *, sent=False):
        flow, data = FLOWS[name](schedule), data_of(name)
        options = {"generator": torch.Generator().manual_seed(2), "temperature": temperature}
        accuracy = schedule.beta(T + 0.1 if sent and name != "discrete" else T)
        if sent:
            return flow.sender(flow.embed(data), accuracy, **options).sin().sum()
        state = flow.observe(flow.prior(data.shape), flow.embed(data), accuracy, **options)
        return flow.latent(state).sin().sum()

    functions = [sum_of_scales]
    for temperature in (0.0, 1.0):
        functions.append(lambda s, t=temperature: observed(s, t))
        functions.append(lambda s, t=temperature: observed(s, t, sent=True))
    for function in functions:
        expected = difference(function, 1.2)
        assert slope(function, 1.2) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.usefixtures("float64_default")
@pytest.mark.parametrize("p", [1.0, 2.6, 6.0])  # s = 2 alpha K is 300, 1e4 and 9e6
def test_long_steps_of_classes(p):
    def mean_loss(schedule):
        flow = DiscreteFlow(classes=27, schedule=schedule)
        logits = torch.linspace(-1, 1, 27).expand(1, 2, 27)
        output = flow.output(logits, flow.prior((1, 2)), torch.zeros(1))
        generator = torch.Generator().manual_seed(2)
        ends = torch.tensor([[0.3], [1.0]])
        return flow.step_loss(torch.tensor([[5, 20]]), output, *ends, generator=generator).sum()

    assert slope(mean_loss, p) == pytest.approx(difference(mean_loss, p), rel=1e-5)


@pytest.mark.parametrize("bins", [None, 8])
def test_the_reconstruction_s_spread_is_learnt_too(bins):
    data = torch.tensor([[0.125, 0.375], [0.625, -0.875]], dtype=torch.float64)
    output = PointOutput(data + 0.05)

    def loss(schedule):
        flow = ContinuousFlow(schedule=schedule, reconstruction_bins=bins)
        return flow.reconstruction_loss(data, output).sum()

    assert slope(loss, 1.9) == pytest.approx(difference(loss, 1.9), rel=1e-6)
    fixed = GaussianSchedule(math.exp(-1.9))
    assert float(loss(Learnt(1.9)).detach()) == pytest.approx(float(loss(fixed)))


def test_the_reconstruction_s_spread_is_the_schedule_s_of_now():
    schedule = Learnt(2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow = ContinuousFlow(schedule=schedule)
        assert flow.reconstruction_sigma == pytest.approx(math.exp(-2))
        schedule.p.data.fill_(4.0)
        assert flow.reconstruction_sigma == pytest.approx(math.exp(-4))
        given = ContinuousFlow(schedule=schedule, reconstruction_sigma=0.3)
    assert given.reconstruction_sigma == 0.3


SAMPLERS = {
    "observations": ObservationSampler(window=1),
    "renoise": renoise_sampler(),
    "ode1": ode_solver(order=1),
    "ode2": ode_solver(),
    "ode2 as published": ode_solver(slope="paper"),
    "sde2": sde_solver(),
    "sde2 as published": sde_solver(slope="paper"),
    "forgetful": SolverSampler(churn=math.inf),
    "about Gaussian data": SolverSampler(spread={"x": 0.7}, renoise_from=0.6),
    "between": SolverSampler(churn=0.4, spread={"x": 0.7}),
    "midpoint": MidpointSolver(),
}


@pytest.mark.usefixtures("float64_default")
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", FLOWS)
def test_samples(name, sampler):
    """The first step is from t = 0, where no logarithm of an accuracy is finite."""

    def sampled(schedule):
        flows = JointFlow(x=FLOWS[name](schedule))

        def network(inputs, t, mask):
            raw = 0.7 * torch.sin(inputs["x"] + t["x"].view(-1, *[1] * (inputs["x"].ndim - 1)))
            return {"x": torch.stack([raw, 0.2 * raw - 1], -1) if name == "discretised" else raw}

        *_, last = sample_steps(
            flows,
            flows.predictor(network),
            {"x": data_of(name).shape},
            grid=torch.tensor([0.0, 0.2, 0.5, 0.8, 1.0]),
            sampler=SAMPLERS[sampler],
            generator=torch.Generator().manual_seed(4),
            dtype=torch.float64,
        )
        found = flows["x"].expectation(last.outputs["x"])
        return (found.flatten() * torch.linspace(-1, 2, found.numel())).sum()

    expected = difference(sampled, 0.5)
    assert abs(expected) > 1e-4
    assert slope(sampled, 0.5) == pytest.approx(expected, rel=1e-5)
