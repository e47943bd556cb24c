"""Weights rounded to bytes."""

import pytest
import torch
from torch import nn

from molbfn.errors import UserError
from molbfn.rounding import restore_weights, round_weights
from molbfn.weight_files import load_weights, write_model


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(70, 90), nn.LayerNorm(90), nn.Unflatten(1, (9, 10)),
                         nn.Conv1d(9, 80, 8))  # fmt: skip


def test_a_weight_is_off_by_half_a_step_of_its_row(network):
    weights = network.state_dict()
    weights["0.weight"][3] = 0  # a row without a scale of its own
    weights["0.weight"][5] *= 1000  # does not coarsen the others
    found = restore_weights(round_weights(weights))
    assert found.keys() == weights.keys()
    for name in ("0.weight", "3.weight"):
        rows, back = weights[name].flatten(1), found[name].flatten(1)
        step = rows.abs().amax(1, keepdim=True) / 127
        assert found[name].dtype == torch.float32
        assert found[name].shape == weights[name].shape
        assert ((rows - back).abs() <= 0.5001 * step).all()
        assert (rows - back).abs().max() > 0
    torch.testing.assert_close(found["0.bias"].float(), weights["0.bias"], rtol=2**-8, atol=0)


def test_a_file_of_bytes_is_small_and_loads(network, tmp_path):
    weights = network.state_dict()
    write_model(tmp_path, {}, round_weights(weights))
    assert (tmp_path / "model.safetensors").stat().st_size < 0.35 * 4 * sum(
        value.numel() for value in weights.values()
    )
    other = nn.Sequential(nn.Linear(70, 90), nn.LayerNorm(90), nn.Unflatten(1, (9, 10)),
                          nn.Conv1d(9, 80, 8))  # fmt: skip
    load_weights(other, tmp_path / "model.safetensors")
    x = torch.randn(5, 70)
    torch.testing.assert_close(other(x), network(x), rtol=0, atol=0.05)


def test_weights_without_scales_are_refused(network, tmp_path):
    stored = round_weights(network.state_dict())
    del stored["3.weight.row_scale"]
    write_model(tmp_path, {}, stored)
    with pytest.raises(UserError, match=r"model.safetensors: weight '3.weight' is rounded"):
        load_weights(network, tmp_path / "model.safetensors")


def test_a_scale_that_belongs_to_nothing_is_not_overlooked(network, tmp_path):
    stored = round_weights(network.state_dict())
    stored["9.weight.row_scale"] = stored["3.weight.row_scale"].clone()
    write_model(tmp_path, {}, stored)
    with pytest.raises(UserError, match=r"'9\.weight\.row_scale' is not part of the network"):
        load_weights(network, tmp_path / "model.safetensors")
