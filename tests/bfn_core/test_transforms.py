"""torch.vmap, torch.func.grad and torch.compile: each gives what plain calls give."""

from __future__ import annotations

import pytest
import torch

from bfn_core import (
    ContinuousFlow,
    DiscreteFlow,
    DiscretisedFlow,
    GaussianState,
    JointFlow,
    MidpointSolver,
    bayesian_sampler,
    ode_solver,
    sde_solver,
)
from bfn_core.tensors import check_classes

FLOWS = {
    "discrete": (DiscreteFlow(classes=5, beta_1=3.0), 5),
    "discretised": (DiscretisedFlow(bins=5, sigma_1=0.1), 2),
}


def batches(name, generator):
    """Six batches of 4 samples with 3 elements: data, raw outputs, times and masks."""
    _, channels = FLOWS[name]
    return (
        torch.randint(0, 5, (6, 4, 3), generator=generator),
        torch.randn(6, 4, 3, channels, generator=generator),
        torch.rand(6, 4, generator=generator),
        torch.rand(6, 4, 3, generator=generator) < 0.7,
    )


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", FLOWS)
def test_losses_of_many_batches_at_once(name, generator):
    flow, _ = FLOWS[name]
    given = batches(name, generator)

    def losses(data, raw, t, mask):
        output = flow.output(raw, flow.prior(data.shape), t)
        return torch.stack([
            flow.continuous_time_loss(data, output, t, mask=mask),
            flow.discrete_time_loss(
                data, output, (t * 10).floor() / 10, n_steps=10, mask=mask, samples=2
            ),
            flow.reconstruction_loss(data, output, mask=mask),
        ])  # fmt: skip

    def seeded(*one):
        torch.manual_seed(3)
        return losses(*one)

    torch.manual_seed(3)
    together = torch.vmap(losses, randomness="same")(*given)
    alone = torch.stack([seeded(*one) for one in zip(*given, strict=True)])
    torch.testing.assert_close(together, alone)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", FLOWS)
def test_gradients_of_each_sample(name, generator):
    flow, channels = FLOWS[name]
    data, _, t, _ = (x[0] for x in batches(name, generator))
    weights = torch.randn(channels, generator=generator)

    def loss(weights, one, time):
        one, time = one[None], time[None]
        raw = torch.tanh(weights).expand(1, 3, channels)
        output = flow.output(raw, flow.prior(one.shape), time)
        both = flow.continuous_time_loss(one, output, time) + flow.reconstruction_loss(one, output)
        return both.sum()

    together = torch.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(weights, data, t)
    leaf = weights.clone().requires_grad_()
    for found, one, time in zip(together, data, t, strict=True):
        (expected,) = torch.autograd.grad(loss(leaf, one, time), leaf)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", FLOWS)
def test_states_go_through_vmap(name, generator):
    flow, _ = FLOWS[name]
    data, _, t, mask = batches(name, generator)
    states = torch.vmap(
        lambda one, time, present: flow.sample(one, time, mask=present), randomness="different"
    )(data, t, mask)
    assert type(states) is type(flow.prior((1,)))
    latents = torch.vmap(flow.latent)(states)
    assert latents.shape[:3] == (6, 4, 3)
    assert not latents[~mask].any()
    assert not torch.equal(latents[0], latents[1])


def test_classes_are_looked_at_where_they_can_be():
    flow, _ = FLOWS["discrete"]
    for wrong in (5, -1):
        with pytest.raises(ValueError, match=f"class or bin {wrong} is not one of 0 to 4"):
            flow.embed(torch.tensor([[wrong, 0]]))
        # Data that all calls of vmap share are there to be looked at.
        with pytest.raises(ValueError, match=f"class or bin {wrong} is not one of 0 to 4"):
            torch.vmap(lambda x, wrong=wrong: x * flow.embed(torch.tensor([wrong])))(torch.ones(2))
        with pytest.raises(RuntimeError, match="out of bounds"):
            torch.vmap(flow.embed)(torch.tensor([[wrong], [0]]))
    with pytest.raises(ValueError, match="must be whole numbers, got float32"):
        torch.vmap(lambda x: x * check_classes(x, 5))(torch.ones(2))


JOINT = JointFlow(x=DiscreteFlow(classes=5, beta_1=3.0), y=ContinuousFlow(sigma_1=0.1))
MASK = torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()


def network(inputs, times, mask=None):
    seen = torch.cat([inputs["x"], inputs["y"][..., None]], -1).sin()
    seen = seen * mask[..., None] * times["x"][:, None, None].cos()
    return {"x": seen[..., :5], "y": seen[..., 5]}


each_sampler = pytest.mark.parametrize(
    "sampler",
    [bayesian_sampler(), sde_solver(), ode_solver(), MidpointSolver()],
    ids=["bayesian", "sde", "ode", "midpoint"],
)


def two_steps(sampler):
    """Return what makes data and times [B] into the states after two steps and the last outputs."""
    predict = JOINT.predictor(network, MASK)

    def steps(x, y, t):
        states = JOINT.sample({"x": x, "y": y}, t, mask=MASK)
        history = sampler.init(states, JOINT.times(t))
        for start, end in ((t, t + 0.3), (t + 0.3, t + 0.5)):
            outputs = predict(history.current, JOINT.times(start))
            history = sampler.step(JOINT, history, outputs, JOINT.times(end), mask=MASK)
        return dict(history.current), dict(outputs)

    return steps


@each_sampler
def test_two_sampling_steps_in_one_graph(sampler):
    def steps(x, y, t):
        states, _ = two_steps(sampler)(x, y, t)
        return states["x"].logits, states["y"].mean

    given = torch.tensor([[0, 3, 0], [4, 0, 0]]), torch.tensor([[0.1, -0.7, 0], [1, 0, 0]])
    t = torch.tensor([0.0, 0.4])
    torch.compiler.reset()
    torch.manual_seed(4)
    found = torch.compile(steps, backend="eager", fullgraph=True)(*given, t)
    torch.manual_seed(4)
    for one, other in zip(found, steps(*given, t), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", FLOWS)
def test_a_training_step_in_one_graph(name, generator):
    flow, _ = FLOWS[name]
    data, raw, t, mask = (x[0] for x in batches(name, generator))

    def step(data, raw, t, mask):
        state = flow.sample(data, t, mask=mask)
        output = flow.output(raw, state, t)
        loss = flow.continuous_time_loss(data, output, t, mask=mask)
        starts = (t * 5).floor() / 5
        loss = loss + flow.discrete_time_loss(data, output, starts, n_steps=5, mask=mask)
        return loss + flow.reconstruction_loss(data, output, mask=mask)

    torch.compiler.reset()
    torch.manual_seed(4)
    found = torch.compile(step, backend="eager", fullgraph=True)(data, raw, t, mask)
    torch.manual_seed(4)
    torch.testing.assert_close(found, step(data, raw, t, mask))


def test_states_are_pytrees():
    state = GaussianState(torch.zeros(2, 3), torch.ones(2))
    doubled = torch.utils._pytree.tree_map(lambda x: 2 * x + 1, state)
    assert isinstance(doubled, GaussianState)
    assert torch.equal(doubled.precision, torch.full((2,), 3.0))
    assert torch.equal(doubled.mean, torch.ones(2, 3))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@each_sampler
def test_two_sampling_steps_of_many_batches_at_once(sampler):
    steps = two_steps(sampler)
    given = torch.randint(0, 5, (3, 2, 3)), torch.randn(3, 2, 3), torch.rand(3, 2) * 0.4 + 0.05
    torch.manual_seed(4)
    states, outputs = torch.vmap(steps, randomness="same")(*given)
    for index, one in enumerate(zip(*given, strict=True)):
        torch.manual_seed(4)
        own, said = steps(*one)
        torch.testing.assert_close(states["x"].logits[index], own["x"].logits)
        torch.testing.assert_close(states["y"].mean[index], own["y"].mean)
        torch.testing.assert_close(outputs["y"].mean[index], said["y"].mean)
