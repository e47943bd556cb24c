import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from molbfn.benchmarks.networks.published.mnist import AttentionBlock, BinaryUNet, time_features


def test_number_of_parameters_of_the_paper():
    with torch.device("meta"):
        network = BinaryUNet()
    assert sum(p.numel() for p in network.parameters()) == 24_808_961


def test_one_logit_a_pixel_of_the_second_class_from_the_first():
    torch.manual_seed(0)
    network = BinaryUNet(width=32).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x, t = torch.randn(2, 28, 28, 2), torch.tensor([0.2, 0.8])
    out = network({"x": x}, {"x": t})["x"]
    assert out.shape == (2, 28, 28, 2)
    assert not out[..., 0].any()
    other = x.clone()
    other[..., 1] = 7.0
    torch.testing.assert_close(network({"x": other}, {"x": t})["x"], out)
    torch.testing.assert_close(network({"x": x[:1]}, {"x": t[:1]})["x"], out[:1])


def test_time_features_by_hand():
    found = time_features(torch.tensor([0.5]), 4)[0]
    angles = [2000.0, 2000.0 / 100]
    expected = [torch.cos(torch.tensor(a)) for a in angles]
    expected += [torch.sin(torch.tensor(a)) for a in angles]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-4, rtol=0)


def test_attention_takes_its_channels_head_by_head():
    torch.manual_seed(0)
    block = AttentionBlock(32, heads=2)
    torch.nn.init.normal_(block.proj_out.weight)
    x = torch.randn(1, 32, 2, 3)
    flat = x.flatten(2)
    rows = block.qkv(functional.group_norm(flat, 32, block.norm.weight, block.norm.bias))
    heads = []
    for head in range(2):
        q, k, v = rows[0, 48 * head : 48 * (head + 1)].split(16)
        weights = torch.softmax(q.T @ k / 4.0, -1)
        heads.append((weights @ v.T).T)
    expected = flat + block.proj_out(torch.cat(heads)[None])
    torch.testing.assert_close(block(x), expected.reshape(x.shape))


def test_width_must_hold_the_groups():
    with pytest.raises(ValueError, match="must be divisible by num_groups"):
        BinaryUNet(width=48)


def test_the_whole_network_by_hand(by_hand, settle):
    network = BinaryUNet(width=32, heads=4)
    weights = settle(network)
    x = torch.rand(2, 8, 4, 2, dtype=torch.float64) * 2 - 1
    t = torch.tensor([0.25, 0.75], dtype=torch.float64)
    found = network({"x": x}, {"x": t})["x"].detach().numpy()

    def block(h, condition, name):
        inner = by_hand.silu(by_hand.group_norm(h, weights, f"{name}.in_layers.0"))
        inner = by_hand.conv(inner, weights, f"{name}.in_layers.2")
        shift = by_hand.linear(by_hand.silu(condition), weights, f"{name}.emb_layers.1")
        inner = inner + shift[:, None, None]
        inner = by_hand.silu(by_hand.group_norm(inner, weights, f"{name}.out_layers.0"))
        inner = by_hand.conv(inner, weights, f"{name}.out_layers.3")
        skip = f"{name}.skip_connection"
        return inner + (by_hand.conv(h, weights, skip) if f"{skip}.weight" in weights else h)

    def attention(h, name):
        normed = by_hand.group_norm(h, weights, f"{name}.norm").reshape(len(h), -1)
        kernel, bias = weights[f"{name}.qkv.weight"][..., 0], weights[f"{name}.qkv.bias"]
        qkv, size = kernel @ normed + bias[:, None], len(h) // 4
        heads = []
        for head in range(4):
            start = 3 * size * head
            parts = [qkv[start + n * size : start + (n + 1) * size].T for n in range(3)]
            heads.append(by_hand.attend(*parts).T)
        kernel, bias = weights[f"{name}.proj_out.weight"][..., 0], weights[f"{name}.proj_out.bias"]
        return h + (kernel @ np.concatenate(heads) + bias[:, None]).reshape(h.shape)

    for row in range(2):
        angles = [4000 * float(t[row]) * 10_000 ** (-k / 16) for k in range(16)]
        condition = np.array([*map(math.cos, angles), *map(math.sin, angles)])
        condition = by_hand.silu(by_hand.linear(condition, weights, "time_embed.0"))
        condition = by_hand.linear(condition, weights, "time_embed.2")
        first = x[row, ..., :1].numpy()
        time = np.full_like(first, 2 * float(t[row]) - 1)
        projected = by_hand.linear(np.concatenate([first, time], -1), weights, "input_projection")
        h = by_hand.conv(projected.transpose(2, 0, 1), weights, "input_blocks.0.0")
        skips = [h]
        # Three levels of two blocks, a convolution of stride 2 behind the first and the second.
        for number in range(1, 9):
            name = f"input_blocks.{number}.0"
            halved = number in (3, 6)
            h = (
                by_hand.conv(h, weights, f"{name}.op", stride=2)
                if halved
                else block(h, condition, name)
            )
            skips.append(h)
        h = block(h, condition, "middle_block.0")
        h = attention(h, "middle_block.1")
        h = block(h, condition, "middle_block.2")
        for number in range(9):
            h = block(np.concatenate([h, skips.pop()]), condition, f"output_blocks.{number}.0")
            if number in (2, 5):
                h = h.repeat(2, axis=1).repeat(2, axis=2)
                h = by_hand.conv(h, weights, f"output_blocks.{number}.1.conv")
        h = by_hand.silu(by_hand.group_norm(h, weights, "out.0"))
        h = by_hand.conv(h, weights, "out.2").transpose(1, 2, 0)
        joined = np.concatenate([projected, h], -1)
        expected = by_hand.linear(joined, weights, "output_adapter.output_projection")
        assert np.abs(expected).max() > 0.3
        np.testing.assert_allclose(found[row, ..., 1:], expected, atol=1e-4)
        assert not found[row, ..., 0].any()
