"""The transformer of Graves et al. 2023 for text8: pre-norm blocks, no mask."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

_BASE = 1000.0


class TextTransformer(nn.Module):
    """Variable "x": input (2 theta - 1) and output (logits) [B, length, classes].

    Args:
        length: characters.
        classes: symbols.
        width, layers, heads: of the transformer.
        dropout: after attention and MLP.
    """

    def __init__(
        self,
        *,
        length: int,
        classes: int,
        width: int = 768,
        layers: int = 24,
        heads: int = 12,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.input_adapter = TextInput(length, classes, width)
        self.transformer = nn.ModuleDict(
            {
                "h": nn.ModuleList(Block(width, heads, dropout) for _ in range(layers)),
                "ln_f": nn.LayerNorm(width),
            }
        )
        self.lm_head = nn.Linear(2 * width, classes)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                small = name.endswith("c_proj.weight")
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if small else 0.02)

    def hidden_matrices(self) -> Iterable[nn.Parameter]:
        """Return the matrices between hidden features."""
        for name, parameter in self.transformer["h"].named_parameters():
            if parameter.dim() == 2 and name.endswith("weight"):
                yield parameter

    def forward(
        self, inputs: Mapping[str, Tensor], t: Mapping[str, Tensor], mask: object = None
    ) -> dict[str, Tensor]:
        """Return logits [B, length, classes]."""
        embedded = self.input_adapter(inputs["x"], t["x"])
        x = embedded
        for block in self.transformer["h"]:
            x = block(x)
        x = self.transformer["ln_f"](x)
        return {"x": self.lm_head(torch.cat([x, embedded], -1))}


class TextInput(nn.Module):
    """Linear in 2 theta - 1 and in 2 t - 1, plus fixed sines and cosines of the place."""

    def __init__(self, length: int, classes: int, width: int) -> None:
        super().__init__()
        self.inp_embedding = nn.Linear(classes, width)
        self.t_embedding = nn.Linear(1, width)
        self.register_buffer("pos_embedding", position_code(length, width), persistent=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time = self.t_embedding((2 * t - 1)[:, None, None])
        return self.inp_embedding(x) + self.pos_embedding + time


def position_code(length: int, width: int) -> Tensor:
    """Return ``sin(p / 1000^(c / width))`` in even and cos in odd channels c, [length, width].

    Unlike in Vaswani et al. 2017 each channel has its own wave length.
    """
    channel = torch.arange(width)
    angles = torch.arange(length)[:, None] / _BASE ** (channel / width)
    return torch.where(channel % 2 == 0, torch.sin(angles), torch.cos(angles))


class Block(nn.Module):
    """Attention and MLP, each after a LayerNorm and added."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.ModuleDict(
            {"c_attn": nn.Linear(width, 3 * width), "c_proj": nn.Linear(width, width)}
        )
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)}
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.attn["c_attn"](self.ln_1(x))
        heads = (batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.reshape(heads).permute(2, 0, 3, 1, 4)
        h = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        x = x + self.dropout(self.attn["c_proj"](h.reshape(batch, length, width)))
        h = functional.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh")
        return x + self.dropout(self.mlp["c_proj"](h))
