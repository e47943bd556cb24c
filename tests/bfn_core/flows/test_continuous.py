"""Losses of continuous data against torch.distributions and scipy."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.distributions import Normal, kl_divergence

from bfn_core.flows import ContinuousFlow, GaussianState, PointOutput
from bfn_core.parameterisation import DataPrediction, NoisePrediction, PreconditionedPrediction
from bfn_core.tensors import centre

SETTINGS = settings(max_examples=40, deadline=None, derandomize=True)
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()


def pair(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 2, 4, 3, generator=generator, dtype=dtype)


@SETTINGS
@given(seed=st.integers(0, 2**20), start=st.floats(0, 0.99), length=st.floats(1e-3, 0.5))
def test_step_loss_is_the_kl_of_sender_and_receiver(seed, start, length):
    flow = ContinuousFlow(sigma_1=0.05)
    data, estimate = pair(seed)
    t = torch.full((2,), start, dtype=torch.float64)
    end = (t + length).clamp_max(1.0)
    accuracy = flow.schedule.increment(t, end)
    receiver = flow.receiver(PointOutput(estimate), accuracy)
    sender = Normal(data, accuracy.rsqrt()[:, None, None].expand_as(data))
    expected = kl_divergence(sender, receiver).sum((1, 2))
    torch.testing.assert_close(flow.step_loss(data, PointOutput(estimate), t, end), expected)


def test_continuous_time_loss_of_the_paper():
    # -ln(sigma_1) ||x - x_hat||^2 / sigma_1^(2t), eq. 101.
    flow = ContinuousFlow(sigma_1=0.05)
    data, estimate = pair()
    t = torch.tensor([0.0, 0.8], dtype=torch.float64)
    expected = -math.log(0.05) * (data - estimate).square().sum((1, 2)) / 0.05 ** (2 * t)
    torch.testing.assert_close(flow.continuous_time_loss(data, PointOutput(estimate), t), expected)


def test_n_step_loss_converges_to_the_continuous_one():
    flow = ContinuousFlow(sigma_1=0.05)
    data, estimate = pair()
    t = torch.tensor([0.25, 0.75], dtype=torch.float64)
    limit = flow.continuous_time_loss(data, PointOutput(estimate), t)
    errors = [
        flow.discrete_time_loss(data, PointOutput(estimate), t, n_steps=n) / limit - 1
        for n in (100, 1000, 10000)
    ]
    for coarse, fine in itertools.pairwise(errors):
        torch.testing.assert_close(coarse / fine, torch.full_like(fine, 10.0), rtol=0.05, atol=0)


def test_centred_losses_ignore_the_mean():
    flow = ContinuousFlow(sigma_1=0.05, centred=True)
    data, estimate = pair()
    t, end = torch.tensor([0.2, 0.7]).double(), torch.tensor([0.4, 1.0]).double()
    shifted = PointOutput(estimate + 7.0)
    plain = ContinuousFlow(sigma_1=0.05)
    projected = centre(data, MASK), PointOutput(centre(estimate, MASK))
    for name, times in (("continuous_time_loss", (t,)), ("step_loss", (t, end))):
        actual = getattr(flow, name)(data - 3.0, shifted, *times, mask=MASK)
        expected = getattr(plain, name)(*projected, *times, mask=MASK)
        torch.testing.assert_close(actual, expected)


def test_centred_step_loss_is_a_kl_in_the_subspace(assert_mean):
    flow = ContinuousFlow(sigma_1=0.05, centred=True)
    torch.manual_seed(1)
    data, estimate = pair()
    t, end = torch.tensor([0.2, 0.3]).double(), torch.tensor([0.4, 0.5]).double()
    accuracy = flow.schedule.increment(t, end)
    sender = flow.receiver(PointOutput(data), accuracy, mask=MASK)
    receiver = flow.receiver(PointOutput(estimate), accuracy, mask=MASK)
    ratios = torch.stack(
        [sender.log_prob(y) - receiver.log_prob(y) for y in sender.rsample((1500,))]
    )
    assert_mean(ratios, flow.step_loss(data, PointOutput(estimate), t, end, mask=MASK))


def test_reconstruction_is_a_gaussian_log_density():
    data, estimate = pair()
    flow = ContinuousFlow(sigma_1=0.05, reconstruction_sigma=0.3)
    expected = -Normal(estimate, 0.3).log_prob(data)
    torch.testing.assert_close(
        flow.reconstruction_loss(data, PointOutput(estimate)), expected.sum((1, 2))
    )
    torch.testing.assert_close(
        flow.reconstruction_loss(data, PointOutput(estimate), mask=MASK),
        (expected * MASK[..., None]).sum((1, 2)),
    )
    assert ContinuousFlow(sigma_1=0.05).reconstruction_sigma == 0.05


def test_centred_reconstruction_is_the_receiver_density():
    data, estimate = pair()
    flow = ContinuousFlow(sigma_1=0.05, centred=True)
    accuracy = torch.full((2,), 0.05**-2, dtype=torch.float64)
    law = flow.receiver(PointOutput(estimate), accuracy, mask=MASK)
    actual = flow.reconstruction_loss(data, PointOutput(estimate), mask=MASK)
    torch.testing.assert_close(actual, -law.log_prob(data))


def test_binned_reconstruction_is_a_discretised_normal():
    bins, sigma = 16, 0.7 * math.sqrt(1e-3)
    flow = ContinuousFlow(
        sigma_1=math.sqrt(1e-3), reconstruction_sigma=sigma, reconstruction_bins=bins
    )
    index = torch.tensor([[0, 3, 8, 15]])
    data = (2 * index.double() + 1) / bins - 1
    estimate = data + torch.tensor([[0.05, -0.11, 0.0, 0.4]]).double()
    law = stats.norm(estimate.numpy(), sigma)
    upper = torch.from_numpy(law.cdf((data + 1 / bins).numpy())) - torch.from_numpy(
        law.cdf((data - 1 / bins).numpy())
    )
    upper[0, 0] = law.cdf((data + 1 / bins).numpy())[0, 0]
    upper[0, 3] = law.sf((data - 1 / bins).numpy())[0, 3]
    actual = flow.reconstruction_loss(data, PointOutput(estimate))
    torch.testing.assert_close(actual, -upper.log().sum(1), rtol=1e-6, atol=1e-8)
    # float32 puts the same values into the same bins.
    single = flow.reconstruction_loss(data.float(), PointOutput(estimate.float()))
    torch.testing.assert_close(single.double(), actual, rtol=1e-4, atol=1e-4)
    # All bins together are certain.
    centres = (2 * torch.arange(bins).double() + 1) / bins - 1
    every = flow.reconstruction_loss(
        centres[:, None], PointOutput(torch.full((bins, 1), 0.2, dtype=torch.float64))
    )
    assert float((-every).exp().sum()) == pytest.approx(1, abs=1e-6)


def test_dimensions():
    data = torch.zeros(2, 4, 3)
    plain, centred = (ContinuousFlow(sigma_1=0.1, centred=value) for value in (False, True))
    assert plain.dimensions(data).tolist() == [12, 12]
    assert plain.dimensions(data, mask=MASK).tolist() == [9, 12]
    assert centred.dimensions(data, mask=MASK).tolist() == [6, 9]
    assert centred.dimensions(data, mask=torch.zeros(2, 4).bool()).tolist() == [0, 0]
    assert plain.dimensions(torch.zeros(5)).tolist() == [1] * 5


def test_point_output_is_its_own_expectation_draw_and_mode():
    output, flow = PointOutput(torch.randn(2, 3)), ContinuousFlow(sigma_1=0.1)
    for value in (flow.expectation(output), flow.draw(output), flow.mode(output)):
        assert value is output.mean


@pytest.mark.parametrize(
    "parameterisation", [DataPrediction(), NoisePrediction(), PreconditionedPrediction()]
)
def test_float32_losses_agree_with_float64(parameterisation):
    flow = ContinuousFlow(sigma_1=1e-3, parameterisation=parameterisation)
    t = torch.tensor([0.0, 1e-6, 0.01, 0.5, 1.0])
    starts = torch.tensor([0, 0, 1, 12, 24]) / 25
    schedule, high = flow.schedule, t.double()
    data = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    spread = torch.sqrt(schedule.gamma(high) * schedule.gamma_complement(high))
    mean = (schedule.gamma(high)[:, None] * data) + 0.5 * spread[:, None]
    raw = torch.full((5, 1), 0.3, dtype=torch.float64)
    results = []
    for dtype in (torch.float32, torch.float64):
        state = GaussianState(mean.to(dtype), torch.ones(5, dtype=dtype))
        free = raw.to(dtype).requires_grad_()
        output = flow.output(free, state, t.to(dtype))
        loss = flow.continuous_time_loss(data.to(dtype), output, t.to(dtype))
        steps = flow.discrete_time_loss(data.to(dtype), output, starts.to(dtype), n_steps=25)
        reconstruction = flow.reconstruction_loss(data.to(dtype), output)
        (slope,) = torch.autograd.grad(loss.sum(), free)
        results.append([loss, steps, reconstruction, slope])
    for single, double in zip(*results, strict=True):
        assert single.dtype == torch.float32
        assert bool(single.isfinite().all())
        torch.testing.assert_close(single[:-1].double(), double[:-1], rtol=1e-4, atol=1e-4)
        # At t = 1, float32 stores x near 1 to 6e-8, that is to 6e-5 sigma_1, and the losses are
        # quadratic in errors of about half a sigma_1.
        torch.testing.assert_close(single[-1].double(), double[-1], rtol=1e-3, atol=1e-3)


def test_losses_are_float32_under_autocast():
    flow, network = ContinuousFlow(sigma_1=1e-3), torch.nn.Linear(3, 3)
    torch.manual_seed(0)
    data, t = torch.randn(4, 3), torch.tensor([0.0, 0.3, 0.9, 1.0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        state = flow.sample(data, t)
        raw = network(flow.inputs(state, t))
        assert raw.dtype == torch.bfloat16
        output = flow.output(raw, state, t)
        losses = [
            flow.continuous_time_loss(data, output, t),
            flow.discrete_time_loss(data, output, t.clamp_max(0.9), n_steps=10),
            flow.reconstruction_loss(data, output),
        ]
    for loss in losses:
        assert loss.dtype == torch.float32
        assert bool(loss.isfinite().all())
    # The residual form keeps the error of a bfloat16 output proportional to c_out.
    assert float((output.mean - data)[-1].detach().abs().max()) < 0.02


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"sigma_1": 0.0}, "sigma_1"),
        ({"sigma_1": 0.1, "reconstruction_sigma": 0.0}, "reconstruction_sigma"),
        ({"sigma_1": 0.1, "reconstruction_bins": 1}, "reconstruction_bins"),
        ({"sigma_1": 0.1, "reconstruction_bins": 8, "centred": True}, "centred"),
        ({"sigma_1": 0.1, "limit": -1.0}, "limit"),
        ({"sigma_1": 0.1, "limit": float("nan")}, "limit"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=name):
        ContinuousFlow(**arguments)


def test_estimates_are_clipped_to_the_limit():
    state = GaussianState(torch.zeros(1, 4), torch.ones(1))
    raw, t = torch.tensor([[-3.0, -0.5, 0.5, 3.0]]), torch.ones(1)
    options = {"sigma_1": 0.1, "parameterisation": DataPrediction()}
    clipped = ContinuousFlow(**options, limit=1.0).output(raw, state, t).mean
    assert clipped.tolist() == [[-1.0, -0.5, 0.5, 1.0]]
    assert torch.equal(ContinuousFlow(**options).output(raw, state, t).mean, raw)


def test_a_raw_output_of_another_shape_is_not_broadcast():
    flow = ContinuousFlow(sigma_1=0.1)
    with pytest.raises(ValueError, match=r"\(3, 3, 1\) where \(3, 3\) is expected"):
        flow.output(torch.zeros(3, 3, 1), flow.prior((3, 3)), torch.zeros(3))


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 5, 3)])
def test_centred_data_are_points(shape):
    flow = ContinuousFlow(sigma_1=0.1, centred=True)
    for call in (lambda x: flow.sample(x, torch.zeros(2)), flow.dimensions):
        with pytest.raises(ValueError, match=r"centred data must be \[B, N, D\], got \(2, 4"):
            call(torch.zeros(shape))


def test_bad_number_of_steps():
    data, estimate = pair()
    with pytest.raises(ValueError, match="n_steps"):
        ContinuousFlow(sigma_1=0.1).discrete_time_loss(
            data, PointOutput(estimate), torch.zeros(2), n_steps=0
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_data_of_half_precision_are_counted_and_centred_in_float32(dtype):
    plain, centred = (ContinuousFlow(sigma_1=0.01, centred=value) for value in (False, True))
    many = torch.randn(1, 300, 301).to(dtype)
    assert plain.dimensions(many).tolist() == [90300]
    assert bool(plain.reconstruction_loss(many, PointOutput(many.float())).isfinite())
    points = (torch.randn(2, 9, 3) + 5).to(dtype)
    exact = PointOutput(points.float() - points.float().mean(1, keepdim=True))
    losses = centred.continuous_time_loss(points, exact, torch.ones(2))
    assert losses.dtype == torch.float32
    assert bool((losses < 1e-3).all())


def test_evidence_moves_an_estimate_no_further_than_to_the_limit():
    flow = ContinuousFlow(sigma_1=0.1, limit=1.0)
    output, t = PointOutput(torch.tensor([[0.2, -0.2]])), torch.tensor([0.25])
    moved = flow.given_evidence(output, torch.tensor([[0.5, -50.0]]), t).mean
    # 1 - gamma = sigma_1^(2 t)
    torch.testing.assert_close(moved, torch.tensor([[0.2 + 0.5 * 0.1**0.5, -1.0]]))
