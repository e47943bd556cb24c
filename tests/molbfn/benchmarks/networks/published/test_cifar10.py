import math

import pytest
import torch

from molbfn.benchmarks.networks.published.cifar10 import DeepUNet, fourier_features, time_features


@pytest.mark.parametrize(("outputs", "count"), [((3, 2), 30_722_584), ((3,), 30_722_188)])
def test_number_of_parameters_of_the_paper(outputs, count):
    with torch.device("meta"):
        network = DeepUNet(channels=3, outputs=outputs)
    assert sum(p.numel() for p in network.parameters()) == count


def test_features_by_hand():
    x = torch.tensor([[0.3, -0.1]], dtype=torch.float64)
    # Channels in the order of the published weights: sin of f = 5, sin of f = 6, cos, cos.
    expected = [0.3, -0.1]
    for wave in (math.sin, math.cos):
        for power in (32, 64):
            expected += [wave(2 * math.pi * power * value) for value in (0.3, -0.1)]
    found = fourier_features(x)
    torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float64))
    found = time_features(torch.tensor([0.5], dtype=torch.float64))[0]
    assert found.shape == (128,)
    assert float(found[0]) == pytest.approx(math.sin(501.0), abs=1e-4)
    assert float(found[64]) == pytest.approx(math.cos(501.0), abs=1e-4)
    assert float(found[63]) == pytest.approx(math.sin(0.0501), abs=1e-6)


@pytest.mark.parametrize("outputs", [(3, 2), (3,)])
def test_samples_do_not_mix_and_time_matters(outputs):
    torch.manual_seed(0)
    network = DeepUNet(channels=3, outputs=outputs, width=32, blocks=2).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, t = torch.randn(2, 8, 8, 3), torch.tensor([0.2, 0.8])
    out = network({"x": x}, {"x": t})["x"]
    assert out.shape == (2, 8, 8, *outputs)
    alone = network({"x": x[:1]}, {"x": t[:1]})["x"]
    torch.testing.assert_close(alone, out[:1], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(network({"x": x[:1]}, {"x": t[1:]})["x"], alone)
