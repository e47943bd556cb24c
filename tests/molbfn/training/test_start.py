"""Starting from another model: the same function at first, and errors that name what differs."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from molbfn.data.batching import Gather
from molbfn.errors import UserError
from molbfn.model import load_model
from molbfn.training.job import build_model

TOPOLOGY = {"charges": {}, "bonds": {}}


@pytest.fixture
def first(run, make_config, tmp_path):
    """A model that has learned something."""
    run(make_config(training={"steps": 40, "learning_rate": 0.01}), tmp_path / "first")
    return str(tmp_path / "first" / "model")


def outputs(model, store, topology=False):
    batch = Gather(store, model.vocabulary)(np.arange(6), 6)
    data = {"positions": batch.positions, "elements": batch.elements}
    if topology:
        data["charges"] = torch.zeros_like(batch.elements)
        data["bonds"] = torch.ones(6, 6, 6, dtype=torch.int64)
    times = model.flows.times(torch.linspace(0.1, 0.9, 6))
    masks = model.masks(batch.mask)
    generator = torch.Generator().manual_seed(0)
    states = model.flows.sample(data, times, mask=masks, generator=generator)
    found = model.predictor(batch.mask)(states, times)
    return found["positions"].mean, found["elements"].log_probs


def test_the_function_is_the_same_with_and_without_new_variables(first, make_config, store):
    other = load_model(first)
    same = build_model(make_config(training={"start_from": first}), store)
    more = build_model(make_config(training={"start_from": first}, **TOPOLOGY), store)
    with torch.no_grad():
        expected = outputs(other, store)
        assert expected[0].abs().max() > 0.01
        for one, two in zip(outputs(same, store), expected, strict=True):
            assert torch.equal(one, two)
        for one, two in zip(outputs(more, store, topology=True), expected, strict=True):
            torch.testing.assert_close(one, two)


def test_the_provenance_says_so(first, make_config, store):
    model = build_model(make_config(training={"start_from": first}, **TOPOLOGY), store)
    said = model.info.provenance["started_from"]
    other = load_model(first)
    assert (said["model"], said["weights"]) == (other.name, other.fingerprint())
    assert said["provenance"]["steps"] == 40
    assert "bonds_in.weight" in said["new_weights"]
    assert all(name.split(".")[0] not in ("blocks", "pairs_in") for name in said["new_weights"])


def test_training_goes_on_from_there(first, run, make_config, tmp_path, curve):
    plain = make_config(training={"steps": 2, "learning_rate": 1e-6, "log_steps": 1})
    further = make_config(
        training={"steps": 2, "learning_rate": 1e-6, "log_steps": 1, "start_from": first}
    )
    run(plain, tmp_path / "plain")
    run(further, tmp_path / "further")
    fresh, started = (
        float(curve(tmp_path / name)[0]["train/loss"]) for name in ("plain", "further")
    )
    assert started < fresh


def test_a_run_is_resumed_without_the_model_that_it_started_from(first, run, make_config, tmp_path):
    begun = {"steps": 2, "start_from": first, "decay_fraction": 0}
    run(make_config(training=begun), tmp_path / "run")
    said = load_model(tmp_path / "run" / "model").info.provenance["started_from"]
    shutil.rmtree(first)
    result = run(make_config(training={**begun, "steps": 4}), tmp_path / "run", resume=True)
    assert result.steps == 4
    assert load_model(result.model).info.provenance["started_from"] == said


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"elements": ["C", "H", "O"]}}, r"knows the elements H, C, O, data.elements has"),
        ({"positions": {"scale": 2.0}}, r"positions.scale = 1.5, this config has 2.0"),
        ({"positions": {"sigma_data": 0.5}}, r"positions.sigma_data = 0.93, this config has 0.5"),
        ({"positions": {"parameterisation": "data"}}, r"parameterisation = 'preconditioned'"),
        ({"elements": {"kind": "discretised"}}, r"elements.kind = 'discrete'"),
        ({"network": {"width": 24}}, r"weight '[\w.]+' has shape \(\d+.*use the same network"),
    ],
)
def test_what_does_not_fit(first, make_config, store, sections, message):
    config = make_config(training={"start_from": first}, **sections)
    with pytest.raises(UserError, match=f"training.start_from: .*{message}"):
        build_model(config, store)


@pytest.mark.parametrize(
    ("key", "here", "there"),
    [("parameterisation", "data", "'noise'"), ("sigma_data", 0.7, "0.5"), ("bins", 12, "9")],
)
def test_charges_in_bins_mean_the_same(make_config, store, tmp_path, key, here, there):
    build_model(make_config(elements={"kind": "discretised"}), store).save(tmp_path / "binned")
    source = {"start_from": str(tmp_path / "binned")}
    same = {"kind": "discretised", "sigma_1": 0.1}
    build_model(make_config(training=source, elements=same), store)
    other = make_config(training=source, elements={**same, key: here})
    with pytest.raises(UserError, match=f"elements.{key} = {there}, this config has"):
        build_model(other, store)


def test_other_charges_are_refused_and_other_accuracies_not(make_config, store, tmp_path):
    build_model(make_config(**TOPOLOGY), store).save(tmp_path / "joint")
    source = {"start_from": str(tmp_path / "joint")}
    same = {"charges": {"beta_1": 2.0}, "bonds": {}, "positions": {"sigma_1": 0.05}}
    build_model(make_config(training=source, **same), store)
    other = {"charges": {"values": [0, 1, 2]}, "bonds": {}}
    with pytest.raises(UserError, match=r"charges.values = \(-1, 0, 1\), this config has"):
        build_model(make_config(training=source, **other), store)


def test_a_network_with_fewer_variables_is_refused(run, make_config, store, tmp_path):
    config = make_config(**TOPOLOGY)
    model = build_model(config, store)
    model.save(tmp_path / "joint")
    with pytest.raises(UserError, match=r"has the weight '[\w.]+', which the network of this"):
        build_model(make_config(training={"start_from": str(tmp_path / "joint")}), store)
