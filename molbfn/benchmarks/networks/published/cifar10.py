"""The U-Net of Graves et al. 2023 for CIFAR-10, from Kingma et al. 2021: one resolution, deep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_GROUPS = 32
_FREQUENCIES = (5, 6)
_TIME_FEATURES = 128


class DeepUNet(nn.Module):
    """Variable "x": input (the mean) [B, H, W, C], output [B, H, W, *outputs].

    Args:
        channels: C.
        outputs: shape of what is returned for a pixel.
        width: divisible by 32.
        blocks: on the way down; one more on the way up.
        dropout: inside the blocks.
    """

    def __init__(
        self,
        *,
        channels: int,
        outputs: Sequence[int],
        width: int = 128,
        blocks: int = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.outputs = tuple(outputs)
        condition = 4 * _TIME_FEATURES
        self.embed_conditioning = nn.Sequential(
            nn.Linear(_TIME_FEATURES, condition),
            nn.SiLU(),
            nn.Linear(condition, condition),
            nn.SiLU(),
        )
        self.conv_in = nn.Conv2d(channels * (1 + 2 * len(_FREQUENCIES)), width, 3, padding=1)
        options = {"condition": condition, "dropout": dropout}

        def blocks_of(inputs: int, count: int) -> nn.ModuleList:
            made = (ResidualBlock(inputs, width, **options) for _ in range(count))
            return nn.ModuleList(nn.ModuleDict({"resnet_block": block}) for block in made)

        self.down_blocks = blocks_of(width, blocks)
        self.mid_resnet_block_1 = ResidualBlock(width, width, **options)
        self.mid_attn_block = AttentionBlock(width)
        self.mid_resnet_block_2 = ResidualBlock(width, width, **options)
        self.up_blocks = blocks_of(2 * width, blocks + 1)
        self.conv_out = nn.Sequential(
            nn.GroupNorm(_GROUPS, width), nn.SiLU(), _zero(nn.Conv2d(width, width, 3, padding=1))
        )
        self.output_adapter = nn.ModuleDict(
            {"output_projection": nn.Linear(channels + width, math.prod(self.outputs))}
        )

    def hidden_matrices(self) -> Iterable[nn.Parameter]:
        """Return the matrices between hidden features (not the convolutions)."""
        yield self.embed_conditioning[2].weight

    def forward(
        self, inputs: Mapping[str, Tensor], t: Mapping[str, Tensor], mask: object = None
    ) -> dict[str, Tensor]:
        """Return raw outputs [B, H, W, *outputs]."""
        x = inputs["x"]
        condition = self.embed_conditioning(time_features(t["x"]))
        h = self.conv_in(fourier_features(x).permute(0, 3, 1, 2))
        skips = [h]
        for block in self.down_blocks:
            h = block["resnet_block"](h, condition)
            skips.append(h)
        h = self.mid_resnet_block_1(h, condition)
        h = self.mid_resnet_block_2(self.mid_attn_block(h), condition)
        for block in self.up_blocks:
            h = block["resnet_block"](torch.cat([h, skips.pop()], 1), condition)
        h = self.conv_out(h).permute(0, 2, 3, 1)
        out = self.output_adapter["output_projection"](torch.cat([x.to(h.dtype), h], -1))
        return {"x": out.reshape(*out.shape[:3], *self.outputs)}


def fourier_features(x: Tensor) -> Tensor:
    """Return x, the sines and then the cosines of ``2 pi 2^f x``: [..., 5 C].

    Within the sines, and within the cosines, all channels of one f follow those of the one before;
    published weights depend on that order.
    """
    angles = torch.cat([2 * math.pi * 2**f * x for f in _FREQUENCIES], -1)
    return torch.cat([x, torch.sin(angles), torch.cos(angles)], -1)


def time_features(t: Tensor) -> Tensor:
    """Return sin, then cos of ``1000 (t + 0.001) 10^-s``, s from 0 to 4 in 64 steps: [B, 128]."""
    scales = 10 ** torch.linspace(0, -4, _TIME_FEATURES // 2, device=t.device)
    angles = 1000 * (t[:, None] + 0.001) * scales
    return torch.cat([torch.sin(angles), torch.cos(angles)], 1)


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, convolution; plus the condition; again with dropout; added to the input."""

    def __init__(self, inputs: int, outputs: int, *, condition: int, dropout: float) -> None:
        super().__init__()
        self.net1 = nn.Sequential(
            nn.GroupNorm(_GROUPS, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.cond_proj = nn.Linear(condition, outputs, bias=False)
        nn.init.zeros_(self.cond_proj.weight)
        self.net2 = nn.Sequential(
            nn.GroupNorm(_GROUPS, outputs),
            nn.SiLU(),
            nn.Dropout(dropout),
            _zero(nn.Conv2d(outputs, outputs, 3, padding=1)),
        )
        if inputs != outputs:
            self.skip_conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.net1(x) + self.cond_proj(condition)[:, :, None, None]
        skip = self.skip_conv(x) if hasattr(self, "skip_conv") else x
        return skip + self.net2(h)


class AttentionBlock(nn.Module):
    """One head over all pixels, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # The third place is the attention itself, which has no parameters.
        self.layers = nn.ModuleList(
            [
                nn.GroupNorm(_GROUPS, width),
                nn.Conv2d(width, 3 * width, 1),
                nn.Identity(),
                _zero(nn.Conv2d(width, width, 1)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.layers[1](self.layers[0](x))
        q, k, v = qkv.flatten(2).transpose(1, 2).chunk(3, -1)
        h = functional.scaled_dot_product_attention(q, k, v)
        return x + self.layers[3](h.transpose(1, 2).reshape(x.shape))


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
