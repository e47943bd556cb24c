"""Weights rounded to one byte a number: a quarter of the size on disk, float32 in memory.

A matrix is stored as int8 with a float32 scale for each row (its first axis), ``w = scale * q``
with ``|q| <= 127``, so a weight is off by half a scale at most.  Small tensors are in bfloat16.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from molbfn.errors import UserError

_SCALE = ".row_scale"
_SMALL = 4096


def round_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what is stored for each weight: matrices as int8 and scales, the rest as bfloat16."""
    stored: dict[str, Tensor] = {}
    for name, value in weights.items():
        if value.ndim < 2 or value.numel() < _SMALL or not value.is_floating_point():
            stored[name] = value.bfloat16() if value.is_floating_point() else value
            continue
        rows = value.detach().float().flatten(1)
        scale = rows.abs().amax(1) / 127
        scale = torch.where(scale > 0, scale, 1.0)
        stored[name] = (rows / scale[:, None]).round().to(torch.int8).view(value.shape)
        stored[name + _SCALE] = scale
    return stored


def restore_weights(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo :func:`round_weights` but for the rounding; other weights are returned as they are.

    Raises:
        UserError: rounded weights without scales that fit.
    """
    weights = dict(stored)
    for name, value in stored.items():
        if value.dtype is not torch.int8:
            continue
        scale = weights.pop(name + _SCALE, None)
        if scale is None or scale.shape != value.shape[:1]:
            raise UserError(f"weight '{name}' is rounded and has no scales that fit")
        weights[name] = value.float() * scale.view(-1, *(1 for _ in value.shape[1:]))
    return weights
