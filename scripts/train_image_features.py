"""Train the small classifiers whose features `molbfn bench eval --quality` compares.

    python scripts/train_image_features.py mnist

Writes molbfn/weights/bench/NAME_features.safetensors and prints the accuracy on the test part.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from molbfn.benchmarks.data import cifar10, mnist
from molbfn.benchmarks.data.files import locate
from molbfn.benchmarks.frechet import ImageFeatures, features_file
from molbfn.errors import run_script
from molbfn.weight_files import checksum

_BATCH, _LEARNING_RATE = 128, 1e-3


def load(data: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the images and labels of the "train" and "test" parts."""
    folder = locate(data)
    if data == "mnist":
        names = {"train": (mnist.TRAIN_IMAGES, mnist.TRAIN_LABELS),
                 "test": (mnist.TEST_IMAGES, mnist.TEST_LABELS)}  # fmt: skip
        return {
            part: tuple(mnist.read_idx(folder, name) for name in pair)
            for part, pair in names.items()
        }
    names = {"train": cifar10.TRAIN, "test": (cifar10.TEST,)}
    return {
        part: (
            np.concatenate([cifar10.read_batch(folder, name) for name in batches]),
            np.concatenate([cifar10.read_labels(folder, name) for name in batches]),
        )
        for part, batches in names.items()
    }


def prepare(pixels: Tensor, data: str, generator: torch.Generator) -> Tensor:
    """Binarise digits anew; mirror half of the colour images."""
    if data == "mnist":
        drawn = torch.rand(pixels.shape, generator=generator) < pixels.float() / 255
        return drawn.byte() * 255
    mirrored = torch.rand(len(pixels), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], pixels.flip(2), pixels)


def accuracy(network: ImageFeatures, pixels: Tensor, labels: Tensor) -> float:
    """Return the share of images that are classified right."""
    network.eval()
    with torch.no_grad():
        right = [
            (network(part).argmax(1) == label).sum()
            for part, label in zip(pixels.split(500), labels.split(500), strict=True)
        ]
    network.train()
    return float(sum(right)) / len(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=("mnist", "cifar10"))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    parts = {
        name: (torch.from_numpy(np.array(images)), torch.from_numpy(np.array(labels)).long())
        for name, (images, labels) in load(options.data).items()
    }
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    network = ImageFeatures(options.data)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE)
    images, labels = parts["train"]
    steps = options.epochs * (len(images) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3 * _LEARNING_RATE, steps)
    for _ in range(options.epochs):
        order = torch.randperm(len(images), generator=generator)
        for index in order[: len(order) // _BATCH * _BATCH].split(_BATCH):
            seen = prepare(images[index], options.data, generator)
            loss = functional.cross_entropy(network(seen), labels[index], label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    test_images, test_labels = parts["test"]
    if options.data == "mnist":
        test_images = prepare(test_images, "mnist", generator)
    print(f"test accuracy {accuracy(network, test_images, test_labels):.4f}")
    path = options.output or features_file(options.data)
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach() for name, value in network.state_dict().items()}
    save_file(weights, path, metadata={"sha256": checksum(weights)})
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    run_script(main)
