import json

import pytest
import torch

from bfn_core import ContinuousFlow, DiscretisedFlow, NoisePrediction
from molbfn.benchmarks.config import BenchConfig
from molbfn.benchmarks.model import (
    build_flow,
    bundled_models,
    classes_of,
    data_shape,
    load_bench_model,
)
from molbfn.config_file import bundled_configs, read_config
from molbfn.errors import UserError

CONFIGS = bundled_configs("bench")
SHAPES = {"mnist": (28, 28), "cifar10": (32, 32, 3), "text8": (256,)}


@pytest.mark.parametrize("name", CONFIGS)
def test_bundled_configs_are_named_after_their_file(name):
    config = read_config(BenchConfig, name, bundled=CONFIGS)
    assert config.name == name
    assert name.startswith(config.data.kind)
    assert data_shape(config) == SHAPES[config.data.kind]


def test_flows_have_the_papers_accuracy():
    """bits at t = 1: beta(1) of each flow, from the papers' sigma_1 and beta_1."""
    one = torch.ones(1, dtype=torch.float64)
    expected = {"mnist": 9, "text8": 0.75**2, "text8_ngram": 0.75**2, "cifar10_256": 1e6 - 1,
                "cifar10_16": 1e3 - 1, "cifar10_continuous": 1e6 - 1}  # fmt: skip
    for name in CONFIGS:
        config = read_config(BenchConfig, name, bundled=CONFIGS)
        beta = float(build_flow(config).schedule.beta(one))
        assert beta == pytest.approx(expected[name.removesuffix("_small")], rel=5e-3), name


def test_image_flows(tiny_config):
    binned = build_flow(tiny_config("cifar10_16_small", "flow.parameterisation=noise"))
    assert isinstance(binned, DiscretisedFlow)
    assert binned.bins == 16
    assert binned.parameterisation == NoisePrediction(t_min=1e-6)
    assert binned.std_limits is None
    for name in ("cifar10_16", "cifar10_256"):
        assert build_flow(tiny_config(name)).std_limits == (1e-3, 10)
    continuous = build_flow(
        tiny_config("cifar10_continuous_small", "flow.reconstruction_sigma=0.01")
    )
    assert isinstance(continuous, ContinuousFlow)
    assert (continuous.limit, continuous.reconstruction_bins) == (1.0, 256)
    assert continuous.reconstruction_sigma == 0.01
    assert classes_of(tiny_config("text8_small")) == 27


def test_a_model_survives_saving(tiny_model, tmp_path):
    model = tiny_model()
    model.save(tmp_path / "m", progress={"steps": 7})
    again = load_bench_model(tmp_path / "m")
    assert again.fingerprint() == model.fingerprint()
    assert again.info.config == model.info.config
    assert again.info.provenance["steps"] == 7


def test_half_precision_weights_are_read_as_float32(tiny_model, tmp_path):
    model = tiny_model()
    weights = {name: w.bfloat16() for name, w in model.network.state_dict().items()}
    model.save(tmp_path / "m", weights=weights)
    again = load_bench_model(tmp_path / "m").network.state_dict()
    for name, weight in weights.items():
        assert again[name].dtype == torch.float32
        assert torch.equal(again[name], weight.float())


def test_wrong_folders(tiny_model, tmp_path):
    with pytest.raises(UserError, match="no benchmark model 'nowhere'"):
        load_bench_model("nowhere")
    tiny_model().save(tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    header = json.loads(path.read_text())
    path.write_text(json.dumps({**header, "format": 99}))
    with pytest.raises(UserError, match="'format' is 99"):
        load_bench_model(tmp_path / "m")
    path.write_text("{")
    with pytest.raises(UserError, match="not the config of a benchmark model"):
        load_bench_model(tmp_path / "m")


@pytest.mark.parametrize("name", bundled_models())
def test_bundled_models_are_small_and_load(name):
    model = load_bench_model(name)
    folder = bundled_models()[name]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5e6
    assert model.info.config.name == name
    times = model.flows.times(torch.full((1,), 0.5))
    states = model.flows.prior({"x": (1, *model.shape)})
    out = model.network(model.flows.inputs(states, times), times)["x"]
    assert out.isfinite().all()
