import pytest
import torch

from molbfn.benchmarks.networks.text_unet import Convolution, TextUNet

SMALL = {"width": 8, "inner_width": 16, "blocks": 1, "inner_blocks": 2, "heads": 2, "group": 4,
         "condition_width": 8}  # fmt: skip


@pytest.fixture
def network() -> TextUNet:
    torch.manual_seed(0)
    network = TextUNet(length=64, classes=5, **SMALL)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def test_samples_do_not_mix_and_time_matters(network):
    x, t = torch.randn(3, 64, 5), torch.tensor([0.1, 0.5, 0.9])
    whole = network({"x": x}, {"x": t})["x"]
    assert whole.shape == (3, 64, 5)
    torch.testing.assert_close(whole[1:2], network({"x": x[1:2]}, {"x": t[1:2]})["x"])
    other = network({"x": x[1:2]}, {"x": torch.tensor([0.6])})["x"]
    assert not torch.allclose(whole[1:2], other)


def test_every_character_sees_every_other(network):
    x = torch.randn(1, 64, 5, requires_grad=True)
    network({"x": x}, {"x": torch.tensor([0.5])})["x"][0, 0].sum().backward()
    assert (x.grad.abs().sum(-1) > 0).all()


def test_convolution_is_what_its_definition_says():
    torch.manual_seed(0)
    layer = Convolution(2, 3)
    x = torch.randn(1, 7, 2)
    out = layer(x)
    weight = layer.weight.reshape(3, 5, 2)
    padded = torch.nn.functional.pad(x, (0, 0, 2, 2))
    for place in (0, 3, 6):
        expected = (weight * padded[0, place : place + 5]).sum((1, 2)) + layer.bias
        torch.testing.assert_close(out[0, place], expected)


def test_a_fresh_network_returns_zero():
    network = TextUNet(length=8, classes=5, **SMALL)
    assert not network({"x": torch.randn(1, 8, 5)}, {"x": torch.rand(1)})["x"].any()


def test_hidden_matrices_are_matrices_of_the_network_each_once(network):
    matrices = list(network.hidden_matrices())
    own = {id(parameter) for parameter in network.parameters()}
    assert len({id(m) for m in matrices}) == len(matrices) == 15
    assert all(m.dim() == 2 and id(m) in own for m in matrices)


def test_what_does_not_divide():
    with pytest.raises(ValueError, match="divisible by group"):
        TextUNet(length=10, classes=5, **SMALL)
    with pytest.raises(ValueError, match="divisible by heads"):
        TextUNet(length=8, classes=5, **{**SMALL, "heads": 3})
