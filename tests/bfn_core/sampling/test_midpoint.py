"""The single-step solver: its formula, its order, what it does at t = 0."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from bfn_core.flows import (
    CategoricalOutput,
    CategoricalState,
    ContinuousFlow,
    DiscreteFlow,
    GaussianState,
    JointFlow,
    PointOutput,
)
from bfn_core.sampling import MidpointSolver, ode_solver, sample_steps
from bfn_core.times import uniform_grid

SIGMA_1, BETA_1, SPREAD = 0.05, 2.0, 0.7
CONTINUOUS = JointFlow(x=ContinuousFlow(sigma_1=SIGMA_1))
JOINT = JointFlow(x=ContinuousFlow(sigma_1=SIGMA_1), e=DiscreteFlow(classes=3, beta_1=BETA_1))
PRIOR = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)


def network(states, times):
    """The posteriors of N(0, SPREAD^2) data and of one class."""
    beta = (SIGMA_1 ** (-2 * times["x"]) - 1)[:, None]
    mean = states["x"].mean * (1 + beta) * SPREAD**2 / (1 + beta * SPREAD**2)
    outputs = {"x": PointOutput(mean)}
    if "e" in states:
        logits = states["e"].logits + PRIOR.log()
        outputs["e"] = CategoricalOutput(torch.log_softmax(logits, -1))
    return outputs


def gamma(t: float) -> float:
    return 1 - SIGMA_1 ** (2 * t)


def walk(flows, states, grid):
    """Drive the solver along a grid (middles put in here), and return the last states."""

    def times(t):
        return {name: torch.full((1,), t, dtype=torch.float64) for name in flows}

    solver = MidpointSolver()
    history = solver.init(states, times(grid[0]))
    for start, end in itertools.pairwise(grid):
        for before, after in ((start, (start + end) / 2), ((start + end) / 2, end)):
            outputs = network(history.current, times(before))
            history = solver.step(flows, history, outputs, times(after))
    return history.current


def states_at(t: float):
    return {
        "x": GaussianState(
            torch.tensor([[0.3]], dtype=torch.float64),
            torch.full((1,), SIGMA_1 ** (-2 * t), dtype=torch.float64),
        ),
        "e": CategoricalState(torch.tensor([[0.6, -0.3, 0.1]], dtype=torch.float64)),
    }


def test_one_step_of_classes_as_published():
    s, t = 0.4, 0.7
    m = 0.55
    z = states_at(s)["e"].logits

    def p(z):
        return torch.softmax(z + PRIOR.log(), -1)

    middle = m / s * z + 3 * BETA_1 * m * (m - s) * (p(z) - 1 / 3)
    expected = t / s * z + 3 * BETA_1 * t * (t - s) * (p(middle) - 1 / 3)
    torch.testing.assert_close(walk(JOINT, states_at(s), [s, t])["e"].logits, expected)


def test_second_order_on_gaussian_data_and_on_classes():
    """Gaussian data have a flow map in closed form; for classes a fine grid is the reference."""
    start, end = 0.2, 0.9

    def variance(t: float) -> float:
        return gamma(t) ** 2 * SPREAD**2 + gamma(t) * (1 - gamma(t))

    exact = {
        "x": math.sqrt(variance(end) / variance(start)) * states_at(start)["x"].mean,
        "e": walk(JOINT, states_at(start), torch.linspace(start, end, 1281).tolist())["e"].logits,
    }
    errors = {"x": [], "e": []}
    for steps in (10, 20, 40):
        last = walk(JOINT, states_at(start), torch.linspace(start, end, steps + 1).tolist())
        errors["x"].append(float((last["x"].mean - exact["x"]).abs().max()))
        errors["e"].append(float((last["e"].logits - exact["e"]).abs().max()))
    for found in errors.values():
        rates = [math.log2(a / b) for a, b in itertools.pairwise(found)]
        assert rates == pytest.approx([2, 2], abs=0.3)


def run(flows, shapes, sampler, steps, generator):
    *_, last = sample_steps(
        flows,
        network,
        shapes,
        grid=uniform_grid(steps),
        sampler=sampler,
        generator=generator,
        dtype=torch.float64,
    )
    return last


def test_gaussian_data_come_back(assert_variance, generator):
    """Also: both halves of the first step, from t = 0, take the same noise."""
    last = run(CONTINUOUS, {"x": (4000, 1)}, MidpointSolver(), 100, generator)
    beta = SIGMA_1**-2 - 1
    assert_variance(last.outputs["x"].mean, SPREAD**2 - SPREAD**2 / (1 + beta * SPREAD**2))
    twin = torch.Generator().manual_seed(20231)
    torch.randn(4000, 1, dtype=torch.float64, generator=twin)
    assert torch.equal(generator.get_state(), twin.get_state())


def test_nearer_than_first_order_at_equal_calls():
    def error(sampler, steps) -> float:
        generator = torch.Generator().manual_seed(0)
        last = run(CONTINUOUS, {"x": (20000, 1)}, sampler, steps, generator)
        return abs(float(last.outputs["x"].mean.var()) - SPREAD**2)

    assert error(MidpointSolver(), 12) < 0.5 * error(ode_solver(order=1), 24)
