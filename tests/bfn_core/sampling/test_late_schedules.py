"""Schedules under which nothing is known for a while after t = 0: noise comes in with beta."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from bfn_core import (
    AccuracySchedule,
    CategoricalOutput,
    ContinuousFlow,
    DiscreteFlow,
    JointFlow,
    MidpointSolver,
    PointOutput,
    SolverSampler,
    bayesian_sampler,
    flow_density,
    ode_solver,
    power_grid,
    sample,
    sde_solver,
    uniform_grid,
)

SPREAD, COUNT = 0.7, 4000
PRIOR = torch.tensor([0.5, 0.2, 0.3])
SAMPLERS = {
    "bayesian": bayesian_sampler(),
    "sde": sde_solver(),
    "ode of order 1": ode_solver(order=1),
    "ode": ode_solver(),
    "ode about Gaussian data": SolverSampler(spread={"x": SPREAD, "e": math.sqrt(3)}),
    "midpoint": MidpointSolver(),
}


@dataclass(frozen=True)
class LateSchedule(AccuracySchedule):
    """``beta_1 ((t - 0.35) / 0.65)^2`` from t = 0.35 on, and 0 before."""

    beta_1: float

    def beta(self, t: Tensor) -> Tensor:
        return self.beta_1 * ((t - 0.35) / 0.65).clamp_min(0.0).square()

    def rate(self, t: Tensor) -> Tensor:
        return self.beta_1 * 2 * ((t - 0.35) / 0.65).clamp_min(0.0) / 0.65


LATE = JointFlow(
    x=ContinuousFlow(schedule=LateSchedule(400.0)),
    e=DiscreteFlow(classes=3, schedule=LateSchedule(8.0)),
)
USUAL = JointFlow(x=ContinuousFlow(sigma_1=0.05), e=DiscreteFlow(classes=3, beta_1=8.0))


def exact(flows):
    """The posteriors of N(0, SPREAD^2) data and of classes with probabilities PRIOR."""

    def predict(states, times):
        beta = flows["x"].schedule.beta(times["x"])[:, None]
        logits = states["e"].logits
        return {
            "x": PointOutput((1 + beta) * SPREAD**2 / (1 + beta * SPREAD**2) * states["x"].mean),
            "e": CategoricalOutput(torch.log_softmax(logits + PRIOR.log().to(logits), -1)),
        }

    return predict


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(
    ("flows", "grid"),
    [(LATE, uniform_grid(200)), (USUAL, power_grid(100, 14.0))],
    ids=["a late schedule", "late steps"],
)
def test_samples_have_the_law_of_the_data(name, flows, grid, assert_frequencies):
    """The grid ``u^14`` has times of 1e-28, whose squares are 0 in float32."""
    made = sample(
        flows,
        exact(flows),
        {"x": (COUNT, 1), "e": (COUNT, 1)},
        grid=grid,
        sampler=SAMPLERS[name],
        generator=torch.Generator().manual_seed(1),
    )
    # late steps of u^14 are long: what is asked is that the samples are not all alike
    tolerance = 0.08 if flows is LATE else 0.3
    assert float(made["x"].std()) == pytest.approx(SPREAD, rel=tolerance)
    counts = torch.bincount(made["e"][:, 0], minlength=3)
    if flows is LATE:
        assert_frequencies(counts, PRIOR)
    assert int(counts.min()) > 0.1 * COUNT


def test_a_density_is_not_followed_to_where_nothing_is_known():
    latents = {"x": torch.zeros(1, 1), "e": torch.zeros(1, 1, 3)}
    with pytest.raises(ValueError, match=r"beta of x is 0 at eta = 0.2, where nothing is known"):
        flow_density(LATE, exact(LATE), latents, eta=0.2)
    found = flow_density(LATE, exact(LATE), latents, eta=0.4, spread={"x": SPREAD}, steps=4)
    assert bool(found.log_density.isfinite().all())


def test_times_finer_than_the_states():
    """In float64 beta(1e-30) is no 0; in the states' float32 nothing is known at that time."""
    flows = JointFlow(e=DiscreteFlow(classes=3, beta_1=8.0))
    start, end = ({"e": torch.full((500,), t, dtype=torch.float64)} for t in (1e-30, 0.5))
    sampler = ode_solver(order=1)
    history = sampler.init(flows.prior({"e": (500,)}), start)
    sure = {"e": CategoricalOutput(torch.tensor([1.0, 0.0, 0.0]).log().expand(500, 3))}
    moved = sampler.step(flows, history, sure, end, generator=torch.Generator().manual_seed(0))
    variance = 3 * 8.0 * 0.5**2  # K beta
    assert float(moved.current["e"].logits.var(0).mean()) == pytest.approx(variance, rel=0.15)
