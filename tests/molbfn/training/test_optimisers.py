"""Which weights go to which optimiser, and that two of them behave as one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from molbfn.config import TrainingConfig
from molbfn.networks.egnn import EGNN
from molbfn.networks.transformer import EquivariantTransformer
from molbfn.training.optimisers import Together, build_optimiser


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.SiLU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 1))


def settings(**values) -> TrainingConfig:
    return TrainingConfig(**{"optimiser": "muon", "learning_rate": 0.02, **values})


def learn(network: nn.Module, optimiser: torch.optim.Optimizer, steps: int, start: int = 0):
    for step in range(start, start + steps):
        x = torch.randn(32, 6, generator=torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        (network(x) - x[:, :1] * x[:, 1:2]).square().mean().backward()
        optimiser.step()


def test_muon_takes_an_orthogonal_step_in_the_matrices_it_is_given(network):
    middle = network[2].weight
    optimiser = build_optimiser(network, [middle], settings(weight_decay=0))
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    learn(network, optimiser, 1)
    moved = {name: value.detach() - before[name] for name, value in network.named_parameters()}
    # match_rms_adamw: 0.2 sqrt(max(rows, columns)) times an (about) orthogonal matrix, whose
    # singular values Muon's five iterations leave between 0.5 and 1.5 (but for the tiniest).
    singular = torch.linalg.svdvals(moved["2.weight"]) / (0.02 * 0.2 * 8**0.5)
    gradient = torch.linalg.svdvals(middle.grad)
    assert singular[5] > 0.5
    assert singular.max() < 1.6
    assert gradient[5] < 0.1 * gradient[0]  # so plain descent would have moved far from evenly
    # AdamW's first step is the learning rate times the sign of the gradient.
    for name in ("0.weight", "0.bias", "2.bias", "4.weight", "4.bias"):
        steps = moved[name][moved[name] != 0].abs()
        torch.testing.assert_close(steps, torch.full_like(steps, 0.02), rtol=1e-3, atol=0)


def test_it_learns(network):
    optimiser = build_optimiser(network, [network[2].weight], settings())
    x = torch.randn(512, 6, generator=torch.Generator().manual_seed(99))

    def error() -> float:
        with torch.no_grad():
            return float((network(x) - x[:, :1] * x[:, 1:2]).square().mean())

    before = error()
    learn(network, optimiser, 200)
    assert error() < 0.25 * before


def test_a_saved_state_goes_on_as_if_never_saved(network):
    optimiser = build_optimiser(network, [network[2].weight], settings())
    learn(network, optimiser, 3)
    other = copy.deepcopy(network)
    resumed = build_optimiser(other, [other[2].weight], settings())
    resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    learn(network, optimiser, 3, start=3)
    learn(other, resumed, 3, start=3)
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_schedule_moves_the_rate_of_every_part(network):
    optimiser = build_optimiser(network, [network[2].weight], settings())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.0)
    assert isinstance(optimiser, Together)
    assert [group["lr"] for group in optimiser.param_groups] == [0.0, 0.0]
    before = copy.deepcopy(network.state_dict())
    learn(network, optimiser, 1)
    schedule.step()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_parameters_without_gradient_stay(network):
    optimiser = build_optimiser(network, [network[2].weight], settings())
    learn(network, optimiser, 1)
    before = copy.deepcopy(network.state_dict())
    optimiser.zero_grad()
    optimiser.step()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("kind", ["transformer", "egnn"])
def test_networks_name_their_hidden_matrices(kind):
    network: nn.Module
    if kind == "egnn":
        network = EGNN(elements_in=1, elements_out=2, hidden=8, layers=2)
    else:
        network = EquivariantTransformer(elements_in=4, elements_out=4, width=16, blocks=2)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    hidden = [names[id(parameter)] for parameter in network.hidden_matrices()]
    assert len(hidden) > 4
    assert all(name.startswith("blocks.") for name in hidden)
    assert not any("modulation" in name or "bias" in name for name in hidden)
    assert not any(name.endswith("coordinate_out.weight") for name in hidden)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_biases_need_not_decay(optimiser):
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.LayerNorm(3))
    before = [p.detach().clone() for p in network.parameters()]
    training = settings(optimiser=optimiser, decayed="matrices", weight_decay=0.5)
    made = build_optimiser(network, [network[1].weight], training)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    made.step()
    for old, new in zip(before, network.parameters(), strict=True):
        kept = 1 - 0.5 * training.learning_rate if old.dim() == 2 else 1.0
        torch.testing.assert_close(new.detach(), kept * old)
