"""Muon against singular value decompositions and against torch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from molbfn.training import muon
from molbfn.training.muon import Muon, orthogonal

SHAPES = [(8, 8), (12, 5), (5, 12), (12, 5)]


def matrices(shapes=SHAPES, seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def descend(parameters, optimiser, *, steps: int) -> None:
    for step in range(steps):
        generator = torch.Generator().manual_seed(100 + step)
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimiser.step()


@pytest.fixture(params=[False, True], ids=["fp32", "bf16"])
def bf16(request, monkeypatch) -> bool:
    monkeypatch.setattr(muon, "multiplies_bf16", lambda device: request.param)
    return request.param


@pytest.mark.parametrize("shape", [(3, 6, 6), (2, 9, 4), (2, 4, 9)])
def test_singular_values_go_through_the_polynomial_and_vectors_stay(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    s = s / s.square().sum(-1, keepdim=True).sqrt()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    assert s.min() > 0.68
    assert s.max() < 1.21
    torch.testing.assert_close(orthogonal(x), u @ torch.diag_embed(s) @ v, rtol=1e-10, atol=1e-10)


def test_a_matrix_of_zeros_stays():
    assert not orthogonal(torch.zeros(2, 3, 4)).any()


def test_steps_are_those_of_torch(bf16):
    ours = matrices()
    theirs = copy.deepcopy(ours)
    settings = {"lr": 0.03, "weight_decay": 0.2}
    descend(ours, Muon(ours, **settings), steps=4)
    reference = torch.optim.Muon(theirs, **settings, adjust_lr_fn="match_rms_adamw")
    descend(theirs, reference, steps=4)
    start = matrices()
    # torch's iterations are in bfloat16, which keeps two to three digits of a step.
    for one, two, first in zip(ours, theirs, start, strict=True):
        assert (one - two).norm() < 0.03 * (two - first).norm()
        assert (one - first).norm() > 0.1


def test_float32_iterations_are_exact_where_bfloat16_is_emulated(monkeypatch):
    monkeypatch.setattr(muon, "multiplies_bf16", lambda device: False)
    (parameter,) = ours = matrices([(7, 4)])
    before = parameter.detach().clone()
    descend(ours, Muon(ours, lr=0.1), steps=1)
    # The average starts at zero: (1 - m) g after a step, and one step ahead (1 - m^2) g.
    direction = orthogonal(parameter.grad[None].double())[0]
    expected = before - 0.1 * 0.2 * 7**0.5 * direction
    torch.testing.assert_close(parameter.detach(), expected.float(), rtol=1e-5, atol=1e-6)


def test_it_goes_on_from_a_state_of_torch(bf16):
    theirs = matrices()
    reference = torch.optim.Muon(theirs, lr=0.03, adjust_lr_fn="match_rms_adamw", weight_decay=0.0)
    descend(theirs, reference, steps=3)
    ours = copy.deepcopy(theirs)
    optimiser = Muon(ours, lr=0.03)
    optimiser.load_state_dict(copy.deepcopy(reference.state_dict()))
    for one, two in zip(ours, theirs, strict=True):
        average = optimiser.state[one]["momentum_buffer"]
        assert torch.equal(average, reference.state[two]["momentum_buffer"])
        assert average.norm() > 0.1
    before = [parameter.detach().clone() for parameter in ours]
    descend(ours, optimiser, steps=1)
    descend(theirs, reference, steps=1)
    for one, two, first in zip(ours, theirs, before, strict=True):
        assert (one - two).norm() < 0.03 * (two - first).norm()


def test_matrices_of_one_shape_do_not_mix(bf16):
    together = matrices()
    apart = copy.deepcopy(together)
    descend(together, Muon(together, lr=0.1), steps=1)
    for parameter, gradient_of in zip(apart, together, strict=True):
        parameter.grad = gradient_of.grad
        Muon([parameter], lr=0.1).step()
    for one, two in zip(together, apart, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3 if bf16 else 1e-6)


def test_without_gradient_nothing_moves(bf16):
    parameters = matrices()
    before = copy.deepcopy(parameters)
    parameters[0].grad = torch.ones_like(parameters[0])
    Muon(parameters, lr=0.1, weight_decay=0.5).step()
    assert not torch.equal(parameters[0], before[0])
    for one, two in zip(parameters[1:], before[1:], strict=True):
        assert torch.equal(one, two)


def test_only_matrices():
    with pytest.raises(ValueError, match=r"Muon takes matrices, not shape \(3,\)"):
        Muon([nn.Parameter(torch.ones(3))], lr=0.1)


def test_a_closure_is_called_with_gradients(bf16):
    (parameter,) = matrices([(3, 3)])

    def closure() -> float:
        loss = parameter.square().sum()
        loss.backward()
        return float(loss.detach())

    assert Muon([parameter], lr=0.1).step(closure) > 0
    assert parameter.grad is not None
