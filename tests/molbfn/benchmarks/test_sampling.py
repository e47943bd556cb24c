import pytest
import torch

from molbfn.benchmarks.sampling import SAMPLERS, draw_samples
from molbfn.errors import UserError


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_does_not_depend_on_its_batch(tiny_model, sampler):
    model = tiny_model()
    whole = draw_samples(model, 5, calls=4, sampler=sampler, seed=3, batch_size=5)
    split = draw_samples(model, 5, calls=4, sampler=sampler, seed=3, batch_size=2)
    assert torch.equal(whole, split)
    assert whole.shape == (5, 28, 28)
    assert not torch.equal(whole, draw_samples(model, 5, calls=4, sampler=sampler, seed=4))


def test_calls_are_network_calls(tiny_model):
    model = tiny_model()
    network, counted = model.network, []

    def counting(*arguments):
        counted.append(1)
        return network(*arguments)

    model.predictor = lambda: model.flows.predictor(counting)
    shown = []
    draw_samples(model, 3, calls=7, batch_size=2, progress=lambda *a: shown.append(a))
    assert len(counted) == 14  # two batches
    assert shown[0] == (1, 14)
    assert shown[-1] == (14, 14)


def test_mistakes(tiny_model):
    with pytest.raises(UserError, match="did you mean 'sde2'"):
        draw_samples(tiny_model(), 1, calls=3, sampler="sde3")
    with pytest.raises(UserError, match="at least 2"):
        draw_samples(tiny_model(), 1, calls=1)
