import pytest
import torch

from molbfn.benchmarks.networks.patch_unet import (
    Conv3x3,
    PatchUNet,
    _from_patches,
    _to_patches,
)

SMALL = {"width": 8, "inner_width": 16, "blocks": 1, "inner_blocks": 1, "condition_width": 8}


def make(inputs: int, outputs: tuple[int, ...], **options) -> PatchUNet:
    torch.manual_seed(0)
    network = PatchUNet(size=(8, 12), inputs=inputs, outputs=outputs, **SMALL, **options)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.mark.parametrize(
    ("shape", "outputs"), [((8, 12, 2), (2,)), ((8, 12, 3), (3, 2)), ((8, 12, 3), (3,))]
)
def test_shapes(shape, outputs):
    network = make(shape[-1], outputs)
    out = network({"x": torch.randn(2, *shape)}, {"x": torch.rand(2)})["x"]
    assert out.shape == (2, 8, 12, *outputs)


def test_patches_keep_every_pixel_in_its_place():
    x = torch.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
    patches = _to_patches(x)
    assert patches.shape == (2, 2, 3, 12)
    assert torch.equal(patches[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))
    assert torch.equal(_from_patches(patches), x)


def test_convolution_is_what_its_definition_says():
    torch.manual_seed(0)
    layer = Conv3x3(2, 3)
    x = torch.randn(1, 5, 4, 2)
    out = layer(x)
    weight = layer.weight.reshape(3, 3, 3, 2)  # out, row, column, in
    padded = torch.nn.functional.pad(x, (0, 0, 1, 1, 1, 1))
    for row, column in ((0, 0), (2, 3), (4, 1)):
        window = padded[0, row : row + 3, column : column + 3]
        expected = (weight * window).sum((1, 2, 3)) + layer.bias
        torch.testing.assert_close(out[0, row, column], expected)


def test_samples_do_not_mix_and_time_matters():
    network = make(2, (2,))
    x, t = torch.randn(3, 8, 12, 2), torch.tensor([0.1, 0.5, 0.9])
    whole = network({"x": x}, {"x": t})["x"]
    alone = network({"x": x[1:2]}, {"x": t[1:2]})["x"]
    torch.testing.assert_close(whole[1:2], alone)
    other = network({"x": x[1:2]}, {"x": torch.tensor([0.6])})["x"]
    assert not torch.allclose(alone, other)


def test_the_centre_sees_the_whole_image():
    network = make(2, (2,))
    x = torch.randn(1, 8, 12, 2, requires_grad=True)
    network({"x": x}, {"x": torch.tensor([0.5])})["x"][0, 4, 6].sum().backward()
    assert (x.grad.abs().sum(-1) > 0).all()


def test_a_fresh_network_returns_zero():
    network = PatchUNet(size=(8, 8), inputs=2, outputs=(2,), **SMALL)
    out = network({"x": torch.randn(1, 8, 8, 2)}, {"x": torch.rand(1)})["x"]
    assert not out.any()


def test_hidden_matrices_are_matrices_of_the_network_each_once():
    network = make(2, (2,))
    matrices = list(network.hidden_matrices())
    own = {id(parameter) for parameter in network.parameters()}
    assert len({id(m) for m in matrices}) == len(matrices) == 9
    assert all(m.dim() == 2 and id(m) in own for m in matrices)


def test_size_must_divide():
    with pytest.raises(ValueError, match="divisible by 4"):
        PatchUNet(size=(8, 10), inputs=2, outputs=(2,))
