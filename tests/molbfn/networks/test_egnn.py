"""GeoBFN's EGNN: same function as the published edge-list form, exact symmetries, exact padding."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from molbfn.benchmarks.edge_list import EdgeListBatch, EdgeListEGNN, fully_connected_edges
from molbfn.errors import UserError
from molbfn.networks.egnn import EGNN, GaussianFeatures, PairLinear


def amplify(network: torch.nn.Module, scale: float = 3.0) -> None:
    """Scale the coordinate read-outs up: at their initial 1e-3 positions would hardly move."""
    with torch.no_grad():
        for block in network.blocks:
            block.coordinate_out.weight.mul_(scale / 1e-3)


def make_egnn(**options) -> EGNN:
    torch.manual_seed(0)
    settings = {"elements_in": 1, "elements_out": 2, "hidden": 24, "layers": 3} | options
    network = EGNN(**settings).double()
    amplify(network)
    return network


def make_batch(
    sizes: list[int], *, width: int | None = None, columns: int = 1, seed: int = 1
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Random float64 molecules: inputs with zeros on padding, times, mask."""
    generator = torch.Generator().manual_seed(seed)
    width = width or max(sizes)
    mask = torch.arange(width) < torch.tensor(sizes)[:, None]
    positions = torch.zeros(len(sizes), width, 3, dtype=torch.float64)
    elements = torch.zeros(len(sizes), width, columns, dtype=torch.float64)
    for row, size in enumerate(sizes):
        positions[row, :size] = torch.randn(size, 3, generator=generator, dtype=torch.float64)
        elements[row, :size] = torch.randn(size, columns, generator=generator, dtype=torch.float64)
    time = torch.rand(len(sizes), generator=generator, dtype=torch.float64)
    return {"positions": positions, "elements": elements}, {"positions": time}, mask


def random_orthogonal(determinant: int) -> Tensor:
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    return q * determinant * torch.linalg.det(q).sign()


def assert_size_of_order_one(output: dict[str, Tensor]) -> None:
    assert 0.1 < output["positions"].abs().max() < 100
    assert output["elements"].abs().max() > 0.1


def close(left: Tensor, right: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(left, right, rtol=0, atol=tolerance)


def test_parameter_count_at_the_published_settings() -> None:
    count = sum(p.numel() for p in EGNN(elements_in=1, elements_out=2).parameters())
    assert count == 5_338_882
    assert count == sum(p.numel() for p in EdgeListEGNN().parameters())


@pytest.mark.parametrize("sizes", [[1], [2], [7], [5, 5, 5], [3, 9, 1, 6, 2]])
@pytest.mark.parametrize("extra", [0, 4])
def test_equals_the_published_edge_list_form(sizes: list[int], extra: int) -> None:
    network = make_egnn()
    published = EdgeListEGNN(hidden=24, layers=3).double()
    published.load_state_dict(network.state_dict())
    inputs, t, mask = make_batch(sizes, width=max(sizes) + extra)
    output = network(inputs, t, mask)
    molecule = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    positions, elements = published(
        EdgeListBatch(
            positions=inputs["positions"][mask],
            charge=inputs["elements"][mask],
            t=t["positions"][molecule],
            edges=fully_connected_edges(sizes),
            molecule=molecule,
            molecules=len(sizes),
        )
    )
    close(output["positions"][mask], positions, 1e-10)
    close(output["elements"][mask], elements, 1e-10)
    if max(sizes) > 1:
        assert_size_of_order_one(output)


def test_equality_test_sees_a_changed_weight() -> None:
    """Counter-example: every parameter matters, so equality at copied weights says something."""
    inputs, t, mask = make_batch([4, 6])
    network = make_egnn()
    before = network(inputs, t, mask)
    for name, parameter in network.named_parameters():
        with torch.no_grad():
            parameter.add_(0.01)
            after = network(inputs, t, mask)
            parameter.sub_(0.01)
        moved = max((after[key] - before[key]).abs().max().item() for key in before)
        assert moved > 1e-6, name


@pytest.mark.parametrize("determinant", [1, -1])
def test_equivariant_to_rotations_and_reflections(determinant: int) -> None:
    network, (inputs, t, mask) = make_egnn(), make_batch([8, 5, 2])
    turn = random_orthogonal(determinant)
    turned = {**inputs, "positions": inputs["positions"] @ turn.T}
    before, after = network(inputs, t, mask), network(turned, t, mask)
    close(after["positions"], before["positions"] @ turn.T)
    close(after["elements"], before["elements"])
    assert_size_of_order_one(before)
    assert (after["positions"] - before["positions"]).abs().max() > 0.1


def test_invariant_to_translations() -> None:
    network, (inputs, t, mask) = make_egnn(), make_batch([8, 5, 2])
    moved = {**inputs, "positions": (inputs["positions"] + 2.5) * mask[..., None]}
    before, after = network(inputs, t, mask), network(moved, t, mask)
    close(after["positions"], before["positions"])
    close(after["elements"], before["elements"])


def test_equivariant_to_permutations() -> None:
    """Atoms and padding may stand in any order."""
    network, (inputs, t, mask) = make_egnn(), make_batch([8, 5, 2])
    order = torch.randperm(mask.shape[1])
    shuffled = {name: value[:, order] for name, value in inputs.items()}
    before, after = network(inputs, t, mask), network(shuffled, t, mask[:, order])
    for name in before:
        close(after[name], before[name][:, order])
    assert not torch.allclose(after["elements"], before["elements"])


def test_padding_and_company_do_not_matter() -> None:
    network, sizes = make_egnn(), [6, 3, 1]
    inputs, t, mask = make_batch(sizes)
    wide_inputs, _, wide_mask = make_batch(sizes, width=11)
    output, wide = network(inputs, t, mask), network(wide_inputs, t, wide_mask)
    for name in output:
        close(wide[name][:, :6], output[name], 1e-12)
        assert torch.equal(wide[name][~wide_mask], torch.zeros_like(wide[name][~wide_mask]))
    alone = network(
        {name: value[1:2, :3] for name, value in inputs.items()},
        {"positions": t["positions"][1:2]},
        mask[1:2, :3],
    )
    for name in output:
        close(alone[name], output[name][1:2, :3], 1e-12)


def test_what_lies_on_padding_is_ignored() -> None:
    network, (inputs, t, mask) = make_egnn(), make_batch([6, 3])
    dirty = {name: value + 7.0 * ~mask[..., None] for name, value in inputs.items()}
    clean, output = network(inputs, t, mask), network(dirty, t, mask)
    for name in clean:
        close(output[name], clean[name], 1e-12)


def test_positions_have_zero_centre_of_mass() -> None:
    network, (inputs, t, mask) = make_egnn(), make_batch([8, 5, 1])
    positions = network(inputs, t, mask)["positions"]
    assert positions.abs().max() > 0.1
    close(positions.sum(dim=1), torch.zeros(3, 3, dtype=torch.float64), 1e-10)
    assert torch.equal(positions[2], torch.zeros_like(positions[2]))


def test_gradients_are_finite_where_atoms_coincide() -> None:
    network, (inputs, t, mask) = make_egnn(), make_batch([6, 3])
    positions = inputs["positions"].clone()
    positions[0, 1] = positions[0, 0]
    positions[1] = 0.0
    positions.requires_grad_()
    output = network({**inputs, "positions": positions}, t, mask)
    (output["positions"].square().sum() + output["elements"].square().sum()).backward()
    gradients = [positions.grad, *(p.grad for p in network.parameters())]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_an_empty_row_of_a_batch_is_harmless() -> None:
    network, (inputs, t, mask) = make_egnn(), make_batch([4, 2])
    mask = mask.clone()
    mask[1] = False
    output = network(inputs, t, mask)
    assert all(torch.equal(value[1], torch.zeros_like(value[1])) for value in output.values())


def test_time_is_used_and_may_differ_per_variable() -> None:
    inputs, t, mask = make_batch([5, 4])
    other = {"positions": t["positions"], "elements": 1 - t["positions"]}
    same = {"positions": t["positions"], "elements": t["positions"]}
    tied = make_egnn()
    assert torch.equal(tied(inputs, other, mask)["elements"], tied(inputs, t, mask)["elements"])
    later = {"positions": t["positions"] + 0.1}
    assert not torch.allclose(
        tied(inputs, later, mask)["elements"], tied(inputs, t, mask)["elements"]
    )
    untied = make_egnn(time_features="per_variable")
    assert untied.embed.in_features == tied.embed.in_features + 1
    assert not torch.allclose(
        untied(inputs, other, mask)["elements"], untied(inputs, same, mask)["elements"]
    )


def test_raw_element_columns() -> None:
    """Without charge features any number of columns goes in, and logits of any number come out."""
    network = make_egnn(elements_in=5, elements_out=7, charge_features=None)
    inputs, t, mask = make_batch([6, 3], columns=5)
    output = network(inputs, t, mask)
    assert output["elements"].shape == (2, 6, 7)
    assert network.embed.in_features == 6


def test_gaussian_features_against_the_formula() -> None:
    values = [-1.3, 0.0, 0.44, 1.9]
    features = GaussianFeatures(16)(torch.tensor(values, dtype=torch.float64)[:, None])
    for value, row in zip(values, features.tolist(), strict=True):
        centres = [-2 + 4 * j / 15 for j in range(16)]
        phi = [math.exp(-0.5 * ((value - centre) / 0.25) ** 2) for centre in centres]
        expected = [2 * p / sum(phi) - 1 for p in phi]
        assert row == pytest.approx(expected, abs=1e-6)
    far = GaussianFeatures(16)(torch.tensor([[40.0], [-1e4]]))
    assert torch.isfinite(far).all()
    close(far.sum(dim=-1), torch.full((2,), -14.0), 1e-5)


def test_pair_linear_is_the_linear_map_of_the_concatenation() -> None:
    torch.manual_seed(0)
    layer = PairLinear(8).double()
    h, distances = torch.randn(2, 5, 8).double(), torch.rand(2, 5, 5, 2).double()
    receiver = h[:, :, None].expand(-1, -1, 5, -1)
    sender = h[:, None].expand(-1, 5, -1, -1)
    pair = torch.cat((receiver, sender, distances), dim=-1)
    close(layer(h, distances), torch.nn.functional.linear(pair, layer.weight, layer.bias), 1e-12)
    assert layer.weight.shape == (8, 18)


def test_coordinates_start_almost_still() -> None:
    """The coordinate read-out has no bias and Xavier gain 1e-3 (bound 1e-3 sqrt(6 / (fan sum)))."""
    torch.manual_seed(0)
    for block in EGNN(elements_in=1, elements_out=2, hidden=64, layers=2).blocks:
        bound = 1e-3 * math.sqrt(6 / 65)
        assert 0.8 * bound < block.coordinate_out.weight.abs().max() <= bound
        assert block.coordinate_out.bias is None


def test_bfloat16_autocast_is_close_and_keeps_positions_in_float32() -> None:
    network = make_egnn().float()
    inputs, t, mask = make_batch([8, 5])
    inputs = {name: value.float() for name, value in inputs.items()}
    t = {"positions": t["positions"].float()}
    exact = network(inputs, t, mask)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(inputs, t, mask)
    assert rough["positions"].dtype == torch.float32
    for name in exact:
        error = (rough[name].float() - exact[name]).abs().max() / exact[name].abs().max()
        assert 0 < error < 0.05
        assert torch.equal(rough[name][~mask], torch.zeros_like(rough[name][~mask]))


def test_state_dict_round_trip() -> None:
    network = make_egnn()
    copy = EGNN(elements_in=1, elements_out=2, hidden=24, layers=3).double()
    copy.load_state_dict(network.state_dict())
    batch = make_batch([4, 3])
    close(copy(*batch)["positions"], network(*batch)["positions"], 0.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": 0}, "layers is 0"),
        ({"hidden": -1}, "hidden is -1"),
        ({"charge_features": 0}, "charge_features is 0"),
        ({"elements_in": 5}, "set charge_features to null"),
        ({"time_features": "tide"}, "did you mean 'tied'"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        EGNN(**({"elements_in": 1, "elements_out": 2} | options))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_compiles_to_the_same_function() -> None:
    network = make_egnn(hidden=16, layers=1).float()
    inputs, t, mask = make_batch([5, 3])
    inputs = {name: value.float().requires_grad_() for name, value in inputs.items()}
    t = {"positions": t["positions"].float()}
    compiled = torch.compile(network, fullgraph=True, dynamic=False)
    expected, output = network(inputs, t, mask), compiled(inputs, t, mask)
    for name in expected:
        close(output[name], expected[name], 1e-4)
    output["positions"].square().sum().backward()
    assert torch.isfinite(inputs["positions"].grad).all()
