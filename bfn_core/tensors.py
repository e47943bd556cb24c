"""Small tensor helpers that every flow shares: noise, masks and broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator] | None
"""One generator for a whole batch, or one for each sample of it (so that a sample's noise does
not depend on what else is in the batch), or None for torch's default."""


def standard_normal(
    shape: Sequence[int], *, generator: Generators, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return N(0, 1) noise of the given shape; see :data:`Generators`."""
    return _draw(torch.randn, shape, generator, dtype).to(device)


def standard_uniform(
    shape: Sequence[int], *, generator: Generators, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return U[0, 1) noise of the given shape; see :data:`Generators`."""
    return _draw(torch.rand, shape, generator, dtype).to(device)


def _draw(
    function: Callable[..., Tensor],
    shape: Sequence[int],
    generator: Generators,
    dtype: torch.dtype,
) -> Tensor:
    if generator is None or isinstance(generator, torch.Generator):
        device = generator.device if generator is not None else torch.device("cpu")
        return function(tuple(shape), generator=generator, dtype=dtype, device=device)
    if len(generator) != shape[0]:
        raise ValueError(f"{len(generator)} generators for a batch of {shape[0]} samples")
    rows = [
        function(tuple(shape[1:]), generator=one, dtype=dtype, device=one.device)
        for one in generator
    ]
    return torch.stack(rows) if rows else torch.empty(tuple(shape), dtype=dtype)


def expand_right(x: Tensor, like: Tensor) -> Tensor:
    """Append singleton axes to x until it has as many as ``like`` (times [B] to data [B, ...])."""
    return x.reshape(x.shape + (1,) * (like.dim() - x.dim()))


def apply_mask(x: Tensor, mask: Tensor | None) -> Tensor:
    """Set x to exactly zero where mask (shape: the leading axes of x) is False."""
    if mask is None:
        return x
    return torch.where(expand_right(mask, x), x, torch.zeros((), dtype=x.dtype, device=x.device))


def sum_per_sample(x: Tensor, mask: Tensor | None) -> Tensor:
    """Sum over every axis but the first, leaving out masked places.  Returns [B]."""
    return apply_mask(x, mask).flatten(1).sum(1)


def centre(x: Tensor, mask: Tensor | None) -> Tensor:
    """Remove the mean over points: x [B, N, D], mask [B, N]; padding becomes exactly zero."""
    if mask is None:
        return x - x.mean(dim=1, keepdim=True)
    weights = mask.unsqueeze(-1).to(x.dtype)
    total = (x * weights).sum(1, keepdim=True)
    count = weights.sum(1, keepdim=True).clamp_min(1)
    return apply_mask(x - total / count, mask)


def at_least_float32(x: Tensor) -> Tensor:
    """Cast half-precision network outputs to float32; keep float32 and float64."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
