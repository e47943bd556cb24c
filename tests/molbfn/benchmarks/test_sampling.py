import pytest
import torch

from molbfn.benchmarks.sampling import SAMPLERS, draw_samples, find_scheme
from molbfn.errors import UserError


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_does_not_depend_on_its_batch(tiny_model, sampler):
    model = tiny_model()
    whole = draw_samples(model, 5, calls=5, sampler=sampler, seed=3, batch_size=5)
    split = draw_samples(model, 5, calls=5, sampler=sampler, seed=3, batch_size=2)
    assert torch.equal(whole, split)
    assert whole.shape == (5, 28, 28)
    assert not torch.equal(whole, draw_samples(model, 5, calls=5, sampler=sampler, seed=4))


@pytest.mark.parametrize("sampler", ["sde2", "ode2s", "original~0.01", "ode2s@0.5:0.2~0.01"])
def test_calls_are_network_calls(tiny_model, sampler):
    model = tiny_model()
    network, counted = model.network, []

    def counting(*arguments):
        counted.append(1)
        return network(*arguments)

    model.predictor = lambda: model.flows.predictor(counting)
    shown = []
    draw_samples(
        model, 3, calls=7, sampler=sampler, batch_size=2, progress=lambda *a: shown.append(a)
    )
    assert len(counted) == 14  # two batches
    assert shown[0] == (1, 14)
    assert shown[-1] == (14, 14)


def test_mistakes(tiny_model):
    with pytest.raises(UserError, match="did you mean 'sde2'"):
        draw_samples(tiny_model(), 1, calls=3, sampler="sde3")
    with pytest.raises(UserError, match="--calls 1: at least 2, a step and the last call"):
        draw_samples(tiny_model(), 1, calls=1)
    with pytest.raises(UserError, match="--calls 2: at least 3, the 2 of a step and the last"):
        draw_samples(tiny_model(), 1, calls=2, sampler="ode2s")
    with pytest.raises(UserError, match=r"--calls 20: .* 2 calls a step .* so 19 or 21"):
        draw_samples(tiny_model(), 1, calls=20, sampler="ode2s")


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


def test_a_start_after_nothing_is_known():
    """The grid of Xue et al.: from eta in even steps, corners pushed together alike."""
    late = find_scheme("ode2~0.2")
    torch.testing.assert_close(late.grid(4), torch.tensor([0.2, 0.4, 0.6, 0.8, 1]).double())
    assert late.grid(4)[-1] == 1
    both = find_scheme("sde1@0.5:0.2~0.1")
    assert (both.sampler, both.knots, both.eta) == (SAMPLERS["sde1"](), ((0.5, 0.2),), 0.1)
    torch.testing.assert_close(both.grid(2), torch.tensor([0.1, 0.28, 1]).double())


@pytest.mark.parametrize("eta", ["", "x", "0", "1", "-1", "nan"])
def test_wrong_starts(eta):
    with pytest.raises(UserError, match=r"after the ~, between 0 and 1, such as sde2~0.001"):
        find_scheme(f"sde2~{eta}")


@pytest.mark.parametrize("name", ["mnist_small", "cifar10_256_small", "cifar10_continuous_small"])
def test_the_network_is_called_at_the_times_of_the_scheme(tiny_model, name):
    """Two steps by midpoints, from eta on; what it sees first is the noise that is there."""
    model, seen = tiny_model(name), []
    network = model.network

    def watching(inputs, times, mask=None):
        seen.append(float(times["x"][0]))
        return network(inputs, times, mask)

    model.predictor = lambda: model.flows.predictor(watching)
    drawn = draw_samples(model, 1, calls=5, sampler="ode2s~0.2")
    assert seen == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert drawn.shape == (1, *model.shape)
