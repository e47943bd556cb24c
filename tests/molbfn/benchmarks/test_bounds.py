import math

import numpy as np
import pytest
import torch

from molbfn.benchmarks.bounds import Subset, _error, describe, measure_bound


class Constant:
    """The same black-and-white image again and again, in four pixels of which the class is 1."""

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


def test_continuous_time_of_a_constant_output(uninformed):
    """E_t[K beta_1 t |e - 1/2|^2] = 2 * 9 * 1/2 * 1/2 a pixel, reconstruction ln 2."""
    bound = measure_bound(uninformed, Constant(6), n_steps=None, passes=3, repeats=64, batch_size=4)
    assert bound.reconstruction == pytest.approx(784 * math.log(2), rel=1e-5)
    # Times are stratified: their mean is off by less than a stratum.
    assert bound.nats - bound.reconstruction == pytest.approx(784 * 4.5, rel=1 / 64)
    assert bound.bits_per_dimension == pytest.approx(bound.nats / 784 / math.log(2))
    assert (bound.samples, bound.passes, bound.dimensions) == (6, 3, 784)


@pytest.mark.parametrize("batch_size", [8, 3])
def test_errors_are_what_repeated_measurements_scatter_by(uninformed, batch_size):
    options = {"n_steps": None, "passes": 2, "repeats": 1, "batch_size": batch_size}
    bounds = [measure_bound(uninformed, Constant(8), seed=k, **options) for k in range(30)]
    scatter = np.std([b.nats for b in bounds], ddof=1)
    claimed = math.sqrt(np.mean([b.error**2 for b in bounds]))
    assert 0.6 < claimed / scatter < 1.6


def test_the_error_is_that_of_passes_and_batches():
    """Independent batches of unequal size: against the scatter of the weighted mean itself."""
    rng, sizes = np.random.default_rng(0), [250, 250, 50]
    weights = np.array(sizes) / 550
    draws = rng.normal([80.0, 90.0, 100.0], [1.0, 2.0, 5.0], (2000, 4, 3))
    errors = [_error(torch.from_numpy(means), sizes) for means in draws]
    scatter = (draws @ weights).mean(1).std()
    assert math.sqrt(np.mean(np.square(errors))) == pytest.approx(scatter, rel=0.05)


def test_many_steps_come_to_continuous_time(uninformed):
    options = {"passes": 2, "repeats": 32, "batch_size": 16}
    limit = measure_bound(uninformed, Constant(16), n_steps=None, **options)
    many = measure_bound(uninformed, Constant(16), n_steps=1000, **options)
    few = measure_bound(uninformed, Constant(16), n_steps=3, **options)
    assert many.nats == pytest.approx(limit.nats, rel=0.03)
    assert few.nats < 0.8 * limit.nats  # a wrong but constant guess costs less in few big steps


def test_a_seed_repeats_itself(tiny_model):
    model = tiny_model()
    options = {"n_steps": 10, "passes": 2, "batch_size": 3}
    one, same, other = (
        measure_bound(model, Constant(5), seed=seed, **options) for seed in (1, 1, 2)
    )
    assert one == same
    assert one.nats != other.nats


def test_one_pass_has_no_error(tiny_model):
    with pytest.raises(ValueError, match="at least 2 passes"):
        measure_bound(tiny_model(), Constant(2), n_steps=None, passes=1)


def test_subsets_are_never_longer_than_the_whole():
    assert len(Subset(Constant(5), 3)) == 3
    assert len(Subset(Constant(5), 9)) == 5


def test_in_words(uninformed):
    bound = measure_bound(uninformed, Constant(2), n_steps=None, passes=2)
    assert "bits/dim" in describe([bound], text=False)[0]
    assert "bits/char" in describe([bound], text=True)[0]
