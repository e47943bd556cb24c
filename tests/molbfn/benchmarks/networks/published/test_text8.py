import math

import numpy as np
import pytest
import torch

from molbfn.benchmarks.networks.published.text8 import TextTransformer, position_code


def test_number_of_parameters_of_the_paper():
    with torch.device("meta"):
        network = TextTransformer(length=256, classes=27)
    assert sum(p.numel() for p in network.parameters()) == 170_175_003


def test_positions_by_hand():
    code = position_code(5, 4)
    assert float(code[3, 0]) == pytest.approx(math.sin(3))
    assert float(code[3, 1]) == pytest.approx(math.cos(3 / 1000**0.25))
    assert float(code[4, 2]) == pytest.approx(math.sin(4 / 1000**0.5))


def test_every_character_sees_every_other_and_samples_do_not_mix():
    torch.manual_seed(0)
    network = TextTransformer(length=6, classes=5, width=16, layers=2, heads=2).eval()
    x, t = torch.randn(2, 6, 5, requires_grad=True), torch.tensor([0.2, 0.8])
    out = network({"x": x}, {"x": t})["x"]
    assert out.shape == (2, 6, 5)
    out[0, 0].sum().backward()
    assert (x.grad[0].abs().sum(-1) > 0).all()
    assert not x.grad[1].any()


def test_first_weights_are_the_papers():
    network = TextTransformer(length=6, classes=27, width=256, layers=8, heads=2)
    block = network.transformer["h"][3]
    assert float(block.mlp["c_fc"].weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert float(block.mlp["c_proj"].weight.detach().std()) == pytest.approx(0.02 / 4, rel=0.02)
    assert not block.attn["c_attn"].bias.any()
    assert len(list(network.hidden_matrices())) == 4 * 8


def test_the_whole_network_by_hand(by_hand, settle):
    length, classes, width, heads = 5, 4, 12, 3
    network = TextTransformer(length=length, classes=classes, width=width, layers=2, heads=heads)
    weights = settle(network)
    x = torch.randn(2, length, classes, dtype=torch.float64)
    t = torch.tensor([0.3, 0.9], dtype=torch.float64)
    found = network({"x": x}, {"x": t})["x"].detach().numpy()

    places = np.zeros((length, width))
    for p in range(length):
        for c in range(width):
            places[p, c] = (math.cos if c % 2 else math.sin)(p / 1000 ** (c / width))
    for row in range(2):
        embedded = by_hand.linear(x[row].numpy(), weights, "input_adapter.inp_embedding") + places
        time = np.array([2 * float(t[row]) - 1])
        embedded = embedded + by_hand.linear(time, weights, "input_adapter.t_embedding")
        h = embedded
        for layer in range(2):
            name = f"transformer.h.{layer}"
            normed = by_hand.layer_norm(h, weights, f"{name}.ln_1")
            q, k, v = np.split(by_hand.linear(normed, weights, f"{name}.attn.c_attn"), 3, -1)
            own = [slice(4 * n, 4 * n + 4) for n in range(heads)]
            joined = np.concatenate([by_hand.attend(q[:, s], k[:, s], v[:, s]) for s in own], 1)
            h = h + by_hand.linear(joined, weights, f"{name}.attn.c_proj")
            normed = by_hand.layer_norm(h, weights, f"{name}.ln_2")
            wide = by_hand.linear(normed, weights, f"{name}.mlp.c_fc")
            inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
            h = h + by_hand.linear(0.5 * wide * (1 + np.tanh(inner)), weights, f"{name}.mlp.c_proj")
        h = by_hand.layer_norm(h, weights, "transformer.ln_f")
        expected = by_hand.linear(np.concatenate([h, embedded], 1), weights, "lm_head")
        assert np.abs(expected).max() > 0.3
        np.testing.assert_allclose(found[row], expected, atol=1e-5)  # places are float32
