"""Frechet distance between sampled and real images on the features of a small classifier of ours.

It is not FID, whose Inception features the user must bring (:mod:`molbfn.benchmarks.fid`): the
classifiers were trained by ``scripts/train_image_features.py``, on dynamically binarised MNIST and
on CIFAR-10.  Distances compare with each other at the same number of samples only.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from molbfn.errors import UserError
from molbfn.weight_files import load_weights

_FEATURES = 64
_SHAPES = {"mnist": (1, 28), "cifar10": (3, 32)}


class ImageFeatures(nn.Module):
    """A classifier into ten classes; its last 64 hidden features are what is compared.

    Args:
        data: "mnist" or "cifar10".
    """

    def __init__(self, data: str) -> None:
        super().__init__()
        channels, size = _SHAPES[data]
        self.first = nn.Conv2d(channels, 32, 5, padding=2)
        self.second = nn.Conv2d(32, 64, 3, padding=1)
        self.third = nn.Conv2d(64, 64, 3, padding=1)
        self.hidden = nn.Linear(64 * (size // 8) ** 2, _FEATURES)
        self.last = nn.Linear(_FEATURES, 10)

    def features(self, pixels: Tensor) -> Tensor:
        """Return the features [B, 64] of images uint8 [B, H, W] or [B, H, W, 3]."""
        x = pixels.float() / 127.5 - 1
        x = x[:, None] if x.dim() == 3 else x.permute(0, 3, 1, 2)
        for layer in (self.first, self.second, self.third):
            x = functional.max_pool2d(functional.relu(layer(x)), 2)
        return functional.silu(self.hidden(x.flatten(1)))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits of the ten classes, [B, 10]."""
        return self.last(self.features(pixels))


def features_file(data: str) -> Path:
    """Return where the package keeps the weights of a classifier."""
    root = Path(str(resources.files("molbfn"))) / "weights" / "bench"
    return root / f"{data}_features.safetensors"


def load_image_features(data: str) -> ImageFeatures:
    """Return the trained classifier of a data set that comes with the package.

    Raises:
        UserError: the package has none.
    """
    path = features_file(data)
    if not path.is_file():
        raise UserError(f"{path}: missing; make it with scripts/train_image_features.py {data}")
    network = ImageFeatures(data)
    load_weights(network, path)
    return network.eval()


@torch.no_grad()
def features_of(network: ImageFeatures, pixels: np.ndarray, *, batch_size: int = 500) -> Tensor:
    """Return the features [N, 64] of images uint8 [N, H, W] or [N, H, W, 3]."""
    parts = torch.from_numpy(pixels).split(batch_size)
    return torch.cat([network.features(part) for part in parts])


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Return ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` of two sets of features [N, D].

    Dowson and Landau 1982; Heusel et al. 2017, eq. 6.
    """
    means, covariances = [], []
    for features in (first.double(), second.double()):
        means.append(features.mean(0))
        covariances.append(torch.atleast_2d(torch.cov(features.T)))
    # The eigenvalues of S1 S2 are those of the symmetric R S2 R with R = S1^(1/2).
    values, vectors = torch.linalg.eigh(covariances[0])
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    product = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp_min(0)
    distance = (means[0] - means[1]).square().sum() + sum(c.trace() for c in covariances)
    return float(distance - 2 * product.sqrt().sum())
