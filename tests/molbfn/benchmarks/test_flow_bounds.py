import math

import numpy as np
import pytest
import torch

from molbfn.benchmarks.flow_bounds import describe_flow, measure_flow_bound
from molbfn.errors import UserError


class Constant:
    """One black-and-white image again and again."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def take(self, index, generator):
        images = torch.zeros(len(index), 28, 28, dtype=torch.int64)
        images[:, :2, :2] = 1
        return images


@pytest.fixture
def uninformed(tiny_model):
    """A model that gives both classes 1/2 whatever it sees."""
    model = tiny_model("mnist_small", "flow.residual=false")
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    return model


def test_both_bounds_of_a_constant_output(uninformed):
    """The ODE scales its noise then, so that p_1 = N(0, K / beta_1), and
    KL(N(s, K / beta_1) | p_1) = beta_1 |s|^2 / (2 K) = 9 / 2 a pixel: what L^infinity is too."""
    figure = measure_flow_bound(uninformed, Constant(24), solver_steps=4, eta=1e-3, batch_size=9)
    expected = 784 * (4.5 + math.log(2))
    # One draw is off by the noise along s: standard deviation |s| / sigma = sqrt(784 * 9).
    assert figure.error == pytest.approx(84 / math.sqrt(48), rel=0.5)
    assert abs(figure.nats - expected) < 4 * 84 / math.sqrt(48)
    assert figure.variational == pytest.approx(expected, rel=1 / 16)
    assert figure.excess == pytest.approx(figure.nats - figure.variational)
    assert figure.bits_per_dimension == pytest.approx(figure.nats / 784 / math.log(2))
    assert (figure.samples, figure.passes, figure.dimensions) == (24, 2, 784)
    assert (figure.solver_steps, figure.probes, figure.calls) == (4, 1, 17)


def test_errors_are_what_repeated_measurements_scatter_by(uninformed):
    figures = [
        measure_flow_bound(uninformed, Constant(4), solver_steps=1, eta=0.1, seed=seed)
        for seed in range(25)
    ]
    for value, error in (("nats", "error"), ("excess", "excess_error")):
        scatter = np.std([getattr(figure, value) for figure in figures], ddof=1)
        claimed = math.sqrt(np.mean([getattr(figure, error) ** 2 for figure in figures]))
        assert 0.6 < claimed / scatter < 1.6


@pytest.mark.parametrize(
    "name", ["mnist_small", "cifar10_16_small", "cifar10_continuous_small", "text8_small"]
)
def test_steps_converge_on_the_same_draws(tiny_model, name):
    """Data of every kind: two and three times the steps tell the same, few steps another."""
    model = tiny_model(name, *(["data.length=20"] if "text8" in name else []))
    shape, whole = model.shape, name != "cifar10_continuous_small"

    class Random(Constant):
        def take(self, index, generator):
            values = torch.rand(len(index), *shape, generator=generator)
            return (values * 1.99).long() if whole else 2 * values - 1

    few, more, most = (
        measure_flow_bound(model, Random(1), solver_steps=steps, eta=0.02).nats
        for steps in (2, 8, 16)
    )
    assert abs(most - more) < 0.2 * abs(most - few) + 1e-5 * abs(most)


def test_a_seed_repeats_itself(tiny_model):
    model, options = tiny_model(), {"solver_steps": 1, "eta": 0.1}
    one, same, other = (
        measure_flow_bound(model, Constant(2), seed=seed, **options) for seed in (1, 1, 2)
    )
    assert one == same
    assert one.nats != other.nats
    more = measure_flow_bound(model, Constant(2), seed=1, probes=3, **options)
    assert more.calls == one.calls
    assert more.nats != one.nats


def test_one_sample_has_no_spread(uninformed):
    figure = measure_flow_bound(uninformed, Constant(1), solver_steps=1, eta=0.1)
    assert figure.spread is None
    assert figure.excess_spread is None
    assert "(samples)" not in describe_flow(figure)


def test_mistakes(tiny_model):
    with pytest.raises(ValueError, match="at least 2 passes"):
        measure_flow_bound(tiny_model(), Constant(2), solver_steps=1, eta=0.1, passes=1)
    model = tiny_model()
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(UserError, match="mnist_small: the bound of some samples is not a finite"):
        measure_flow_bound(model, Constant(2), solver_steps=1, eta=0.1)
