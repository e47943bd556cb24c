import math

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
