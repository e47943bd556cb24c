import pytest
import torch

from molbfn.benchmarks.sampling import SAMPLERS, draw_samples, find_scheme
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


def test_corners_of_the_time_grid():
    assert find_scheme("sde2").grid(4).tolist() == [0, 0.25, 0.5, 0.75, 1]
    bent = find_scheme("ode1@0.5:0.2")
    assert bent.sampler == SAMPLERS["ode1"]()
    torch.testing.assert_close(bent.grid(4), torch.tensor([0, 0.1, 0.2, 0.6, 1]).double())
    assert find_scheme("sde1@0.5:0.2+0.9:0.6").knots == ((0.5, 0.2), (0.9, 0.6))


@pytest.mark.parametrize("corners", ["", "0.5", "0.5:x", "0.5:1.2", "0.5:0.5+0.4:0.6"])
def test_wrong_corners(corners):
    with pytest.raises(UserError, match="expected share:time after the @"):
        find_scheme(f"sde2@{corners}")


def test_the_grid_is_used(tiny_model):
    even, bent = (
        draw_samples(tiny_model(), 2, calls=5, sampler=n) for n in ("sde2", "sde2@0.5:0.2")
    )
    assert not torch.equal(even, bent)
