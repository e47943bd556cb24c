import json

import pytest
import torch
from torch import nn

from molbfn.errors import UserError
from molbfn.weight_files import checksum, load_weights, write_model


def test_written_weights_load_and_the_header_is_readable(tmp_path):
    first, second = nn.Linear(2, 3), nn.Linear(2, 3)
    write_model(tmp_path / "a" / "b", {"x": 1}, first.state_dict())
    load_weights(second, tmp_path / "a" / "b" / "model.safetensors")
    assert torch.equal(first.weight, second.weight)
    assert json.loads((tmp_path / "a" / "b" / "config.json").read_text()) == {"x": 1}


def test_half_precision_is_widened(tmp_path):
    network = nn.Linear(2, 3)
    weights = {name: value.half() for name, value in network.state_dict().items()}
    write_model(tmp_path, {}, weights)
    load_weights(network, tmp_path / "model.safetensors")
    assert network.weight.dtype == torch.float32
    assert torch.equal(network.weight, weights["weight"].float())


def test_a_flipped_bit_is_seen(tmp_path):
    network = nn.Linear(2, 3)
    write_model(tmp_path, {}, network.state_dict())
    path = tmp_path / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="corrupted"):
        load_weights(network, path)


def test_checksums_depend_on_values_and_not_on_order():
    a, b = torch.ones(2), torch.zeros(3)
    assert checksum({"a": a, "b": b}) == checksum({"b": b, "a": a})
    assert checksum({"a": a, "b": b}) != checksum({"a": a, "b": b + 1})
