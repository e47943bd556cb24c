"""The transformer: exact symmetries in float64 with outputs that are not zero, exact padding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bfn_core import ContinuousFlow, DiscreteFlow, JointFlow, PreconditionedPrediction
from molbfn.errors import UserError
from molbfn.networks.transformer import (
    Block,
    DistanceFeatures,
    EquivariantTransformer,
    PairGeometry,
    bounded,
    inverse_rms,
    rms_norm,
)

SIZES = [6, 9, 1, 2]
JOINT = {"charges": 3, "bonds": 4}


@pytest.fixture(params=["positions and elements", "with charges and bonds"])
def joint(request) -> bool:
    return request.param.startswith("with")


def make_network(joint: bool = False, **options) -> EquivariantTransformer:
    """A small network in float64 whose zero-initialised layers are not zero any more."""
    torch.manual_seed(0)
    options = {**JOINT, **options} if joint else options
    settings = {
        "elements_in": 4,
        "elements_out": 3,
        "width": 24,
        "vectors": 8,
        "pair_width": 8,
        "message_width": 12,
        "dots": 4,
        "heads": 4,
        "blocks": 3,
        "distances": 8,
        "time_features": 4,
        "condition_width": 16,
    }
    network = EquivariantTransformer(**settings | options).double()
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return network


def make_batch(
    sizes: list[int] = SIZES, *, width: int | None = None, channels: int = 4, joint: bool = False
):
    generator = torch.Generator().manual_seed(1)
    width = width or max(sizes)
    mask = torch.arange(width) < torch.tensor(sizes)[:, None]
    shapes = {"positions": (width, 3), "elements": (width, channels)}
    if joint:
        shapes |= {"charges": (width, 3), "bonds": (width, width, 4)}
    inputs = {
        name: torch.randn(len(sizes), *shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    if joint:
        inputs["bonds"] = inputs["bonds"] + inputs["bonds"].transpose(1, 2)
    inputs = masked(inputs, mask)
    count = mask.sum(1)[:, None, None]
    inputs["positions"] -= inputs["positions"].sum(1, keepdim=True) / count
    inputs = masked(inputs, mask)
    times = {
        name: torch.rand(len(sizes), generator=generator, dtype=torch.float64) for name in inputs
    }
    return inputs, times, mask


def real(value: Tensor, name: str, mask: Tensor) -> Tensor:
    """Where a variable has data, True or False, with as many axes as its value."""
    where = mask[:, :, None] & mask[:, None, :] if name == "bonds" else mask
    return where[..., None].expand(value.shape)


def masked(values: dict[str, Tensor], mask: Tensor, padding: float = 0.0) -> dict[str, Tensor]:
    return {
        name: torch.where(real(value, name, mask), value, padding) for name, value in values.items()
    }


def part(values: dict[str, Tensor], row: int, size: int) -> dict[str, Tensor]:
    """One molecule without padding."""
    return {
        name: value[row : row + 1, :size, :size] if name == "bonds" else value[row : row + 1, :size]
        for name, value in values.items()
    }


def reordered(values: dict[str, Tensor], order: Tensor) -> dict[str, Tensor]:
    return {
        name: value[:, order][:, :, order] if name == "bonds" else value[:, order]
        for name, value in values.items()
    }


def close(left: Tensor, right: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(left, right, rtol=0, atol=tolerance)


def assert_not_trivial(output: dict[str, Tensor]) -> None:
    for value in output.values():
        assert value.abs().max() > 0.1


@pytest.mark.parametrize("determinant", [1, -1])
def test_rotations_and_reflections(determinant: int, joint: bool):
    network, (inputs, t, mask) = make_network(joint), make_batch(joint=joint)
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    q = q * determinant * torch.linalg.det(q).sign()
    plain = network(inputs, t, mask)
    turned = network({**inputs, "positions": inputs["positions"] @ q.T}, t, mask)
    assert_not_trivial(plain)
    assert plain.keys() == inputs.keys()
    close(turned.pop("positions"), plain.pop("positions") @ q.T)
    for name, value in turned.items():
        close(value, plain[name])


def test_a_map_that_is_no_rotation_changes_the_output():
    network, (inputs, t, mask) = make_network(), make_batch()
    stretch = torch.diag(torch.tensor([1.0, 1.0, 1.5], dtype=torch.float64))
    plain = network(inputs, t, mask)
    stretched = network({**inputs, "positions": inputs["positions"] @ stretch}, t, mask)
    assert (stretched["positions"] - plain["positions"] @ stretch).abs().max() > 1e-3


def test_permutations(joint: bool):
    network, (inputs, t, mask) = make_network(joint), make_batch([7, 7], joint=joint)
    order = torch.randperm(7)
    plain = network(inputs, t, mask)
    permuted = network(reordered(inputs, order), t, mask)
    assert_not_trivial(plain)
    for name, value in reordered(plain, order).items():
        close(permuted[name], value)


def test_padding_and_neighbours_in_the_batch_do_not_matter(joint: bool):
    network, (inputs, t, mask) = make_network(joint), make_batch(width=12, joint=joint)
    whole = network(inputs, t, mask)
    assert_not_trivial(whole)
    for row, size in enumerate(SIZES):
        alone = network(
            part(inputs, row, size),
            {name: value[row : row + 1] for name, value in t.items()},
            mask[row : row + 1, :size],
        )
        for name, value in part(whole, row, size).items():
            close(value, alone[name])


def test_padding_is_exactly_zero_and_unread(joint: bool):
    network, (inputs, t, mask) = make_network(joint), make_batch(width=11, joint=joint)
    plain = network(inputs, t, mask)
    for name, value in plain.items():
        assert (value[~real(value, name, mask)] == 0).all()
    for name, value in network(masked(inputs, mask, 7.0), t, mask).items():
        close(value, plain[name])


def test_bonds_go_in_once_a_pair_and_come_out_symmetric():
    network, (inputs, t, mask) = make_network(True), make_batch(joint=True)
    plain = network(inputs, t, mask)
    close(plain["bonds"], plain["bonds"].transpose(1, 2))
    upper = inputs["bonds"] * torch.ones(9, 9).triu(1)[..., None]
    for name, value in network({**inputs, "bonds": upper}, t, mask).items():
        close(value, plain[name])


def test_each_input_reaches_each_output():
    network, (inputs, t, mask) = make_network(True), make_batch(joint=True)
    plain = network(inputs, t, mask)
    for name, value in inputs.items():
        changed = network({**inputs, name: 1.5 * value}, t, mask)
        for output in plain:
            assert (changed[output] - plain[output]).abs().max() > 1e-4, (name, output)


def test_positions_have_no_centre_of_mass():
    network, (inputs, t, mask) = make_network(), make_batch()
    total = network(inputs, t, mask)["positions"].sum(1)
    close(total, torch.zeros_like(total), 1e-12)


def conditioned(inputs: dict[str, Tensor], known: float = 1.0) -> dict[str, Tensor]:
    """Add estimates of before: the inputs turned about."""
    count = len(inputs["positions"])
    shown = {f"previous_{name}": 0.7 * value for name, value in inputs.items()}
    return {**inputs, **shown, "previous_known": torch.full((count,), known).double()}


@pytest.mark.parametrize("determinant", [1, -1])
def test_self_conditioning_is_equivariant(determinant: int):
    network, (inputs, t, mask) = make_network(True, self_conditioning=True), make_batch(joint=True)
    q, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    q = q * determinant * torch.linalg.det(q).sign()
    turned = {**inputs, "positions": inputs["positions"] @ q.T}
    plain = network(conditioned(inputs), t, mask)
    moved = network(conditioned(turned), t, mask)
    close(moved.pop("positions"), plain.pop("positions") @ q.T)
    for name, value in moved.items():
        close(value, plain[name])


def test_previous_estimates_count_where_they_are_known():
    network, (inputs, t, mask) = make_network(True, self_conditioning=True), make_batch(joint=True)
    told = network(conditioned(inputs), t, mask)
    blind = network(conditioned(inputs, 0.0), t, mask)
    other = conditioned(inputs, 0.0)
    other |= {name: 3 * other[name] for name in other if name.startswith("previous_")}
    for name, value in network(other, t, mask).items():
        close(value, blind[name])
        assert (told[name] - value).abs().max() > 1e-4
        assert (told[name][~real(value, name, mask)] == 0).all()
    for name in inputs:
        changed = conditioned(inputs)
        changed[f"previous_{name}"] = 1.5 * changed[f"previous_{name}"]
        assert (network(changed, t, mask)["bonds"] - told["bonds"]).abs().max() > 1e-5, name


def test_each_time_matters(joint: bool):
    network, (inputs, t, mask) = make_network(joint), make_batch(joint=joint)
    plain = network(inputs, t, mask)
    for name in t:
        changed = network(inputs, {**t, name: 1 - t[name]}, mask)
        for output in plain:
            assert (changed[output] - plain[output]).abs().max() > 1e-4


def test_fresh_networks_return_zero():
    inputs, t, mask = make_batch(joint=True)
    torch.manual_seed(0)
    network = EquivariantTransformer(
        elements_in=4, elements_out=3, width=16, heads=4, **JOINT
    ).double()
    for value in network(inputs, t, mask).values():
        assert (value == 0).all()


def test_heads_must_divide_the_widths():
    with pytest.raises(UserError, match=r"network.heads: 4 must divide width \(18\)"):
        EquivariantTransformer(elements_in=4, elements_out=3, width=18, heads=4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("time", [0.0, 1e-6, 1.0])
def test_gradients_are_finite_for_coincident_atoms_and_extreme_times(time: float, dtype):
    network = make_network(elements_out=4).to(dtype)
    (inputs, _, mask), t = make_batch([5, 3]), torch.full((2,), time, dtype=dtype)
    inputs["positions"][0, :5] = 0  # five atoms in one place
    flows = JointFlow(
        positions=ContinuousFlow(
            sigma_1=0.001, centred=True, parameterisation=PreconditionedPrediction(0.9)
        ),
        elements=DiscreteFlow(classes=4, beta_1=3.0),
    )
    data = {
        "positions": inputs["positions"].to(dtype),
        "elements": torch.zeros(2, 5, dtype=torch.int64),
    }
    generator = torch.Generator().manual_seed(0)
    times = flows.times(t)
    states = flows.sample(data, times, mask=mask, generator=generator)
    states = {
        name: type(state)(*(value.to(dtype) for value in vars(state).values()))
        for name, state in states.items()
    }
    outputs = flows.predictor(network, mask)(states, times)
    losses = flows.continuous_time_loss(data, outputs, times, mask=mask)
    sum(loss.sum() for loss in losses.values()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name


def test_gradients_at_exactly_coincident_inputs():
    network, (inputs, t, mask) = make_network(), make_batch()
    x = torch.zeros_like(inputs["positions"]).requires_grad_()
    network({**inputs, "positions": x}, t, mask)["elements"].square().sum().backward()
    assert x.grad.isfinite().all()


def test_vectors_that_scale_themselves_do_not_overflow():
    """Gates that answer to the lengths of vectors squared them from block to block."""
    network = make_network(blocks=6).float()
    with torch.no_grad():
        for block in network.blocks:
            block.mlp_in.weight *= 30
            block.mlp_out.weight *= 30
    inputs, t, mask = make_batch()
    inputs = {name: value.float() for name, value in inputs.items()}
    output = network(inputs, {name: value.float() for name, value in t.items()}, mask)
    sum(value.square().sum() for value in output.values()).backward()
    assert output["positions"].isfinite().all()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name


def test_short_vectors_are_not_bounded():
    v = torch.randn(2, 3, 3, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(bounded(v, inverse_rms(v)), v)
    long = bounded(1e4 * v, inverse_rms(1e4 * v))
    close(long.square().sum(2).mean(-1).sqrt(), torch.full((2, 3), 100.0), 1e-4)
    close(long / 100, rms_norm(v), 1e-4)


def test_a_block_is_its_sums_written_out():
    """Atom by atom and neighbour by neighbour, from the weights alone."""
    block: Block = make_network().blocks[1]
    inputs, _, mask = make_batch([5, 3])
    x, weights = inputs["positions"], dict(block.named_parameters())
    generator = torch.Generator().manual_seed(3)
    h, v, e, condition = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in [(2, 5, 24), (2, 5, 3, 8), (2, 5, 5, 8), (2, 16)]
    )
    found = block(h, v, e, geometry=PairGeometry.of(x, mask), condition=condition)

    def layer(name: str, value: Tensor) -> Tensor:
        return weights[f"{name}.weight"] @ value + weights.get(f"{name}.bias", 0.0)

    def normed(value: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        value = (value - value.mean()) / (value.var(correction=0) + 1e-5).sqrt()
        return value * (1 + scale) + shift

    def lengths(value: Tensor) -> Tensor:
        return (value.square().sum(0) + 1e-6).sqrt()

    for molecule, count in enumerate([5, 3]):
        shift_1, scale_1, shift_2, scale_2 = layer("modulation", condition[molecule]).chunk(4)
        one = [normed(h[molecule, k], shift_1, scale_1) for k in range(count)]
        unit = [v[molecule, k] / (v[molecule, k].square().sum(0).mean() + 1e-4).sqrt()
                for k in range(count)]  # fmt: skip
        own, other = zip(*(layer("nodes_to_message", n).chunk(2) for n in one), strict=True)
        for i in range(count):
            messages = []
            for j in range(count):
                query, key = (weights[f"{n}.weight"] @ unit[k].T
                              for n, k in [("queries", i), ("keys", j)])  # fmt: skip
                dots = (query * key).sum(1)
                pair = layer("pairs_to_message", torch.cat([e[molecule, i, j], dots]))
                summed = own[i] + other[j] + pair
                messages.append(layer("message_out", summed * summed.sigmoid()))
                close(found[2][molecule, i, j], e[molecule, i, j] + messages[-1][16:])
            logits, gates = torch.stack(messages)[:, :4], torch.stack(messages)[:, 4:8].sigmoid()
            attention = logits.exp() / logits.exp().sum(0)
            scalars, moved, pushed = torch.zeros(24), torch.zeros(3, 8), torch.zeros(3, 8)
            for j in range(count):
                value = layer("values", one[j]).view(4, 6)
                scalars = scalars + (attention[j, :, None] * value).flatten()
                vector = (unit[j] @ weights["vector_values.weight"].T).view(3, 4, 2)
                moved = moved + (vector * (attention * gates)[j, :, None]).flatten(1)
                offset = x[molecule, j] - x[molecule, i]
                pushed = pushed + torch.outer(offset / (1 + offset.norm()), messages[j][8:16])
            atom = h[molecule, i] + layer("scalars_update", scalars)
            vectors = (
                v[molecule, i] + torch.cat([moved, pushed], 1) @ weights["vectors_update.weight"].T
            )
            hidden = layer("mlp_in", torch.cat([normed(atom, shift_2, scale_2), lengths(vectors)]))
            update, gate = layer("mlp_out", hidden * hidden.sigmoid()).split([24, 8])
            close(found[0][molecule, i], atom + update)
            close(found[1][molecule, i], vectors + vectors @ weights["vectors_mix.weight"].T * gate)


def test_far_atoms_have_no_denormal_features():
    """Numbers below the normal ones cost a processor ten times as much."""
    features = DistanceFeatures(24)(torch.linspace(0, 30, 200))
    assert features.min() >= torch.finfo(torch.float32).tiny
    assert (features.min(0).values < 1e-30).any()
    nearness = torch.exp(-torch.linspace(0, 30, 200, dtype=torch.float64) / 2)[:, None]
    exact = torch.exp(-((nearness - torch.linspace(0, 1, 24)) * 23).square())
    torch.testing.assert_close(features.double(), exact, rtol=1e-4, atol=1e-30)


def test_bfloat16_autocast_stays_close(joint: bool):
    network, (inputs, t, mask) = make_network(joint).float(), make_batch(joint=joint)
    inputs = {name: value.float() for name, value in inputs.items()}
    t = {name: value.float() for name, value in t.items()}
    exact = network(inputs, t, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = network(inputs, t, mask)
    for name, value in exact.items():
        assert (rough[name].float() - value).abs().max() < 0.05 * value.abs().max()
        assert (rough[name][~real(value, name, mask)] == 0).all()
