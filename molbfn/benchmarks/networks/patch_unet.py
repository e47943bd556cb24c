"""A small U-Net for images that starts from 2 x 2 patches: most work at a quarter of the pixels.

Everything is channels-last in memory, so that a normalisation is over contiguous numbers and a
3 x 3 convolution is the layout that CPUs and GPUs multiply fastest.  Convolution weights are
stored as matrices [out, 9 in], which is that layout too, and what Muon takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_TIME_FEATURES = 16


class PatchUNet(nn.Module):
    """Residual convolutions at 1/2 and 1/4 of the resolution, conditioned on the time.

    Variable "x": input [B, H, W, ...], output [B, H, W, *outputs]; H and W divisible by 4.

    Args:
        size: (H, W).
        inputs: numbers a pixel.
        outputs: shape of what is returned for a pixel.
        width, inner_width: channels at half and at a quarter of the resolution.
        blocks: at half of the resolution, before and after the inner ones each.
        inner_blocks: at a quarter of the resolution.
        condition_width: of the time's features.
        dropout: inside the blocks.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int],
        inputs: int,
        outputs: Sequence[int],
        width: int = 64,
        inner_width: int = 128,
        blocks: int = 2,
        inner_blocks: int = 3,
        condition_width: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if size[0] % 4 or size[1] % 4:
            raise ValueError(f"height and width must be divisible by 4, got {size}")
        self.outputs = tuple(outputs)
        half, quarter = (size[0] // 2, size[1] // 2), (size[0] // 4, size[1] // 4)
        self.time = nn.Sequential(
            nn.Linear(_TIME_FEATURES, condition_width),
            nn.SiLU(),
            nn.Linear(condition_width, condition_width),
            nn.SiLU(),
        )
        options = {"condition": condition_width, "dropout": dropout}
        self.stem = Conv3x3(4 * inputs, width)
        self.places = nn.Parameter(0.02 * torch.randn(*half, width))
        self.down = nn.ModuleList(Block(width, **options) for _ in range(blocks))
        self.enter = nn.Linear(4 * width, inner_width)
        self.inner_places = nn.Parameter(0.02 * torch.randn(*quarter, inner_width))
        self.inner = nn.ModuleList(Block(inner_width, **options) for _ in range(inner_blocks))
        self.leave = nn.Linear(inner_width, 4 * width)
        self.merge = nn.Linear(2 * width, width)
        self.up = nn.ModuleList(Block(width, **options) for _ in range(blocks))
        self.head = nn.Linear(width, 4 * math.prod(self.outputs))
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def hidden_matrices(self) -> Iterable[nn.Parameter]:
        """Return the matrices between hidden features."""
        for block in (*self.down, *self.inner, *self.up):
            yield block.first.weight
            yield block.second.weight
        for layer in (self.enter, self.leave, self.merge):
            yield layer.weight

    def forward(
        self, inputs: Mapping[str, Tensor], t: Mapping[str, Tensor], mask: object = None
    ) -> dict[str, Tensor]:
        """Return raw outputs [B, H, W, *outputs]."""
        x = inputs["x"].flatten(3)
        condition = self.time(time_features(t["x"]))
        skip = self.stem(_to_patches(x)) + self.places
        for block in self.down:
            skip = block(skip, condition)
        h = self.enter(_to_patches(skip)) + self.inner_places
        for block in self.inner:
            h = block(h, condition)
        h = _from_patches(self.leave(h))
        h = self.merge(torch.cat([h, skip], -1))
        for block in self.up:
            h = block(h, condition)
        out = _from_patches(self.head(functional.silu(_rms_norm(h))))
        return {"x": out.reshape(*out.shape[:3], *self.outputs)}


class Block(nn.Module):
    """Norm, scale and shift by the time, SiLU, convolution, twice; added to the input."""

    def __init__(self, width: int, *, condition: int, dropout: float) -> None:
        super().__init__()
        self.condition = nn.Linear(condition, 2 * width)
        self.first = Conv3x3(width, width)
        self.second = Conv3x3(width, width)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [B, H, W, C] and condition [B, D] to [B, H, W, C]."""
        scale, shift = self.condition(condition)[:, None, None].chunk(2, -1)
        h = self.first(functional.silu(_rms_norm(x) * (1 + scale) + shift))
        return x + self.second(self.dropout(functional.silu(_rms_norm(h))))


class Conv3x3(nn.Module):
    """3 x 3 convolution of [B, H, W, C] with padding; weight [out, 9 in]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, 9 * inputs) / math.sqrt(9 * inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.view(len(self.bias), 3, 3, -1).permute(0, 3, 1, 2)
        out = functional.conv2d(x.permute(0, 3, 1, 2), weight, self.bias, padding=1)
        return out.permute(0, 2, 3, 1)


def _rms_norm(x: Tensor) -> Tensor:
    return functional.rms_norm(x, x.shape[-1:])


def time_features(t: Tensor) -> Tensor:
    """Return cos(pi k t), k = 0..15, [B, 16]."""
    return torch.cos(math.pi * t[:, None] * torch.arange(_TIME_FEATURES, device=t.device))


def _to_patches(x: Tensor) -> Tensor:
    """[B, H, W, C] to [B, H/2, W/2, 4C]."""
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(2, 3).reshape(b, h // 2, w // 2, 4 * c)


def _from_patches(x: Tensor) -> Tensor:
    """[B, H, W, 4C] to [B, 2H, 2W, C]."""
    b, h, w, c = x.shape
    return x.reshape(b, h, w, 2, 2, c // 4).transpose(2, 3).reshape(b, 2 * h, 2 * w, c // 4)
