"""The sampling loop: calls, times, hooks and errors."""

from __future__ import annotations

import functools
import itertools

import pytest
import torch

from bfn_core.flows import CategoricalOutput, ContinuousFlow, DiscreteFlow, JointFlow, PointOutput
from bfn_core.sampling import (
    MidpointSolver,
    bayesian_sampler,
    ode_solver,
    renoise_sampler,
    sample,
    sample_steps,
    sde_solver,
)
from bfn_core.times import power_grid, truncated_grid, uniform_grid

FLOWS = JointFlow(x=ContinuousFlow(sigma_1=0.05), e=DiscreteFlow(classes=3, beta_1=2.0))
SHAPES = {"x": (2, 4, 3), "e": (2, 4)}


def predict(states, times):
    return {
        "x": PointOutput(0.5 * states["x"].mean),
        "e": CategoricalOutput(torch.log_softmax(states["e"].logits, -1)),
    }


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("sampler", [bayesian_sampler(), renoise_sampler()], ids=str)
def test_one_call_a_step_and_one_at_the_end(steps, sampler):
    calls = []

    def counting(states, times):
        calls.append(times)
        return predict(states, times)

    shown = list(sample_steps(FLOWS, counting, SHAPES, grid=uniform_grid(steps), sampler=sampler))
    assert len(calls) == len(shown) == sampler.calls_per_step * steps + 1
    assert [step.index for step in shown] == list(range(1, steps + 2))
    assert {step.calls for step in shown} == {steps + 1}
    times = torch.stack([step.times["x"] for step in shown])
    torch.testing.assert_close(times, uniform_grid(steps).float()[:, None].expand(-1, 2))


def test_the_first_call_sees_the_prior_and_the_last_full_accuracy():
    shown = list(
        sample_steps(FLOWS, predict, SHAPES, grid=uniform_grid(5), sampler=bayesian_sampler())
    )
    assert not shown[0].states["x"].mean.any()
    assert not shown[0].states["e"].logits.any()
    torch.testing.assert_close(shown[-1].states["x"].precision, torch.full((2,), 400.0))


def test_each_variable_may_have_its_own_times():
    grids = {"x": uniform_grid(4), "e": power_grid(4, 3.0)}
    shown = list(sample_steps(FLOWS, predict, SHAPES, grid=grids, sampler=bayesian_sampler()))
    for index, step in enumerate(shown):
        for name, grid in grids.items():
            assert step.times[name].tolist() == pytest.approx([float(grid[index])] * 2)
        # Accuracies follow the variable's own clock.
        expected = 0.05 ** (-2 * float(grids["x"][index]))
        assert float(step.states["x"].precision[0]) == pytest.approx(expected, rel=1e-4)


def test_a_variable_may_wait():
    # A grid that does not move for a while adds no accuracy there.
    grids = {"x": uniform_grid(4), "e": torch.tensor([0.0, 0.0, 0.0, 0.5, 1.0])}
    shown = list(sample_steps(FLOWS, predict, SHAPES, grid=grids, sampler=bayesian_sampler()))
    assert not shown[2].states["e"].logits.any()
    assert shown[3].states["e"].logits.any()


def test_sample_returns_the_mode_and_calls_the_hook():
    seen = []
    result = sample(
        FLOWS,
        predict,
        SHAPES,
        grid=uniform_grid(5),
        sampler=renoise_sampler(),
        generator=torch.Generator().manual_seed(0),
        on_step=seen.append,
    )
    assert len(seen) == 6
    assert torch.equal(result["x"], seen[-1].outputs["x"].mean)
    assert torch.equal(result["e"], seen[-1].outputs["e"].log_probs.argmax(-1))
    again = sample(
        FLOWS,
        predict,
        SHAPES,
        grid=uniform_grid(5),
        sampler=renoise_sampler(),
        generator=torch.Generator().manual_seed(0),
    )
    assert torch.equal(result["x"], again["x"])


def test_dtype_is_that_of_the_run():
    run = functools.partial(
        sample, FLOWS, predict, SHAPES, grid=uniform_grid(2), sampler=renoise_sampler()
    )
    assert run(dtype=torch.float64)["x"].dtype == torch.float64
    with pytest.raises(ValueError, match="states must be float32 or float64, got bfloat16"):
        run(dtype=torch.bfloat16)


@pytest.mark.parametrize("name", ["x", "e"])
def test_a_network_that_diverged_makes_no_sample(name):
    def broken(states, times):
        outputs = dict(predict(states, times))
        if name == "x":
            outputs["x"] = PointOutput(outputs["x"].mean * torch.nan)
        else:
            outputs["e"] = CategoricalOutput(outputs["e"].log_probs * torch.nan)
        return outputs

    with pytest.raises(ValueError, match=f"the last output for {name} is not finite"):
        sample(FLOWS, broken, SHAPES, grid=uniform_grid(2), sampler=renoise_sampler())


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (torch.tensor([0.0]), "at least 2"),
        (torch.tensor(0.5), r"x must be one row of times, not of shape \(\)"),
        (torch.zeros(3, 1), r"x must be one row of times, not of shape \(3, 1\)"),
        ({"x": uniform_grid(3), "e": uniform_grid(4)}, "one common length"),
        ({"x": uniform_grid(3)}, "no time grid given for e"),
        (torch.tensor([0.1, 1.0]), "from 0 to 1"),
        (torch.tensor([0.0, 0.9]), "from 0 to 1"),
        (torch.tensor([0.0, 0.6, 0.4, 1.0]), "without falling"),
        (torch.tensor([0.0, torch.nan, 1.0]), "without falling"),
    ],
)
def test_bad_grids(grid, message):
    with pytest.raises(ValueError, match=message):
        sample(FLOWS, predict, SHAPES, grid=grid, sampler=bayesian_sampler())


@pytest.mark.parametrize("grid", [[0.0, 1.0], {"x": uniform_grid(1), "e": [0.0, 1.0]}])
def test_grids_are_tensors(grid):
    with pytest.raises(TypeError, match=r"the time grid of [xe] must be a tensor, not list"):
        sample(FLOWS, predict, SHAPES, grid=grid, sampler=bayesian_sampler())


def test_middles_are_put_into_the_grid():
    grids = {"x": power_grid(3, 2.0), "e": uniform_grid(3)}
    shown = list(sample_steps(FLOWS, predict, SHAPES, grid=grids, sampler=MidpointSolver()))
    assert {step.calls for step in shown} == {len(shown)} == {2 * 3 + 1}
    for name, grid in grids.items():
        expected = [
            0.0,
            *(v for a, b in itertools.pairwise(grid) for v in ((a + b) / 2, b)),
        ]
        found = [float(step.times[name][0]) for step in shown]
        assert found == pytest.approx([float(t) for t in expected])


def test_a_part_of_a_grid_starts_from_noise_alone():
    shapes = {"x": (20000, 1, 1), "e": (20000, 1)}
    eta = 0.2
    grid = truncated_grid(uniform_grid(4), eta)[:-1]
    shown = list(
        sample_steps(
            FLOWS,
            predict,
            shapes,
            grid=grid,
            sampler=ode_solver(order=1),
            whole=False,
            generator=torch.Generator().manual_seed(0),
        )
    )
    assert [float(step.times["x"][0]) for step in shown] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    gamma = 1 - 0.05 ** (2 * eta)
    first = shown[0].states
    assert float(first["x"].mean.mean()) == pytest.approx(0, abs=0.02)
    assert float(first["x"].mean.var()) == pytest.approx(gamma * (1 - gamma), rel=0.05)
    torch.testing.assert_close(first["x"].precision, torch.full((20000,), 1 / (1 - gamma)))
    assert float(first["e"].logits.var()) == pytest.approx(3 * 2.0 * eta**2, rel=0.05)


@pytest.mark.parametrize("grid", [[0.5, 0.5], [-0.1, 1.0], [0.0, 1.1]])
def test_bad_parts_of_grids(grid):
    with pytest.raises(ValueError, match=r"must rise within \[0, 1\]"):
        sample(FLOWS, predict, SHAPES, grid=torch.tensor(grid), sampler=ode_solver(), whole=False)


def test_variables_of_different_numbers_of_samples_are_refused():
    flows = JointFlow(x=ContinuousFlow(sigma_1=0.1), y=DiscreteFlow(classes=3, beta_1=1.0))
    predict = flows.predictor(lambda inputs, t, mask: dict(inputs))
    with pytest.raises(ValueError, match="same number of samples"):
        sample(
            flows, predict, {"x": (4, 2), "y": (1, 2)},
            grid=uniform_grid(2), sampler=bayesian_sampler(),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("mean", "message"),
    [
        (torch.zeros(2, 4, 1), r"output for x of shape \(2, 4, 1\) where \(2, 4, 3\)"),
        (torch.zeros(2), r"output for x of shape \(2,\)"),
        (None, "no output given for x"),
    ],
)
def test_outputs_that_would_broadcast_are_refused(mean, message):
    def wrong(states, times):
        found = predict(states, times)
        return {"e": found["e"]} if mean is None else found | {"x": PointOutput(mean)}

    with pytest.raises(ValueError, match=message):
        sample(FLOWS, wrong, SHAPES, grid=uniform_grid(2), sampler=ode_solver())


def test_what_is_missing_is_named():
    options = {"grid": uniform_grid(2), "sampler": ode_solver()}
    with pytest.raises(ValueError, match="no shape given for e"):
        sample(FLOWS, predict, {"x": SHAPES["x"]}, **options)
    with pytest.raises(ValueError, match="no starting state given for e"):
        sample(FLOWS, predict, SHAPES, start={"x": FLOWS.prior(SHAPES)["x"]}, **options)
    with pytest.raises(TypeError, match="raw output must be a mapping with x, e, not Tensor"):
        sample(FLOWS, FLOWS.predictor(lambda *_: torch.zeros(2)), SHAPES, **options)
    for sampler in (ode_solver, "ode"):
        with pytest.raises(TypeError, match=r"one that was made, such as sde_solver\(\)"):
            sample(FLOWS, predict, SHAPES, grid=uniform_grid(2), sampler=sampler)


def test_a_run_goes_on_from_given_states():
    """In two parts as in one; and from the states of data, which late times hardly change."""
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    options = {"sampler": ode_solver(order=1), "dtype": torch.float64}
    grid = torch.tensor([0.0, 0.2, 0.5, 0.8, 1.0], dtype=torch.float64)
    whole = sample(FLOWS, predict, SHAPES, grid=grid, generator=generators[0], **options)
    *_, middle = sample_steps(
        FLOWS, predict, SHAPES, grid=grid[:3], whole=False, generator=generators[1], **options
    )
    rest = sample(
        FLOWS, predict, SHAPES, grid=grid[2:], whole=False, start=middle.states, **options
    )
    for name, value in whole.items():
        torch.testing.assert_close(rest[name], value)


MASK = torch.tensor([[True, True, True, False], [True, True, False, False]])


@pytest.mark.parametrize(
    "sampler", [ode_solver(), sde_solver(), MidpointSolver(), bayesian_sampler()], ids=str
)
@pytest.mark.parametrize("begin", [0.0, 0.1])
def test_states_are_zero_on_padding_and_centred_from_the_first_noise_on(sampler, begin):
    flows = JointFlow(
        x=ContinuousFlow(sigma_1=0.05, centred=True), e=DiscreteFlow(classes=3, beta_1=2.0)
    )
    steps = sample_steps(
        flows, predict, SHAPES, grid=truncated_grid(uniform_grid(3), begin), sampler=sampler,
        whole=begin == 0, mask=MASK, generator=torch.Generator().manual_seed(2),
    )  # fmt: skip
    for step in steps:
        mean, logits = step.states["x"].mean, step.states["e"].logits
        if float(step.times["x"][0]) > 0:
            assert bool((mean[MASK] != 0).all())
            assert bool((logits[MASK] != 0).all())
        assert not mean[~MASK].any()
        assert not logits[~MASK].any()
        torch.testing.assert_close(mean.sum(1), torch.zeros(2, 3), atol=1e-5, rtol=0)


def test_what_a_network_says_on_padding_does_not_matter():
    def wild(states, times):
        outputs = predict(states, times)
        mean, log_probs = (outputs["x"].mean.clone(), outputs["e"].log_probs.clone())
        mean[~MASK], log_probs[~MASK] = torch.nan, torch.nan
        return {"x": PointOutput(mean), "e": CategoricalOutput(log_probs)}

    made = sample(FLOWS, wild, SHAPES, grid=uniform_grid(3), sampler=ode_solver(), mask=MASK)
    assert bool(made["x"].isfinite().all())
    assert not made["x"][~MASK].any()
    assert not made["e"][~MASK].any()
