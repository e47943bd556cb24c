"""Ranges, types and the shipped configurations."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from molbfn.config import (
    ClipConfig,
    Config,
    DataConfig,
    DiscreteElementsConfig,
    DiscretisedElementsConfig,
    EGNNConfig,
    ModelConfig,
    SamplingConfig,
    TrainingConfig,
    TransformerConfig,
)
from molbfn.config_file import load_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def refused(section: type, **values) -> str:
    with pytest.raises(ValidationError) as caught:
        section.model_validate(values)
    (error,) = caught.value.errors()
    return f"{error['loc']} {error['msg']}"


def test_charges_go_with_bonds():
    """Bond perception would overwrite them."""
    assert "charges: goes with the section bonds; add `bonds: {}`" in refused(
        ModelConfig, charges={}
    )
    assert ModelConfig.model_validate({"charges": {}, "bonds": {}}).has_topology
    assert ModelConfig.model_validate({"bonds": {}}).has_topology


def test_there_are_shipped_configs():
    assert {path.stem for path in CONFIGS} >= {"demo", "qm9_small", "qm9_geobfn"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_valid_and_named_after_their_file(path: Path):
    assert load_config(path).name == path.stem


@pytest.mark.parametrize("name", ["qm9_small", "qm9"])
def test_the_configs_for_qm9_leave_out_its_fluorine(name: str):
    data = load_config(name).data
    assert ("F" not in data.elements, data.leave_out_others) == (True, True)
    assert not Config().data.leave_out_others  # a forgotten element is a mistake


def test_a_config_survives_its_own_dump():
    config = Config(
        data={"buckets": [5, 9]},
        elements={"kind": "discretised", "bins": 12},
        network={"kind": "egnn", "layers": 2},
        training={"clip": {"factor": 2.0}, "seed": 5},
    )
    assert Config.model_validate(config.model_dump(mode="json")) == config
    assert isinstance(config.elements, DiscretisedElementsConfig)
    assert isinstance(config.network, EGNNConfig)
    assert isinstance(config.training.clip, ClipConfig)


def test_kind_may_be_left_out():
    config = Config(network={"width": 64}, elements={"beta_1": 2.0})
    assert config.network == TransformerConfig(width=64)
    assert config.elements == DiscreteElementsConfig(beta_1=2.0)


def test_model_part_leaves_out_training_and_loss():
    config = Config(name="a", positions={"scale": 2.0}, training={"steps": 7})
    model = config.model()
    assert type(model) is ModelConfig
    assert model.model_dump() == {
        key: value for key, value in config.model_dump().items() if key not in {"training", "loss"}
    }


def test_values_cannot_change():
    with pytest.raises(ValidationError):
        Config().training.steps = 5


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (TrainingConfig, {"steps": 0}),
        (TrainingConfig, {"steps": True}),
        (TrainingConfig, {"steps": 1.5}),
        (TrainingConfig, {"steps": "many"}),
        (TrainingConfig, {"seed": -1}),  # numpy seeds cannot be negative
        (TrainingConfig, {"learning_rate": math.inf}),
        (TrainingConfig, {"learning_rate": 0}),
        (TrainingConfig, {"clip": 0}),
        (TrainingConfig, {"clip": {"factor": -1}}),
        (TrainingConfig, {"clip": {"window": 1}}),
        (TrainingConfig, {"betas": [0.9, 1.0]}),
        (TrainingConfig, {"ema": 1.0}),
        (TrainingConfig, {"precision": "fp16"}),
        (TrainingConfig, {"compile": 3}),
        (DataConfig, {"buckets": 0}),
        (DataConfig, {"buckets": []}),
        (DataConfig, {"buckets": [3, -1]}),
        (DataConfig, {"elements": ["H"]}),
        (SamplingConfig, {"temperature": -1}),
        (SamplingConfig, {"temperature": math.nan}),
    ],
)
def test_out_of_range_is_refused_and_named(section: type, values: dict):
    assert next(iter(values)) in refused(section, **values)


def test_elements_must_exist_once_in_their_usual_spelling():
    assert "unknown element 'Xx'" in refused(DataConfig, elements=["H", "Xx"])
    assert "C is given twice" in refused(DataConfig, elements=["C", "H", "C"])
    assert "H is given twice" in refused(DataConfig, elements=["H", "D"])
    assert "'Cl'" in refused(DataConfig, elements=["H", "CL"])


def test_heads_must_divide():
    assert "heads (8) must divide width (65)" in refused(TransformerConfig, width=65)
    assert "heads (8) must divide vectors (12)" in refused(TransformerConfig, vectors=12)
    TransformerConfig(width=60, vectors=12, heads=4)


@pytest.mark.parametrize(
    "knots", [[[0.5, 0.5], [0.4, 0.6]], [[0.5, 0.5], [0.6, 0.5]], [[0.0, 0.5]], [[0.5, 1.0]]]
)
def test_knots_must_rise(knots: list):
    assert "rise" in refused(SamplingConfig, knots=knots)


@pytest.mark.parametrize(
    ("sampler", "values"),
    [
        ("renoise", {"churn": 0.5}),
        ("renoise", {"window": 3}),
        ("renoise", {"renoise_from": 0.5}),
        ("renoise", {"spread": 0.9}),
        ("bayesian", {"draw": True}),
        ("window", {"draw": True, "window": 2}),
        ("window", {}),
    ],
)
def test_samplers_refuse_settings_that_do_nothing(sampler: str, values: dict):
    assert f": the sampler {sampler} " in refused(SamplingConfig, sampler=sampler, **values)


def test_the_loss_of_a_variable_that_is_not_there_is_refused():
    assert "loss.bonds: the model has no bonds" in refused(Config, loss={"bonds": 0.5})
    assert Config(bonds={}, loss={"bonds": 0.5}).loss.bonds == 0.5


def test_no_knots_is_a_uniform_grid():
    assert SamplingConfig(knots=[]).knots == ()


@pytest.mark.parametrize(
    "values",
    [
        {"churn": 0.5},
        {"extrapolation": 0.3},
        {"renoise_from": 0.5},
        {"spread": 0.9},
        {"draw": True},
    ],
)
@pytest.mark.parametrize("solver", ["sde2", "ode1"])
def test_published_solvers_refuse_settings_that_do_nothing(values: dict, solver: str):
    (key,) = values
    message = refused(SamplingConfig, sampler=solver, **values)
    assert f"{key}: the sampler {solver} is a published one without it" in message
    assert f"use {solver[:-1]}, or leave {key} out" in message
    assert key in refused(SamplingConfig, presets={20: {"sampler": solver, **values}})
    assert SamplingConfig(sampler=solver[:-1], **values).sampler == solver[:-1]
    assert SamplingConfig(sampler=solver, temperature=0.8, knots=[]).temperature == 0.8


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\\b", ".hidden"])
def test_a_name_is_that_of_one_folder(name: str):
    with pytest.raises(ValueError, match="name"):
        Config(name=name)
    assert Config(name="my model 2.1").name == "my model 2.1"


def test_cuda_graphs_go_with_compiling_and_one_batch_a_step():
    graphs = {"compile_mode": "reduce-overhead"}
    assert "goes with compile: true" in refused(TrainingConfig, **graphs)
    assert "goes with accumulate: 1" in refused(
        TrainingConfig, **graphs, compile=True, accumulate=2
    )
    assert TrainingConfig(**graphs, compile=True).compile_mode == "reduce-overhead"
