import numpy as np
import pytest
import torch
from scipy import linalg

from molbfn.benchmarks import frechet
from molbfn.errors import UserError


def test_distance_of_two_gaussians_from_its_definition():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(400, 5)) @ rng.normal(size=(5, 5))
    b = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 5)) + 1
    first, second = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(first @ second).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
    found = frechet.frechet_distance(torch.from_numpy(a), torch.from_numpy(b))
    assert found == pytest.approx(expected, rel=1e-8)


def test_distance_of_one_dimension_by_hand():
    a = torch.tensor([[0.0], [2.0]])  # mean 1, variance 2
    b = torch.tensor([[4.0], [12.0]])  # mean 8, variance 32
    assert frechet.frechet_distance(a, b) == pytest.approx(49 + 2 + 32 - 2 * 8)
    assert frechet.frechet_distance(a, a) == pytest.approx(0, abs=1e-12)


def test_the_digit_classifier_knows_digits_from_noise(bench_data):
    network = frechet.load_image_features("mnist")
    rng = np.random.default_rng(0)
    noise = (rng.random((200, 28, 28)) < 0.13).astype(np.uint8) * 255
    bars = np.zeros((200, 28, 28), np.uint8)
    for k, bar in enumerate(bars):
        bar[4:24, 10 + k % 5 : 13 + k % 5] = 255
    assert int(network(torch.from_numpy(bars)).argmax(1).mode().values) == 1
    between = frechet.frechet_distance(
        frechet.features_of(network, bars), frechet.features_of(network, noise)
    )
    within = frechet.frechet_distance(
        frechet.features_of(network, noise[:100]), frechet.features_of(network, noise[100:])
    )
    assert between > 10 * within


def test_batches_do_not_matter():
    network = frechet.load_image_features("mnist")
    images = np.random.default_rng(0).integers(0, 2, (7, 28, 28)).astype(np.uint8) * 255
    one = frechet.features_of(network, images, batch_size=7)
    torch.testing.assert_close(one, frechet.features_of(network, images, batch_size=3))
    assert one.shape == (7, 64)


def test_colour_images_have_a_network_too():
    network = frechet.ImageFeatures("cifar10")
    assert network(torch.zeros(2, 32, 32, 3, dtype=torch.uint8)).shape == (2, 10)


def test_missing_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(frechet, "features_file", lambda data: tmp_path / "none.safetensors")
    with pytest.raises(UserError, match="make it with scripts/train_image_features"):
        frechet.load_image_features("mnist")
