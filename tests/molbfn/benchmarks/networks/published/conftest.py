"""The layers of the published networks once more: slowly, in numpy, in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn

Weights = Mapping[str, np.ndarray]


class ByHand:
    """Layers from their definitions; images are [C, H, W], sequences [L, C]."""

    @staticmethod
    def silu(x: np.ndarray) -> np.ndarray:
        return x / (1 + np.exp(-x))

    @staticmethod
    def linear(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)

    @staticmethod
    def conv(x: np.ndarray, weights: Weights, name: str, *, stride: int = 1) -> np.ndarray:
        kernel = weights[f"{name}.weight"]
        reach = kernel.shape[-1] // 2
        padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
        rows, columns = (range(0, size, stride) for size in x.shape[1:])
        out = np.zeros((len(kernel), len(rows), len(columns)))
        for a, i in enumerate(rows):
            for b, j in enumerate(columns):
                window = padded[:, i : i + 2 * reach + 1, j : j + 2 * reach + 1]
                out[:, a, b] = np.tensordot(kernel, window, 3)
        return out + weights[f"{name}.bias"][:, None, None]

    @staticmethod
    def group_norm(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
        groups = x.reshape(32, -1)
        spread = np.sqrt(groups.var(1, keepdims=True) + 1e-5)
        normed = ((groups - groups.mean(1, keepdims=True)) / spread).reshape(x.shape)
        scale, shift = (weights[f"{name}.{kind}"] for kind in ("weight", "bias"))
        return normed * scale[:, None, None] + shift[:, None, None]

    @staticmethod
    def layer_norm(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
        spread = np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        normed = (x - x.mean(-1, keepdims=True)) / spread
        return normed * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    @staticmethod
    def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        """[L, D] each -> [L, D]."""
        logits = q @ k.T / math.sqrt(q.shape[1])
        weights = np.exp(logits - logits.max(1, keepdims=True))
        return weights / weights.sum(1, keepdims=True) @ v


@pytest.fixture
def by_hand() -> ByHand:
    return ByHand()


@pytest.fixture
def settle():
    """Give a network weights that hide nothing; returns them as float64 arrays."""

    def settled(network: nn.Module) -> dict[str, np.ndarray]:
        network.double().eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                scale = name.endswith("weight") and parameter.dim() == 1  # of a norm
                parameter.normal_(mean=float(scale), std=0.15, generator=generator)
        return {name: value.numpy().copy() for name, value in network.state_dict().items()}

    return settled
