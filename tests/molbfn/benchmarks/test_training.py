import csv
import math

import numpy as np
import pytest
import torch

from molbfn.benchmarks.model import build_flow, load_bench_model, load_data
from molbfn.benchmarks.training import BenchModule, build_model, train
from molbfn.config_file import bundled_configs
from molbfn.errors import UserError
from molbfn.training.run import METRICS

CONFIGS = sorted(bundled_configs("bench"))
SHORT = {"text8": ["data.length=32"], "text8_small": ["data.length=32"]}


@pytest.mark.parametrize("name", CONFIGS)
def test_each_config_trains_and_loads(name, tiny_config, here, tmp_path):
    config = tiny_config(name, *SHORT.get(name, []))
    result = train(config, tmp_path / "run", accelerator="cpu")
    assert result.steps == 3
    assert math.isfinite(result.metrics["valid/loss"])
    with (tmp_path / "run" / METRICS).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {"step", "train/loss", "valid/loss", "train/samples_per_second"} <= set(rows[0])
    model = load_bench_model(result.model)
    assert model.info.config == config.model()
    assert model.info.provenance["steps"] == 3
    assert model.info.provenance["hardware"]


def test_a_resumed_run_repeats_the_interrupted_one(tiny_config, here, tmp_path):
    two, four = (
        tiny_config("mnist_small", f"training.steps={n}", "training.decay_fraction=0")
        for n in (2, 4)
    )
    whole = train(four, tmp_path / "whole", accelerator="cpu")
    train(two, tmp_path / "parts", accelerator="cpu")
    resumed = train(four, tmp_path / "parts", resume=True, accelerator="cpu")
    assert resumed.steps == whole.steps == 4
    assert load_bench_model(whole.model).fingerprint() == (
        load_bench_model(resumed.model).fingerprint()
    )


def test_loss_is_the_continuous_time_integrand(tiny_config, here):
    """Re-derived for two classes with the network's output replaced by a constant."""
    config = tiny_config("mnist_small", "training.time_knots=[]", "flow.residual=false")
    data = load_data(config)
    model = build_model(config, data)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    module = BenchModule(model, config)
    batch = data.train.take(np.arange(4), torch.Generator().manual_seed(0))
    found = module.loss(batch, torch.Generator().manual_seed(0))["loss"].detach()
    # K beta_1 t |e_x - (1/2, 1/2)|^2 = 2 * 9 * t / 2, whose times average to nearly 1/2.
    t = (torch.rand(1, generator=torch.Generator().manual_seed(0)) + torch.arange(4) / 4) % 1
    assert float(found) == pytest.approx(float((9 * t).mean()), rel=1e-5)


def test_denser_times_leave_the_mean_as_it_is(tiny_config, here):
    config = tiny_config("mnist_small", "training.time_knots=[[0.8, 0.5]]")
    module = BenchModule(build_model(config, load_data(config)), config)
    t, weight = module._times(10_000, torch.Generator().manual_seed(0))
    assert float((t < 0.5).float().mean()) == pytest.approx(0.8, abs=1e-3)
    for power in (0, 1, 2, 5):
        assert float((weight * t**power).mean()) == pytest.approx(1 / (power + 1), rel=1e-3)
    assert 0 <= float(t.min()) <= float(t.max()) <= 1


def test_a_batch_larger_than_a_part(tiny_config, here, tmp_path):
    config = tiny_config("mnist_small", "training.batch_size=800")
    with pytest.raises(UserError, match="792 samples do not fill a batch of 800 of the train part"):
        train(config, tmp_path / "run", accelerator="cpu")


def test_a_small_validation_part_makes_smaller_batches(tiny_config, here, tmp_path):
    """The paper's 512 images on two processes are more than MNIST's validation part has."""
    config = tiny_config("mnist_small", "training.batch_size=20")
    result = train(config, tmp_path / "run", accelerator="cpu")
    assert math.isfinite(result.metrics["valid/loss"])


def test_two_classes_are_a_bernoulli_output(tiny_config):
    """A sigmoid of one logit, as in the paper, gives the same loss as the softmax of two."""
    flow = build_flow(tiny_config("mnist_small", "flow.residual=false"))
    torch.manual_seed(0)
    data, t, logit = torch.randint(2, (3, 4)), torch.rand(3), torch.randn(3, 4)
    state = flow.sample(data, t)
    output = flow.output(torch.stack([torch.zeros(3, 4), logit], -1), state, t)
    p = torch.sigmoid(logit)
    expected = (2 * 9.0 * t[:, None] * 2 * (data - p).square()).sum(1)
    torch.testing.assert_close(flow.continuous_time_loss(data, output, t), expected)
    bernoulli = torch.nn.functional.binary_cross_entropy(p, data.float(), reduction="none").sum(1)
    torch.testing.assert_close(flow.reconstruction_loss(data, output), bernoulli)
