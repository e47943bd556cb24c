"""The U-Net of Graves et al. 2023 for binarized MNIST, from Nichol and Dhariwal 2021."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

_GROUPS = 32
_MULTIPLES = (1, 2, 2)
_BLOCKS = 2  # a level, on the way down; one more on the way up


class BinaryUNet(nn.Module):
    """Variable "x": input (2 theta - 1) and output (logits, the first one 0) [B, H, W, 2].

    Args:
        width: channels of the first level, divisible by 32.
        heads: of the attention in the middle.
        dropout: inside the blocks.
    """

    def __init__(self, *, width: int = 128, heads: int = 4, dropout: float = 0.5) -> None:
        super().__init__()
        self.width = width
        condition = 4 * width
        self.time_embed = nn.Sequential(
            nn.Linear(width, condition), nn.SiLU(), nn.Linear(condition, condition)
        )
        self.input_projection = nn.Linear(2, width)
        options = {"condition": condition, "dropout": dropout}
        channels = [width]
        inputs = [[nn.Conv2d(width, width, 3, padding=1)]]
        now = width
        for level, multiple in enumerate(_MULTIPLES):
            for _ in range(_BLOCKS):
                inputs.append([ResidualBlock(now, multiple * width, **options)])
                now = multiple * width
                channels.append(now)
            if level < len(_MULTIPLES) - 1:
                inputs.append([Downsample(now)])
                channels.append(now)
        self.input_blocks = nn.ModuleList(nn.ModuleList(block) for block in inputs)
        self.middle_block = nn.ModuleList(
            [
                ResidualBlock(now, now, **options),
                AttentionBlock(now, heads),
                ResidualBlock(now, now, **options),
            ]
        )
        outputs = []
        for level, multiple in reversed(list(enumerate(_MULTIPLES))):
            for number in range(_BLOCKS + 1):
                block = [ResidualBlock(now + channels.pop(), multiple * width, **options)]
                now = multiple * width
                if level and number == _BLOCKS:
                    block.append(Upsample(now))
                outputs.append(block)
        self.output_blocks = nn.ModuleList(nn.ModuleList(block) for block in outputs)
        self.out = nn.Sequential(
            nn.GroupNorm(_GROUPS, now), nn.SiLU(), _zero(nn.Conv2d(now, width, 3, padding=1))
        )
        self.output_adapter = nn.ModuleDict({"output_projection": nn.Linear(2 * width, 1)})

    def hidden_matrices(self) -> Iterable[nn.Parameter]:
        """Return the matrices between hidden features (not the convolutions)."""
        yield self.time_embed[2].weight

    def forward(
        self, inputs: Mapping[str, Tensor], t: Mapping[str, Tensor], mask: object = None
    ) -> dict[str, Tensor]:
        """Return logits [B, H, W, 2]."""
        # Published weights take the probability of class 0, and return the logit of class 1.
        zero = inputs["x"][..., :1]
        time = (2 * t["x"] - 1)[:, None, None, None].expand_as(zero)
        projected = self.input_projection(torch.cat([zero, time], -1))
        condition = self.time_embed(time_features(t["x"], self.width))
        h = projected.permute(0, 3, 1, 2)
        skips = []
        for block in self.input_blocks:
            h = _apply(block, h, condition)
            skips.append(h)
        h = _apply(self.middle_block, h, condition)
        for block in self.output_blocks:
            h = _apply(block, torch.cat([h, skips.pop()], 1), condition)
        h = torch.cat([projected, self.out(h).permute(0, 2, 3, 1)], -1)
        logit = self.output_adapter["output_projection"](h)
        return {"x": torch.cat([torch.zeros_like(logit), logit], -1)}


def time_features(t: Tensor, count: int) -> Tensor:
    """Return cos, then sin of ``4000 t 10000^(-2 k / count)``: [B, count]."""
    half = count // 2
    scales = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)
    angles = 4000 * t[:, None] * scales
    return torch.cat([torch.cos(angles), torch.sin(angles)], 1)


def _apply(block: Iterable[nn.Module], h: Tensor, condition: Tensor) -> Tensor:
    for layer in block:
        h = layer(h, condition) if isinstance(layer, ResidualBlock) else layer(h)
    return h


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, convolution; plus the condition; again with dropout; added to the input."""

    def __init__(self, inputs: int, outputs: int, *, condition: int, dropout: float) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(_GROUPS, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(condition, outputs))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(_GROUPS, outputs),
            nn.SiLU(),
            nn.Dropout(dropout),
            _zero(nn.Conv2d(outputs, outputs, 3, padding=1)),
        )
        same = inputs == outputs
        self.skip_connection = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(condition)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class AttentionBlock(nn.Module):
    """Several heads over all pixels, added to the input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(_GROUPS, width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = _zero(nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, width, *size = x.shape
        flat = x.reshape(batch, width, -1)
        # Channels are ordered head by head, and in each head query, key, value.
        qkv = self.qkv(self.norm(flat)).reshape(batch, self.heads, 3, width // self.heads, -1)
        q, k, v = qkv.transpose(3, 4).unbind(2)
        h = functional.scaled_dot_product_attention(q, k, v)
        out = self.proj_out(h.transpose(2, 3).reshape(batch, width, -1))
        return (flat + out).reshape(batch, width, *size)


class Downsample(nn.Module):
    """A convolution with stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Each pixel four times, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2, mode="nearest"))


def _zero(layer: nn.Module) -> nn.Module:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
