import math

import numpy as np
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


@pytest.mark.parametrize("outputs", [(3, 2), (3,)])
def test_the_whole_network_by_hand(by_hand, settle, outputs):
    network = DeepUNet(channels=3, outputs=outputs, width=32, blocks=2)
    weights = settle(network)
    x = torch.rand(2, 3, 4, 3, dtype=torch.float64) * 2 - 1
    t = torch.tensor([0.25, 0.75], dtype=torch.float64)
    found = network({"x": x}, {"x": t})["x"].detach().numpy()

    def block(h, condition, name):
        inner = by_hand.silu(by_hand.group_norm(h, weights, f"{name}.net1.0"))
        inner = by_hand.conv(inner, weights, f"{name}.net1.2")
        inner = inner + by_hand.linear(condition, weights, f"{name}.cond_proj")[:, None, None]
        inner = by_hand.silu(by_hand.group_norm(inner, weights, f"{name}.net2.0"))
        inner = by_hand.conv(inner, weights, f"{name}.net2.3")
        skip = f"{name}.skip_conv"
        return inner + (by_hand.conv(h, weights, skip) if f"{skip}.weight" in weights else h)

    for row in range(2):
        angles = [1000 * (float(t[row]) + 0.001) * 10 ** (-4 * k / 63) for k in range(64)]
        condition = np.array([*map(math.sin, angles), *map(math.cos, angles)])
        for layer in (0, 2):
            condition = by_hand.linear(condition, weights, f"embed_conditioning.{layer}")
            condition = by_hand.silu(condition)
        pixels = x[row].numpy().transpose(2, 0, 1)
        waves = [2 * math.pi * 2**f * pixels for f in (5, 6)]
        h = np.concatenate([pixels, *map(np.sin, waves), *map(np.cos, waves)])
        h = by_hand.conv(h, weights, "conv_in")
        skips = [h]
        for number in range(2):
            h = block(h, condition, f"down_blocks.{number}.resnet_block")
            skips.append(h)
        h = block(h, condition, "mid_resnet_block_1")
        normed = by_hand.group_norm(h, weights, "mid_attn_block.layers.0")
        qkv = by_hand.conv(normed, weights, "mid_attn_block.layers.1").reshape(96, -1)
        mixed = by_hand.attend(*(part.T for part in np.split(qkv, 3))).T.reshape(h.shape)
        h = h + by_hand.conv(mixed, weights, "mid_attn_block.layers.3")
        h = block(h, condition, "mid_resnet_block_2")
        for number in range(3):
            h = np.concatenate([h, skips.pop()])
            h = block(h, condition, f"up_blocks.{number}.resnet_block")
        h = by_hand.silu(by_hand.group_norm(h, weights, "conv_out.0"))
        h = by_hand.conv(h, weights, "conv_out.2")
        joined = np.concatenate([pixels, h]).transpose(1, 2, 0)
        expected = by_hand.linear(joined, weights, "output_adapter.output_projection")
        assert np.abs(expected).max() > 0.3
        np.testing.assert_allclose(found[row], expected.reshape(3, 4, *outputs), atol=1e-4)
