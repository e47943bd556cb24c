import json
import re

import numpy as np
import pytest
import torch

from bfn_core import SolverSampler, ode_solver, sde_solver
from molbfn.errors import UserError
from molbfn.generation import plan as module
from molbfn.generation.job import generate_file
from molbfn.generation.plan import GenerationOptions, check_count, plan_sampling
from molbfn.model import load_model


def test_what_is_not_given_is_the_models_own(make_tiny_model):
    stored = {"steps": 7, "sampler": "window", "window": 3, "temperature": 1.5, "knots": []}
    plan = plan_sampling(make_tiny_model(sampling=stored), GenerationOptions())
    assert (plan.steps, plan.sampler_name, plan.calls) == (7, "window", 8)
    assert (plan.sampler.window, plan.sampler.draw, plan.sampler.temperature) == (3, True, 1.5)
    torch.testing.assert_close(plan.grid, torch.arange(8, dtype=torch.float64) / 7)
    assert plan.batch_size is None
    assert plan.sizes.sizes == (4, 6, 9, 12)


def test_what_is_stored_for_one_sampler_is_not_taken_for_another(make_tiny_model):
    model = make_tiny_model(sampling={"sampler": "renoise", "draw": True, "temperature": 0.5})
    own = plan_sampling(model, GenerationOptions()).sampler
    assert (own.window, own.draw, own.temperature) == (None, True, 0.5)
    other = plan_sampling(model, GenerationOptions(sampler="bayesian")).sampler
    assert (other.window, other.draw, other.temperature) == (1, True, 1.0)


def test_solvers(make_tiny_model):
    stored = {
        "sampler": "sde",
        "churn": 2.5,
        "extrapolation": 0.3,
        "draw": True,
        "temperature": 0.9,
    }
    model = make_tiny_model(sampling=stored)
    own = plan_sampling(model, GenerationOptions())
    assert own.sampler == SolverSampler(churn=2.5, extrapolation=0.3, draw=True, temperature=0.9)
    assert own.calls == own.steps + 1
    given = plan_sampling(model, GenerationOptions(churn=0.5, temperature=1.1)).sampler
    assert given == SolverSampler(churn=0.5, extrapolation=0.3, draw=True, temperature=1.1)
    assert plan_sampling(model, GenerationOptions(sampler="ode")).sampler == ode_solver(slope="log")


def test_a_solver_may_re_noise_from_a_time_on(make_tiny_model):
    stored = {"sampler": "ode", "renoise_from": 0.3, "temperature": 0.7}
    model = make_tiny_model(sampling=stored)
    own = plan_sampling(model, GenerationOptions(steps=4))
    assert own.sampler == SolverSampler(renoise_from=0.3, temperature=0.7)
    assert own.sampler_name == "ode+renoise"
    (molecule,) = model.generate(1, steps=4)
    assert molecule.properties["sampler"] == "ode+renoise"
    later = plan_sampling(model, GenerationOptions(renoise_from=0.5)).sampler
    assert later == SolverSampler(renoise_from=0.5, temperature=0.7)
    never = plan_sampling(model, GenerationOptions(renoise_from=1.0))
    assert (never.sampler.renoise_from, never.sampler_name) == (None, "ode")
    assert plan_sampling(model, GenerationOptions(sampler="sde")).sampler == sde_solver(slope="log")


def test_a_solver_may_begin_with_the_spread_of_the_positions(make_tiny_model):
    model = make_tiny_model(sampling={"sampler": "ode", "spread": 0.8})
    plan = plan_sampling(model, GenerationOptions(steps=4))
    assert plan.sampler == SolverSampler(spread={"positions": 0.8})
    (molecule,) = model.generate(1, steps=4)
    (published,) = make_tiny_model(sampling={"sampler": "ode"}).generate(1, steps=4)
    assert not np.allclose(molecule.positions, published.positions, atol=1e-3)
    assert plan_sampling(model, GenerationOptions(sampler="sde")).sampler == sde_solver(slope="log")


@pytest.mark.parametrize(("kind", "solver"), [("ode", ode_solver), ("sde", sde_solver)])
@pytest.mark.parametrize("order", [1, 2])
def test_published_solvers_have_names(make_tiny_model, kind, solver, order):
    # What is stored for "sde" is not for them.
    model = make_tiny_model(sampling={"sampler": "sde", "churn": 0.3, "extrapolation": 0.5})
    plan = plan_sampling(model, GenerationOptions(steps=3, sampler=f"{kind}{order}"))
    assert plan.sampler == solver(order=order, slope="paper")
    assert plan.calls == 4
    stored = make_tiny_model(sampling={"sampler": f"{kind}{order}", "temperature": 0.5})
    assert plan_sampling(stored, GenerationOptions()).sampler.temperature == 0.5
    assert len(stored.generate(2, steps=2)) == 2


def test_each_number_of_steps_has_the_scheme_of_the_nearest(make_tiny_model):
    sampling = {
        "steps": 50,
        "temperature": 0.8,
        "presets": {
            10: {"sampler": "ode", "knots": []},
            100: {"sampler": "renoise", "temperature": 0.9},
        },
    }
    model = make_tiny_model(sampling=sampling)

    def chosen(steps):
        plan = plan_sampling(model, GenerationOptions(steps=steps))
        return plan.sampler_name, plan.sampler.temperature

    assert chosen(None) == chosen(50) == chosen(30) == ("renoise", 0.8)
    assert chosen(1) == chosen(10) == chosen(20) == ("ode", 1.0)
    assert chosen(80) == chosen(1000) == ("renoise", 0.9)
    few = plan_sampling(model, GenerationOptions(steps=4)).grid
    torch.testing.assert_close(few, torch.arange(5, dtype=torch.float64) / 4)


def test_a_grid_made_for_one_sampler_is_not_taken_for_another(make_tiny_model):
    model = make_tiny_model(sampling={"sampler": "ode", "knots": [[0.5, 0.2]]})

    def grid(**options):
        return plan_sampling(model, GenerationOptions(steps=4, **options)).grid.tolist()

    even, own = [0, 0.25, 0.5, 0.75, 1], pytest.approx([0, 0.1, 0.2, 0.6, 1])
    assert grid() == grid(sampler="ode") == grid(temperature=0.5) == own
    assert grid(sampler="ode2") == grid(sampler="renoise") == grid(grid=()) == even
    given = ((0.25, 0.1), (0.5, 0.4))
    for sampler in (None, "ode2"):
        expected = pytest.approx([0, 0.1, 0.4, 0.7, 1])
        assert grid(sampler=sampler, grid=given) == expected


@pytest.mark.parametrize("corners", [((0.5, 1.2),), ((0.5, 0.5), (0.4, 0.6)), ((0.0, 0.1),)])
def test_wrong_corners_of_the_grid(make_tiny_model, corners):
    with pytest.raises(UserError, match=r"--grid 0.*rise strictly between 0 and 1"):
        plan_sampling(make_tiny_model(), GenerationOptions(grid=corners))


def test_a_given_grid_is_for_classes_too(make_tiny_model):
    sampling = {"class_knots": [[0.5, 0.8]]}
    model = make_tiny_model(sampling=sampling, decoupled=0.5)
    given = plan_sampling(model, GenerationOptions(steps=2, grid=((0.5, 0.3),))).grid
    assert given.tolist() == [0, 0.3, 1]


def test_classes_may_have_times_of_their_own(make_tiny_model, tmp_path):
    sampling = {"knots": [[0.5, 0.2]], "class_knots": [[0.5, 0.8]]}
    model = make_tiny_model(sampling=sampling, decoupled=0.5, bonds={}, charges={})
    grid = plan_sampling(model, GenerationOptions(steps=2)).grid
    assert {name: times.tolist() for name, times in grid.items()} == {
        "positions": [0, 0.2, 1], "elements": [0, 0.8, 1], "charges": [0, 0.8, 1],
        "bonds": [0, 0.8, 1],
    }  # fmt: skip
    assert len(model.generate(2, steps=2)) == 2
    generate_file(model, 2, tmp_path / "a.sdf", options=GenerationOptions(steps=2))
    record = json.loads((tmp_path / "a.sdf.json").read_text())
    assert record["settings"]["grid"]["bonds"] == [0, 0.8, 1]


def test_own_times_need_a_model_that_knows_them(make_tiny_model):
    with pytest.raises(ValueError, match=r"class_knots: the model has seen the same time"):
        make_tiny_model(sampling={"presets": {10: {"class_knots": [[0.5, 0.8]]}}})


def test_presets_survive_saving(make_tiny_model, tmp_path):
    model = make_tiny_model(sampling={"presets": {12: {"sampler": "sde", "churn": 0.3}}})
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.info.config.sampling == model.info.config.sampling
    assert again.info.config.sampling.scheme(12).churn == 0.3


def test_what_is_given_counts(tiny_model):
    options = GenerationOptions(
        steps=3, sampler="window", window=2, temperature=0.0, num_atoms=6, batch_size=5,
        precision="fp32",
    )  # fmt: skip
    plan = plan_sampling(tiny_model, options)
    assert (plan.steps, plan.batch_size, plan.precision) == (3, 5, "fp32")
    assert (plan.sampler.window, plan.sampler.temperature) == (2, 0.0)
    assert plan.sizes.sizes == (6,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "--steps 0: must be at least 1"),
        ({"steps": -4}, "--steps -4"),
        ({"temperature": -0.1}, "--temperature -0.1"),
        ({"temperature": float("nan")}, "--temperature nan"),
        ({"temperature": float("inf")}, "--temperature inf"),
        ({"sampler": "renoised"}, "--sampler renoised: unknown; did you mean 'renoise'"),
        ({"sampler": "window"}, "needs --window"),
        ({"sampler": "window", "window": 0}, "needs --window"),
        ({"window": 3}, "--window 3: goes with --sampler window only, not renoise"),
        ({"sampler": "ode2", "churn": 0.5}, "--churn 0.5: goes with --sampler sde only, not ode2"),
        ({"churn": 0.5}, "--churn 0.5: goes with --sampler sde only, not renoise"),
        ({"renoise_from": 0.5}, "--renoise-from 0.5: goes with --sampler ode or sde only"),
        ({"sampler": "ode", "renoise_from": 0.0}, "--renoise-from 0.0: must be a time above 0"),
        ({"sampler": "ode", "renoise_from": 2.0}, "--renoise-from 2.0: must be a time above 0"),
        ({"sampler": "sde", "churn": -1.0}, "--churn -1.0: must be a number of at least 0"),
        ({"sampler": "sde", "churn": float("nan")}, "--churn nan"),
        ({"sampler": "sde", "churn": float("inf")}, "--churn inf: .* --sampler renoise"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"batch_size": "many"}, "--batch-size many"),
        ({"precision": "fp16"}, "--precision fp16"),
        ({"num_atoms": 13}, "--num-atoms 13"),
    ],
)
def test_values_out_of_range_are_refused_by_the_name_of_the_option(tiny_model, options, message):
    with pytest.raises(UserError, match=message):
        plan_sampling(tiny_model, GenerationOptions(**options))


def test_compiling_is_refused_where_it_does_not_work(tiny_model, monkeypatch):
    monkeypatch.setattr(module, "compile_problem", lambda device: "no compiler")
    assert not plan_sampling(tiny_model, GenerationOptions()).compile
    with pytest.raises(UserError, match=r"^--compile: .*no compiler.*leave it out"):
        plan_sampling(tiny_model, GenerationOptions(compile=True))


@pytest.mark.parametrize("n", [0, -1])
def test_the_number_of_molecules_is_positive(n):
    with pytest.raises(UserError, match=f"-n {n}: "):
        check_count(n)
    check_count(1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"steps": 2.5}, "--steps 2.5: must be a whole number"),
        ({"steps": "5"}, "--steps '5': must be a whole number"),
        ({"steps": True}, "--steps True: must be a whole number"),
        ({"window": 1.5}, "--window 1.5: must be a whole number"),
        ({"temperature": "1"}, "--temperature '1': must be a number"),
        ({"renoise_from": "x"}, "--renoise-from 'x': must be a number"),
    ],
)
def test_options_of_another_type(option, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        GenerationOptions(**option)


def test_a_file_takes_options_by_their_names(make_tiny_model, tmp_path):
    model = make_tiny_model()
    generate_file(model, 1, tmp_path / "a.xyz", steps=3, sampler="sde1")
    settings = json.loads((tmp_path / "a.xyz.json").read_text())["settings"]
    assert (settings["steps"], settings["sampler"]) == (3, "sde1")
    with pytest.raises(TypeError, match="not both"):
        generate_file(model, 1, tmp_path / "b.xyz", options=GenerationOptions(), steps=3)
    for devices in ("cpu", ()):
        with pytest.raises(UserError, match=r"devices = .*: a list of names"):
            generate_file(model, 1, tmp_path / "b.xyz", devices=devices)
