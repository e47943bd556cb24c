import numpy as np
import pytest
import torch

from molbfn.benchmarks.pictures import image_grid, to_pixels, write_png, write_samples


def test_levels_of_each_kind_of_data(tiny_model):
    binary = tiny_model().info.config
    assert to_pixels(torch.tensor([[[0, 1]]]), binary).tolist() == [[[0, 255]]]
    levels = torch.arange(256)
    bins = tiny_model("cifar10_256_small").info.config
    assert to_pixels(levels, bins).tolist() == levels.tolist()
    few = tiny_model("cifar10_16_small").info.config
    assert to_pixels(torch.arange(16), few).tolist() == [17 * k for k in range(16)]
    continuous = tiny_model("cifar10_continuous_small").info.config
    centres = (2 * levels + 1).float() / 256 - 1
    assert to_pixels(centres, continuous).tolist() == levels.tolist()
    assert to_pixels(torch.tensor([-1.5, 1.5]), continuous).tolist() == [0, 255]


def test_images_stand_row_by_row():
    images = np.stack([np.full((2, 3), k, np.uint8) for k in (10, 20, 30)])
    grid = image_grid(images, columns=2, scale=1)
    assert grid.shape == (2 * 4 + 2, 2 * 5 + 2)
    assert (grid[2:4, 2:5] == 10).all()
    assert (grid[2:4, 7:10] == 20).all()
    assert (grid[6:8, 2:5] == 30).all()
    assert (grid[6:8, 7:10] == 128).all()  # nothing there
    assert (image_grid(images, columns=3, scale=2)[2:6, 2:8] == 10).all()


def test_png_round_trip(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    write_png(picture, tmp_path / "x.png")
    assert np.array_equal(np.asarray(pillow.open(tmp_path / "x.png")), picture)


def test_samples_of_images_are_one_picture(tmp_path, tiny_model):
    pillow = pytest.importorskip("PIL.Image")
    write_samples(
        torch.ones(5, 28, 28, dtype=torch.int64), tiny_model().info.config, tmp_path / "x"
    )
    assert pillow.open(tmp_path / "x").size == (3 * 58 + 2, 2 * 58 + 2)


def test_samples_of_text_are_lines(tmp_path, tiny_model):
    config = tiny_model("text8_small", "data.length=4").info.config
    write_samples(torch.tensor([[1, 0, 2, 26], [3, 3, 3, 3]]), config, tmp_path / "x")
    assert (tmp_path / "x").read_text() == "a bz\ncccc\n"
