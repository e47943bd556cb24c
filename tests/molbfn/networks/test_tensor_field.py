"""The tensor field network: exact symmetries in float64 with outputs that are not zero."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from molbfn.config import ModelConfig
from molbfn.model import ModelInfo, MoleculeModel
from molbfn.networks.tensor_field import TensorFieldNetwork

SIZES = [5, 7, 1, 2]
SMALL = {
    "scalars": 16,
    "vectors": 8,
    "tensors": 4,
    "layers": 2,
    "radial_width": 16,
    "distances": 8,
    "time_features": 4,
    "condition_width": 16,
}


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    """e3nn makes its constants in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def network() -> TensorFieldNetwork:
    torch.manual_seed(0)
    network = TensorFieldNetwork(elements_in=4, elements_out=3, charges=3, bonds=4, **SMALL)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return network


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(max(SIZES)) < torch.tensor(SIZES)[:, None]
    pairs = mask[:, :, None] & mask[:, None]
    shape = (len(SIZES), max(SIZES))
    x = torch.randn(*shape, 3, generator=generator) * mask[..., None]
    bonds = torch.randn(*shape, max(SIZES), 4, generator=generator)
    inputs = {
        "positions": (x - x.sum(1, keepdim=True) / mask.sum(1)[:, None, None]) * mask[..., None],
        "elements": torch.randn(*shape, 4, generator=generator) * mask[..., None],
        "charges": torch.randn(*shape, 3, generator=generator) * mask[..., None],
        "bonds": (bonds + bonds.transpose(1, 2)) * pairs[..., None],
    }
    times = {name: torch.rand(len(SIZES), generator=generator) for name in inputs}
    return inputs, times, mask


def close(left: Tensor, right: Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=0, atol=1e-10)


@pytest.mark.parametrize("determinant", [1, -1])
def test_rotations_and_reflections(network, batch, determinant: int):
    inputs, t, mask = batch
    q, _ = torch.linalg.qr(torch.randn(3, 3))
    q = q * determinant * torch.linalg.det(q).sign()
    plain = network(inputs, t, mask)
    turned = network({**inputs, "positions": inputs["positions"] @ q.T}, t, mask)
    for name, value in plain.items():
        assert value.abs().max() > 0.01
        close(turned[name], value @ q.T if name == "positions" else value)


def test_permutations(network, batch):
    inputs, t, mask = ({k: v[:1, :5] for k, v in batch[0].items()}, batch[1], batch[2][:1, :5])
    inputs["bonds"] = inputs["bonds"][:, :, :5]
    t = {name: value[:1] for name, value in t.items()}
    order = torch.randperm(5)

    def moved(values):
        return {
            name: value[:, order][:, :, order] if name == "bonds" else value[:, order]
            for name, value in values.items()
        }

    expected = moved(network(inputs, t, mask))
    for name, value in network(moved(inputs), t, mask).items():
        close(value, expected[name])


def test_padding_is_zero_and_does_not_matter(network, batch):
    inputs, t, mask = batch
    whole = network(inputs, t, mask)
    for row, size in enumerate(SIZES):
        alone = network(
            {
                name: value[row : row + 1, :size, :size]
                if name == "bonds"
                else value[row : row + 1, :size]
                for name, value in inputs.items()
            },
            {name: value[row : row + 1] for name, value in t.items()},
            mask[row : row + 1, :size],
        )
        for name, value in whole.items():
            part = value[row, :size, :size] if name == "bonds" else value[row, :size]
            close(part, alone[name][0])
            rest = value[row].clone()
            if name == "bonds":
                rest[:size, :size] = 0
            else:
                rest[:size] = 0
            assert (rest == 0).all()


def test_each_input_and_time_reaches_each_output(network, batch):
    inputs, t, mask = batch
    plain = network(inputs, t, mask)
    for name in inputs:
        for changed in (
            network({**inputs, name: 1.5 * inputs[name]}, t, mask),
            network(inputs, {**t, name: 1 - t[name]}, mask),
        ):
            for output, value in plain.items():
                assert (changed[output] - value).abs().max() > 1e-6, (name, output)


def test_coincident_atoms_have_finite_gradients(network, batch):
    inputs, t, mask = batch
    x = torch.zeros_like(inputs["positions"]).requires_grad_()
    network({**inputs, "positions": x}, t, mask)["elements"].square().sum().backward()
    assert x.grad.isfinite().all()
    for name, parameter in network.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_fresh_networks_return_zero(batch):
    network = TensorFieldNetwork(elements_in=4, elements_out=3, charges=3, bonds=4, **SMALL)
    for value in network(*batch).values():
        assert (value == 0).all()


def test_a_model_can_have_it():
    torch.set_default_dtype(torch.float32)
    config = ModelConfig(network={"kind": "tensor_field", **SMALL}, charges={}, bonds={})
    info = ModelInfo(config=config, buckets=(6,), sizes={6: 1}, provenance={})
    model = MoleculeModel(info)
    molecules = model.generate(3, steps=2)
    assert [len(molecule) for molecule in molecules] == [6, 6, 6]
    assert all(molecule.bonds is not None for molecule in molecules)
    assert len(model.network.hidden_matrices()) > 4
