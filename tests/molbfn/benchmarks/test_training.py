import csv
import math

import numpy as np
import pytest
import torch

from molbfn.benchmarks.data import files, text8
from molbfn.benchmarks.model import build_flow, load_bench_model, load_data
from molbfn.benchmarks.ngrams import count_ngrams
from molbfn.benchmarks.training import BenchModule, build_model, count_first, train
from molbfn.config_file import bundled_configs
from molbfn.errors import UserError
from molbfn.training.run import METRICS

CONFIGS = sorted(bundled_configs("bench"))
SHORT = {name: ["data.length=32"] for name in CONFIGS if name.startswith("text8")}


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


def test_other_data_are_refused_on_resuming(tiny_config, here, tmp_path, monkeypatch):
    """A text of the same length, so that nothing but its letters differs."""
    two, three = (
        tiny_config("text8_small", "data.length=32", f"training.steps={n}") for n in (2, 3)
    )
    first = train(two, tmp_path / "run", accelerator="cpu")
    provenance = load_bench_model(first.model).info.provenance
    assert provenance["data_digest"] == load_data(two).train.digest()
    other = tmp_path / "other" / "text8"
    other.mkdir(parents=True)
    _, text = text8.read_text8(here / "text8")
    (other / "text8").write_bytes(b"z" + text[1:])
    monkeypatch.setattr(files, "data_dirs", lambda: iter([other.parent]))
    with pytest.raises(UserError, match="not the sequences that the run was started with"):
        train(three, tmp_path / "run", resume=True, accelerator="cpu")
    checkpoint = torch.load(first.checkpoint, weights_only=True)
    del checkpoint["data"]  # of an older version
    torch.save(checkpoint, first.checkpoint)
    assert train(three, tmp_path / "run", resume=True, accelerator="cpu").steps == 3


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


def test_ngrams_are_counted_in_one_part_and_the_rest_is_trained_on(tiny_config, here, tmp_path):
    config = tiny_config("text8_ngram_small", "data.length=32", "network.prior.share=0.6")
    data = load_data(config)
    model = build_model(config, data)
    rest = count_first(model, data)
    text = data.train.codes
    assert np.array_equal(rest.train.codes, text[round(0.6 * len(text)) :])
    assert rest.valid is data.valid
    assert rest.test is data.test
    expected = count_ngrams(text[: round(0.6 * len(text))], classes=27, order=3, states=200)
    prior = model.network.prior
    assert torch.equal(prior.contexts, torch.from_numpy(expected.contexts))
    assert np.allclose(prior.logits.exp().numpy(), expected.probabilities, rtol=1e-5)
    trained = load_bench_model(train(config, tmp_path / "run", accelerator="cpu").model)
    assert torch.equal(trained.network.prior.logits, prior.logits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("network.prior.states=9000", r"network.prior: 9000 states: the text has 28 contexts"),
        ("network.prior.share=0.999", r"network.prior: 3596 and 4 characters are too few"),
    ],
)
def test_a_text_with_too_few_ngrams(change, message, tiny_config, here, tmp_path):
    config = tiny_config("text8_ngram_small", "data.length=32", change)
    with pytest.raises(UserError, match=message):
        train(config, tmp_path / "run", accelerator="cpu")
