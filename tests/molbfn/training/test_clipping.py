"""Clipping against the rule written out, and steps that must not be taken."""

from __future__ import annotations

import math

import pytest
import torch

from molbfn.config import ClipConfig
from molbfn.training.clipping import GradientGuard
from molbfn.training.muon import Muon
from molbfn.training.optimisers import Together


def parameter(*gradient: float) -> torch.nn.Parameter:
    made = torch.nn.Parameter(torch.zeros(len(gradient)))
    made.grad = torch.tensor(gradient)
    return made


def test_a_fixed_limit_scales_to_the_norm():
    long, short = parameter(3.0, 0.0), parameter(4.0)
    norm = GradientGuard(1.0)([long, short])
    assert norm.item() == pytest.approx(5.0)
    assert torch.cat([long.grad, short.grad]).norm().item() == pytest.approx(1.0, rel=1e-5)
    assert long.grad[0].item() == pytest.approx(0.6, rel=1e-5)


def test_below_the_limit_nothing_changes():
    p = parameter(0.3, 0.4)
    GradientGuard(1.0)([p])
    assert p.grad.tolist() == pytest.approx([0.3, 0.4])


def test_the_adaptive_limit_follows_mean_and_deviation():
    guard = GradientGuard(ClipConfig(factor=1.5, spreads=2.0, window=12))
    norms = [1.0, 2.0, 1.5, 1.2, 0.8, 1.1, 1.9, 1.4, 1.3, 0.9, 1.6, 1.7, 1.8, 1.0]
    for value in norms:
        guard([parameter(value)])
    last = norms[-12:]
    mean = sum(last) / 12
    deviation = math.sqrt(sum((x - mean) ** 2 for x in last) / 11)
    assert guard.limit == pytest.approx(1.5 * mean + 2 * deviation)


def test_the_adaptive_rule_waits_for_some_norms():
    guard = GradientGuard(ClipConfig(window=50))
    big = parameter(1e6)
    for _ in range(9):
        guard([parameter(1.0)])
    guard([big])
    assert big.grad.item() == 1e6
    assert math.isfinite(guard.limit)


def test_a_short_window_is_enough():
    guard = GradientGuard(ClipConfig(factor=1.0, spreads=0.0, window=2))
    for value in (1.0, 3.0):
        guard([parameter(value)])
    assert guard.limit == pytest.approx(2.0)


def test_a_clipped_norm_enters_as_the_limit():
    guard = GradientGuard(ClipConfig(factor=1.5, spreads=0.0, window=10))
    for _ in range(10):
        guard([parameter(1.0)])
    guard([parameter(1e9)])
    assert guard.limit == pytest.approx(1.5 * (9 * 1.0 + 1.5) / 10)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("clip", [1.0, ClipConfig(window=5)])
def test_a_step_that_is_not_finite_is_refused(bad: float, clip: float | ClipConfig):
    guard = GradientGuard(clip)
    for _ in range(12):
        guard([parameter(1.0)])
    limit = guard.limit
    good, broken = parameter(1.0), parameter(bad)
    optimiser = torch.optim.AdamW([good, broken], lr=0.1, weight_decay=0.5)
    with torch.no_grad():
        good.fill_(2.0)
    norm = guard([good, broken])
    optimiser.step()
    assert not torch.isfinite(norm)
    assert good.item() == 2.0  # neither moved nor decayed
    assert broken.item() == 0.0
    assert not optimiser.state[good]
    assert guard.bad_steps == 1
    assert guard.limit == limit  # not poisoned


OPTIMISERS = {
    "adamw": lambda parts: torch.optim.AdamW(parts, lr=0.1, weight_decay=0.5, fused=True),
    "muon": lambda parts: Muon(parts, lr=0.1, weight_decay=0.5),
    "both": lambda parts: Together(
        Muon(parts[:1], lr=0.1, weight_decay=0.5), torch.optim.AdamW(parts[1:], lr=0.1, fused=True)
    ),
}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_optimiser_that_skips_by_itself_does_what_missing_gradients_would(
    optimiser: str, bad: float
):
    generator = torch.Generator().manual_seed(0)
    first = [torch.randn(4, 3, generator=generator) for _ in range(3)]
    gradients = [[torch.randn(4, 3, generator=generator) for _ in first] for _ in range(5)]
    gradients[1][0][2, 1] = gradients[3][2][0, 0] = bad

    def train(tell: bool) -> tuple[list[torch.Tensor], int]:
        parts = [torch.nn.Parameter(weight.clone()) for weight in first]
        steps, guard = OPTIMISERS[optimiser](parts), GradientGuard(1.0)
        seen = []
        for of_step in gradients:
            for part, gradient in zip(parts, of_step, strict=True):
                part.grad = gradient.clone()
            guard(parts, steps if tell else None)
            steps.step()
            seen += [part.detach().clone() for part in parts]
        moments = [value for part in parts for value in steps.state[part].values()]
        return seen + moments, guard.bad_steps

    (told, counted), (plain, expected) = train(True), train(False)
    assert counted == expected == 2
    for one, other in zip(told, plain, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("clip", [1.0, ClipConfig(window=5)])
def test_an_optimiser_that_cannot_skip_has_its_gradients_removed(clip: float | ClipConfig):
    broken = parameter(math.nan)
    GradientGuard(clip)([broken], torch.optim.AdamW([broken], amsgrad=True, foreach=True))
    assert broken.grad is None


def test_state_comes_back():
    guard, other = (GradientGuard(ClipConfig(window=10)) for _ in range(2))
    for value in (*range(1, 11), math.nan):
        guard([parameter(float(value))])
    other.load_state_dict(guard.state_dict())
    assert (other.limit, other.bad_steps) == (guard.limit, 1)


def test_no_gradient_at_all_is_no_bad_step():
    guard = GradientGuard(1.0)
    guard([torch.nn.Parameter(torch.zeros(2))])
    assert guard.bad_steps == 0
