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
