"""What all flows inherit: the flow sample and the n-step loss."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from bfn_core.flows import ContinuousFlow, DiscreteFlow, DiscretisedFlow, PointOutput

FLOWS = {
    "continuous": (ContinuousFlow(sigma_1=0.05), torch.tensor([[0.3, -0.2]])),
    "discretised": (DiscretisedFlow(bins=4, sigma_1=0.05), torch.tensor([[3, 0]])),
    "discrete": (DiscreteFlow(classes=4, beta_1=2.0), torch.tensor([[3, 0]])),
}


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_sample_is_one_observation_of_the_prior(name):
    flow, data = FLOWS[name]
    t = torch.tensor([0.4])
    same = [torch.Generator().manual_seed(3) for _ in range(2)]
    sample = flow.sample(data, t, generator=same[0])
    prior, accuracy = flow.prior(data.shape), flow.schedule.beta(t)
    y = flow.sender(flow.embed(data), accuracy, generator=same[1])
    expected = flow.update(prior, y, accuracy)
    for field in vars(expected):
        torch.testing.assert_close(getattr(sample, field), getattr(expected, field))


@pytest.mark.parametrize("name", FLOWS)
def test_n_step_loss_is_n_times_the_step_loss(name):
    flow, data = FLOWS[name]
    t = torch.tensor([0.6])
    state = flow.prior(data.shape)
    channels = {"continuous": (), "discretised": (2,), "discrete": (4,)}[name]
    output = flow.output(torch.zeros(1, 2, *channels), state, t)
    same = [torch.Generator().manual_seed(3) for _ in range(2)]
    total = flow.discrete_time_loss(data, output, t, n_steps=5, generator=same[0], samples=3)
    step = flow.step_loss(data, output, t, torch.tensor([0.8]), generator=same[1], samples=3)
    torch.testing.assert_close(total, 5 * step, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FLOWS)
def test_times_in_half_precision_and_no_draws_are_refused(name):
    flow, data = FLOWS[name]
    channels = {"continuous": (), "discretised": (2,), "discrete": (4,)}[name]
    t = torch.tensor([0.6])
    output = flow.output(torch.zeros(1, 2, *channels), flow.prior(data.shape), t)
    with pytest.raises(ValueError, match="times must be float32 or float64, got bfloat16"):
        flow.continuous_time_loss(data, output, t.bfloat16())
    with pytest.raises(ValueError, match="got float16"):
        flow.step_loss(data, output, t, t.half())
    if name != "continuous":  # whose step has a closed form
        with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
            flow.step_loss(data, output, t, torch.tensor([0.8]), samples=0)


@pytest.mark.parametrize("name", ["discretised", "discrete"])
@pytest.mark.parametrize("wrong", [4, -1, 0.9])
def test_the_reconstruction_of_what_is_no_class(name, wrong):
    flow, data = FLOWS[name]
    channels = {"discretised": (2,), "discrete": (4,)}[name]
    output = flow.output(torch.zeros(1, 2, *channels), flow.prior(data.shape), torch.ones(1))
    with pytest.raises(ValueError, match=r"whole numbers|is not one of 0 to 3"):
        flow.reconstruction_loss(torch.full((1, 2), wrong), output)


def test_l_n_of_a_gaussian_converges_to_its_information():
    # Exact network on x ~ N(0, s^2): the mean squared error at accuracy beta is s^2/(1 + beta s^2),
    # so L^infinity = int_0^beta_1 s^2 / (1 + b s^2) db / 2 = ln(1 + beta_1 s^2) / 2: the mutual
    # information between x and what was sent.
    flow, spread = ContinuousFlow(sigma_1=0.05), 0.8
    beta_1 = 0.05**-2 - 1
    limit = 0.5 * math.log1p(beta_1 * spread**2)

    def exact_output(t):
        error = spread**2 / (1 + flow.schedule.beta(t) * spread**2)
        return PointOutput(torch.sqrt(error)[:, None])  # off the datum 0 by the expected error

    gaps = []
    for n in (10, 100, 1000, 10000):
        t = torch.arange(n, dtype=torch.float64) / n
        data = torch.zeros(n, 1, dtype=torch.float64)
        loss = flow.discrete_time_loss(data, exact_output(t), t, n_steps=n).mean()
        gaps.append(float(loss) - limit)
    assert all(gap > 0 for gap in gaps)
    for coarse, fine in itertools.pairwise(gaps[1:]):
        assert coarse / fine == pytest.approx(10, rel=0.05)
    t = (torch.arange(10000, dtype=torch.float64) + 0.5) / 10000
    data = torch.zeros(10000, 1, dtype=torch.float64)
    continuous = flow.continuous_time_loss(data, exact_output(t), t).mean()
    assert float(continuous) == pytest.approx(limit, rel=1e-6)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (torch.tensor([0.5, 1.5]), r"must lie in \[0, 1\], got 0.5 to 1.5"),
        (torch.tensor([-3.0, 0.5]), r"must lie in \[0, 1\]"),
        (torch.tensor([0.5, torch.nan]), r"must lie in \[0, 1\]"),
        (torch.tensor([0, 1]), "must be floats from 0 to 1, got torch.int64"),
    ],
)
def test_times_that_are_none_are_refused(times, message):
    flow = ContinuousFlow(sigma_1=0.1)
    with pytest.raises(ValueError, match=message):
        flow.sample(torch.zeros(2, 3), times)


@pytest.mark.parametrize("times", [[0.0, 0.05], [0.9, 1.0], [0.123, 0.7]])
def test_no_step_begins_anywhere_else(times):
    flow, data = ContinuousFlow(sigma_1=0.1), torch.zeros(2, 3)
    output = PointOutput(data + 1)
    right = flow.discrete_time_loss(data, output, torch.tensor([0.0, 0.9]), n_steps=10)
    assert bool((right > 0).all())
    with pytest.raises(ValueError, match=r"t must be 0, 1/10, ... or 9/10, where a step begins"):
        flow.discrete_time_loss(data, output, torch.tensor(times), n_steps=10)


@pytest.mark.parametrize("name", FLOWS)
def test_a_step_that_ends_before_it_begins_is_refused(name):
    flow, data = FLOWS[name]
    prior, shape = flow.prior(data.shape), {"discrete": (4,), "discretised": (2,)}.get(name, ())
    output = flow.output(torch.zeros(1, 2, *shape), prior, torch.zeros(1))
    late, early = torch.tensor([0.6]), torch.tensor([0.4])
    with pytest.raises(ValueError, match="must not end before it begins"):
        flow.step_loss(data, output, late, early)
    assert float(flow.step_loss(data, output, early, late)) != 0
    assert float(flow.step_loss(data, output, early, early)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", FLOWS)
def test_observations_have_the_precision_of_the_estimate(name):
    flow, data = FLOWS[name]
    y = flow.sender(flow.embed(data), torch.ones(1, dtype=torch.float64))
    assert y.dtype == torch.float32


@pytest.mark.parametrize("name", [*FLOWS, "centred"])
def test_a_batch_of_nothing(name):
    if name == "centred":
        flow, data = ContinuousFlow(sigma_1=0.05, centred=True), torch.zeros(0, 4, 3)
    else:
        flow, data = FLOWS[name][0], FLOWS[name][1][:0]
    t, raw = torch.zeros(0), {"discrete": (4,), "discretised": (2,)}.get(name, ())
    output = flow.output(torch.zeros(*data.shape, *raw), flow.sample(data, t), t)
    receiver = flow.receiver(output, torch.zeros(0))
    assert flow.sender(flow.embed(data), torch.ones(0)).shape[0] == 0
    assert receiver.batch_shape[0] == 0
    assert flow.step_loss(data, output, t, t).shape == (0,)
    assert flow.reconstruction_loss(data, output).shape == (0,)


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16, torch.int16, torch.int32, torch.bool])
@pytest.mark.parametrize("name", ["discretised", "discrete"])
def test_any_whole_numbers_are_classes(name, kind):
    flow, _ = FLOWS[name]
    data = torch.tensor([[1, 0]])
    assert torch.equal(flow.embed(data.to(kind)), flow.embed(data))
