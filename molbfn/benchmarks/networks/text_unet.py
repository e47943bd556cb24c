"""A small network for text: convolutions on characters around a transformer on groups of them.

Spelling is local and cheap at full length; what a convolution does not see is left to attention
over groups of characters, whose number is a fraction of the characters'.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from molbfn.benchmarks.networks.patch_unet import time_features

_KERNEL = 5


class TextUNet(nn.Module):
    """Residual convolutions, and attention over groups of characters, conditioned on the time.

    Variable "x": input [B, length, inputs] and output [B, length, classes].

    Args:
        length: characters, divisible by ``group``.
        classes: symbols.
        inputs: what is seen of a character; as many as symbols by default.
        width: channels a character.
        inner_width: channels a group, divisible by ``heads``.
        blocks: convolutional ones, before and after the inner ones each.
        inner_blocks: attention and MLP.
        heads: of the attention.
        group: characters a group.
        condition_width: of the time's features.
    """

    def __init__(
        self,
        *,
        length: int,
        classes: int,
        inputs: int | None = None,
        width: int = 96,
        inner_width: int = 224,
        blocks: int = 2,
        inner_blocks: int = 3,
        heads: int = 4,
        group: int = 4,
        condition_width: int = 128,
    ) -> None:
        super().__init__()
        if length % group:
            raise ValueError(f"length ({length}) must be divisible by group ({group})")
        self.group = group
        features = time_features(torch.zeros(1)).shape[1]
        self.time = nn.Sequential(
            nn.Linear(features, condition_width),
            nn.SiLU(),
            nn.Linear(condition_width, condition_width),
            nn.SiLU(),
        )
        self.stem = Convolution(classes if inputs is None else inputs, width)
        self.down = nn.ModuleList(ConvolutionBlock(width, condition_width) for _ in range(blocks))
        self.enter = nn.Linear(group * width, inner_width)
        self.places = nn.Parameter(0.02 * torch.randn(length // group, inner_width))
        self.inner = nn.ModuleList(
            AttentionBlock(inner_width, heads, condition_width) for _ in range(inner_blocks)
        )
        self.leave = nn.Linear(inner_width, group * width)
        self.merge = nn.Linear(2 * width, width)
        self.up = nn.ModuleList(ConvolutionBlock(width, condition_width) for _ in range(blocks))
        self.head = nn.Linear(width, classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def hidden_matrices(self) -> Iterable[nn.Parameter]:
        """Return the matrices between hidden features."""
        for block in (*self.down, *self.up):
            yield block.first.weight
            yield block.second.weight
        for block in self.inner:
            for layer in (block.qkv, block.mix, block.widen, block.narrow):
                yield layer.weight
        for layer in (self.enter, self.leave, self.merge):
            yield layer.weight

    def forward(
        self, inputs: Mapping[str, Tensor], t: Mapping[str, Tensor], mask: object = None
    ) -> dict[str, Tensor]:
        """Return raw outputs [B, length, classes]."""
        condition = self.time(time_features(t["x"]))
        skip = self.stem(inputs["x"])
        for block in self.down:
            skip = block(skip, condition)
        batch, length, width = skip.shape
        h = self.enter(skip.reshape(batch, length // self.group, self.group * width)) + self.places
        for block in self.inner:
            h = block(h, condition)
        h = self.leave(h).reshape(batch, length, width)
        h = self.merge(torch.cat([h, skip], -1))
        for block in self.up:
            h = block(h, condition)
        return {"x": self.head(functional.silu(_rms_norm(h)))}


class ConvolutionBlock(nn.Module):
    """Norm, scale and shift by the time, SiLU, convolution, twice; added to the input."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.condition = nn.Linear(condition, 2 * width)
        self.first = Convolution(width, width)
        self.second = Convolution(width, width)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [B, L, C] and condition [B, D] to [B, L, C]."""
        scale, shift = self.condition(condition)[:, None].chunk(2, -1)
        h = self.first(functional.silu(_rms_norm(x) * (1 + scale) + shift))
        return x + self.second(functional.silu(_rms_norm(h)))


class AttentionBlock(nn.Module):
    """Self-attention, then an MLP, each after a norm, scaled and shifted by the time, and added."""

    def __init__(self, width: int, heads: int, condition: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"inner_width ({width}) must be divisible by heads ({heads})")
        self.heads = heads
        self.condition = nn.Linear(condition, 4 * width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        for layer in (self.mix, self.narrow):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [B, N, C] and condition [B, D] to [B, N, C]."""
        scale, shift, scale_2, shift_2 = self.condition(condition)[:, None].chunk(4, -1)
        batch, count, width = x.shape
        heads = (batch, count, 3, self.heads, width // self.heads)
        qkv = self.qkv(_rms_norm(x) * (1 + scale) + shift).reshape(heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        h = functional.scaled_dot_product_attention(_rms_norm(q), _rms_norm(k), v)
        x = x + self.mix(h.transpose(1, 2).reshape(batch, count, width))
        h = functional.silu(self.widen(_rms_norm(x) * (1 + scale_2) + shift_2))
        return x + self.narrow(h)


class Convolution(nn.Module):
    """Convolution of [B, L, C] over five characters, with padding; weight [out, 5 in]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        fan = _KERNEL * inputs
        self.weight = nn.Parameter(torch.randn(outputs, fan) / math.sqrt(fan))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        # As an image of height 1, for whose channels-last layout there are fast kernels.
        weight = self.weight.view(len(self.bias), 1, _KERNEL, -1).permute(0, 3, 1, 2)
        image = x[:, None].permute(0, 3, 1, 2)
        out = functional.conv2d(image, weight, self.bias, padding=(0, _KERNEL // 2))
        return out.permute(0, 2, 3, 1)[:, 0]


def _rms_norm(x: Tensor) -> Tensor:
    return functional.rms_norm(x, x.shape[-1:])
