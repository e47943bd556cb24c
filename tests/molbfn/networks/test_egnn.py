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


@pytest.mark.parametrize(
    ("options", "positions", "elements"),
    [
        (
            {"elements_in": 1, "elements_out": 2},
            [-3.1688969135560505, -2.7296548114876935, -2.570529245427157],
            [-3.236315100268221, -3.520393706095798],
        ),
        (
            {"elements_in": 3, "elements_out": 3, "charge_features": None},
            [-2.9143104711521297, -2.470076251957541, -2.470209700352971],
            [-1.722174909117559, -1.6537802220983082, -1.2840038803983171],
        ),
    ],
    ids=["charges as numbers", "classes"],
)
def test_stored_weights_go_on_to_mean_the_same(options, positions, elements) -> None:
    """Numbers of the network as it was before it knew of charges and bonds."""
    network = EGNN(hidden=6, layers=2, **options).double()
    with torch.no_grad():
        for place, parameter in enumerate(network.parameters()):
            index = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.copy_((0.5 * torch.sin(1 + place + index)).view_as(parameter))
    columns = options["elements_in"]
    inputs = {
        "positions": torch.cos(torch.arange(24, dtype=torch.float64) ** 2).view(2, 4, 3),
        "elements": torch.sin(2 * torch.arange(8 * columns).double()).view(2, 4, columns),
    }
    mask = torch.tensor([[True] * 4, [True, True, True, False]])
    output = network(inputs, {"positions": torch.tensor([0.2, 0.7]).double()}, mask)
    assert output.keys() == {"positions", "elements"}
    assert output["positions"][1, 2].tolist() == pytest.approx(positions, rel=1e-10)
    assert output["elements"][0, 1].tolist() == pytest.approx(elements, rel=1e-10)


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


def test_the_time_of_positions_is_used() -> None:
    inputs, t, mask = make_batch([5, 4])
    other = {"positions": t["positions"], "elements": 1 - t["positions"]}
    network = make_egnn()
    expected = network(inputs, t, mask)["elements"]
    assert torch.equal(network(inputs, other, mask)["elements"], expected)
    later = {"positions": t["positions"] + 0.1}
    assert not torch.allclose(network(inputs, later, mask)["elements"], expected)


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
    ],
)
def test_wrong_settings_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        EGNN(**({"elements_in": 1, "elements_out": 2} | options))
    assert "\n" not in str(caught.value)


# --- with charges and bonds ---

TOPOLOGY = {"charges": 3, "bonds": 4}


def make_whole(**options) -> EGNN:
    """A network of all variables, the layers that start at zero made random."""
    network = make_egnn(**TOPOLOGY, **options)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return network


def make_whole_batch(sizes: list[int]) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    inputs, t, mask = make_batch(sizes)
    generator = torch.Generator().manual_seed(2)
    shape, pairs = mask.shape, mask[:, :, None] & mask[:, None]
    charges = torch.randn(*shape, 3, generator=generator, dtype=torch.float64)
    bonds = torch.randn(*shape, shape[1], 4, generator=generator, dtype=torch.float64)
    inputs["charges"] = charges * mask[..., None]
    inputs["bonds"] = (bonds + bonds.transpose(1, 2)) * pairs[..., None]
    return inputs, t, mask


def reorder(values: dict[str, Tensor], order: Tensor) -> dict[str, Tensor]:
    return {
        name: value[:, order][:, :, order] if name == "bonds" else value[:, order]
        for name, value in values.items()
    }


@pytest.mark.parametrize("determinant", [1, -1])
def test_bonds_and_charges_do_not_see_rotations_reflections_and_translations(determinant) -> None:
    network, (inputs, t, mask) = make_whole(), make_whole_batch([8, 5, 2])
    turn = random_orthogonal(determinant)
    moved = (inputs["positions"] @ turn.T + 2.5) * mask[..., None]
    before, after = network(inputs, t, mask), network({**inputs, "positions": moved}, t, mask)
    assert before.keys() == {"positions", "elements", "charges", "bonds"}
    for name, value in before.items():
        assert value.abs().max() > 0.1, name
        close(after[name], value @ turn.T if name == "positions" else value)


def test_bonds_follow_a_permutation_of_the_atoms() -> None:
    network, (inputs, t, mask) = make_whole(), make_whole_batch([8, 5, 2])
    order = torch.randperm(mask.shape[1])
    before = network(inputs, t, mask)
    after = network(reorder(inputs, order), t, mask[:, order])
    expected = reorder(before, order)
    for name, value in after.items():
        close(value, expected[name])
        assert not torch.allclose(value, before[name])


def test_bond_logits_are_symmetric_and_all_are_zero_on_padding() -> None:
    network, (inputs, t, mask) = make_whole(), make_whole_batch([6, 3, 1])
    output = network(inputs, t, mask)
    close(output["bonds"], output["bonds"].transpose(1, 2), 1e-12)
    assert (output["bonds"][0] - output["bonds"][0].mean((0, 1))).abs().max() > 0.1
    pairs = mask[:, :, None] & mask[:, None]
    for name, value in output.items():
        assert not value[~(pairs if name == "bonds" else mask)].any(), name
    dirty = {
        name: value + 7.0 * ~(pairs if name == "bonds" else mask)[..., None]
        for name, value in inputs.items()
    }
    for name, value in network(dirty, t, mask).items():
        close(value, output[name], 1e-12)


def test_each_input_and_each_weight_reaches_the_outputs() -> None:
    network, (inputs, t, mask) = make_whole(), make_whole_batch([5, 4])
    before = network(inputs, t, mask)
    for name in inputs:
        after = network({**inputs, name: 1.5 * inputs[name]}, t, mask)
        for output, value in before.items():
            assert (after[output] - value).abs().max() > 1e-6, (name, output)
    for name, parameter in network.named_parameters():
        push = 0.01 * torch.randn_like(parameter)  # the readout's norm hides a constant
        with torch.no_grad():
            parameter.add_(push)
            after = network(inputs, t, mask)
            parameter.sub_(push)
        moved = max((after[key] - before[key]).abs().max().item() for key in before)
        assert moved > 1e-6, name


def test_a_network_is_the_same_at_first_with_charges_and_bonds() -> None:
    """As `training.start_from` takes one further: the weights that it lacks change nothing yet."""
    plain, network = make_egnn(), make_egnn(**TOPOLOGY)
    missing = network.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    inputs, t, mask = make_whole_batch([6, 3])
    expected, output = plain(inputs, t, mask), network(inputs, t, mask)
    for name, value in expected.items():
        close(output[name], value, 1e-12)
    assert not output["charges"].any()
    assert not output["bonds"].any()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    hidden = {names[id(parameter)] for parameter in network.hidden_matrices()}
    assert hidden.isdisjoint(missing.missing_keys)


def test_bonds_of_coincident_atoms_have_finite_gradients() -> None:
    network, (inputs, t, mask) = make_whole(), make_whole_batch([6, 3])
    positions = torch.zeros_like(inputs["positions"]).requires_grad_()
    output = network({**inputs, "positions": positions}, t, mask)
    sum(value.square().sum() for value in output.values()).backward()
    gradients = [positions.grad, *(p.grad for p in network.parameters())]
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_bonds_in_bfloat16_are_close() -> None:
    network, (inputs, t, mask) = make_whole().float(), make_whole_batch([8, 5])
    inputs = {name: value.float() for name, value in inputs.items()}
    t = {"positions": t["positions"].float()}
    exact = network(inputs, t, mask)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(inputs, t, mask)
    assert rough["positions"].dtype == torch.float32
    for name in exact:
        error = (rough[name].float() - exact[name]).norm() / exact[name].norm()
        assert 0 < error < 0.05, name


@pytest.mark.slow
@pytest.mark.parametrize("topology", [{}, TOPOLOGY])
def test_compiles_to_the_same_function(topology) -> None:
    network = make_egnn(hidden=16, layers=1, **topology).float()
    inputs, t, mask = make_whole_batch([5, 3]) if topology else make_batch([5, 3])
    inputs = {name: value.float().requires_grad_() for name, value in inputs.items()}
    t = {"positions": t["positions"].float()}
    compiled = torch.compile(network, fullgraph=True, dynamic=False)
    expected, output = network(inputs, t, mask), compiled(inputs, t, mask)
    for name in expected:
        close(output[name], expected[name], 1e-4)
    output["positions"].square().sum().backward()
    assert torch.isfinite(inputs["positions"].grad).all()
