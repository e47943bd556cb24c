"""Small tensor helpers that every flow shares: noise, masks and broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator] | None
"""One generator for a whole batch, or one for each sample of it (so that a sample's noise does
not depend on what else is in the batch), or None for torch's default."""


def standard_normal(
    shape: Sequence[int],
    *,
    generator: Generators,
    dtype: torch.dtype,
    device: torch.device,
    mask: Tensor | None = None,
) -> Tensor:
    """Return N(0, 1) noise.

    Args:
        shape: [B, ...].
        generator: see :data:`Generators`; None draws on ``device`` from torch's global generator.
        dtype: a floating dtype.
        device: where the result lies, whatever device the generators live on.
        mask: leading axes of ``shape``, True where there is data.  It matters with one generator
            a sample only: noise is then drawn for the data alone (zero elsewhere), so that a
            sample's noise does not depend on how far its batch is padded.

    Raises:
        ValueError: not one generator for each sample, or a mask of another shape.
    """
    return _draw(torch.randn, shape, generator, dtype, device, mask)


def standard_uniform(
    shape: Sequence[int],
    *,
    generator: Generators,
    dtype: torch.dtype,
    device: torch.device,
    mask: Tensor | None = None,
) -> Tensor:
    """Return U[0, 1) noise; arguments and errors as for :func:`standard_normal`."""
    return _draw(torch.rand, shape, generator, dtype, device, mask)


def _draw(
    function: Callable[..., Tensor],
    shape: Sequence[int],
    generator: Generators,
    dtype: torch.dtype,
    device: torch.device,
    mask: Tensor | None,
) -> Tensor:
    shape = tuple(shape)
    check_mask(mask, shape)
    if generator is None:
        return function(shape, dtype=dtype, device=device)
    if isinstance(generator, torch.Generator):
        noise = function(shape, generator=generator, dtype=dtype, device=generator.device)
        return noise.to(device)
    if len(generator) != shape[0]:
        raise ValueError(f"{len(generator)} generators for a batch of {shape[0]} samples")
    if not generator:
        return torch.empty(shape, dtype=dtype, device=device)
    if mask is None:
        rows = [function(shape[1:], generator=g, dtype=dtype, device=g.device) for g in generator]
        return torch.stack(rows).to(device)
    counts = mask.reshape(shape[0], -1).sum(1).tolist()
    drawn = [
        function((count, *shape[mask.dim() :]), generator=one, dtype=dtype, device=one.device)
        for count, one in zip(counts, generator, strict=True)
    ]
    noise = torch.zeros(shape, dtype=dtype, device=device)
    noise[mask] = torch.cat(drawn).to(device)
    return noise


def expand_right(x: Tensor, like: Tensor) -> Tensor:
    """Append singleton axes to x until it has as many as ``like`` (times [B] to data [B, ...])."""
    return x.reshape(x.shape + (1,) * (like.dim() - x.dim()))


def apply_mask(x: Tensor, mask: Tensor | None) -> Tensor:
    """Set x to exactly zero, finite or not, where mask (over its leading axes) is False.

    Raises:
        ValueError: as :func:`check_mask`.
    """
    if mask is None:
        return x
    check_mask(mask, x.shape)
    return torch.where(expand_right(mask, x), x, torch.zeros((), dtype=x.dtype, device=x.device))


def sum_per_sample(x: Tensor, mask: Tensor | None) -> Tensor:
    """Sum over every axis but the first, leaving out masked places.  x [B] or [B, ...] -> [B]."""
    x = apply_mask(x, mask)
    return x.sum(tuple(range(1, x.dim()))) if x.dim() > 1 else x


def centre(x: Tensor, mask: Tensor | None) -> Tensor:
    """Remove the mean over points: x [B, N, D], mask [B, N]; padding becomes exactly zero."""
    if mask is None:
        return x - x.mean(dim=1, keepdim=True)
    check_mask(mask, x.shape)
    total = apply_mask(x, mask).sum(1, keepdim=True)
    count = mask.sum(1)[:, None, None].clamp_min(1).to(x.dtype)
    return apply_mask(x - total / count, mask)


def check_mask(mask: Tensor | None, shape: Sequence[int]) -> None:
    """Refuse a mask that would broadcast over data [B, ...] of this shape.

    Raises:
        ValueError: it is not bool, or its shape is not that of the data's leading axes.
    """
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise ValueError(f"a mask must be bool, got {str(mask.dtype).removeprefix('torch.')}")
    if tuple(mask.shape) != tuple(shape[: mask.dim()]):
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} does not fit data of shape {tuple(shape)}; "
            f"variables of other shapes take masks of their own: {{name: mask}}"
        )


def at_least_float32(x: Tensor) -> Tensor:
    """Cast half-precision floats (and integers) to float32; keep float32 and float64."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def may_be_zero(x: Tensor) -> bool:
    """Return whether a number is zero; True in torch.compile and torch.vmap, which show none."""
    if torch.compiler.is_compiling():
        return True
    try:
        return bool((x == 0).any())
    except RuntimeError:  # a batch of numbers, one of each call that vmap makes at once
        return True


def root(x: Tensor) -> Tensor:
    """Return the square root, with a derivative of 0 at 0, where torch's is infinite.

    An accuracy is 0 at t = 0 whatever its schedule: infinity times the derivative 0 would be NaN.
    """
    zero = x == 0
    return torch.sqrt(x.masked_fill(zero, 1.0)).masked_fill(zero, 0.0)


def logarithm(x: Tensor) -> Tensor:
    """Return the logarithm of x >= 0, with a derivative of 0 at 0, as :func:`root` has it."""
    zero = x == 0
    return torch.log(x.masked_fill(zero, 1.0)).masked_fill(zero, -math.inf)


def without_autocast(like: Tensor) -> torch.autocast:
    """Return a context in which products on this tensor's device keep their dtypes."""
    return torch.autocast(like.device.type, enabled=False)


def check_precision(dtype: torch.dtype, what: str) -> None:
    """Refuse half precision, into which rates and accuracies do not fit.

    Raises:
        ValueError: neither float32 nor float64; names ``what``.
    """
    if dtype not in (torch.float32, torch.float64):
        kind = str(dtype).removeprefix("torch.")
        raise ValueError(
            f"{what} must be float32 or float64, got {kind}: rates and accuracies need them"
        )


def state_dtype() -> torch.dtype:
    """The dtype of states made from integer data: torch's default, but never half precision."""
    default = torch.get_default_dtype()
    return default if default in (torch.float32, torch.float64) else torch.float32


def one_hot(index: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """Return one-hot floats [..., count] of whole numbers 0..count-1, [...].

    torch's own looks at the numbers, which torch.func.grad inside torch.vmap cannot.

    Raises:
        RuntimeError: a number out of range, as torch's own.
    """
    zeros = torch.zeros((*index.shape, count), dtype=dtype, device=index.device)
    return zeros.scatter(-1, index.long()[..., None], 1.0)


def is_seen(condition: Tensor) -> bool:
    """Return whether it holds anywhere, as far as that can be seen at once.

    False on other devices than the CPU, for which the program would wait, and in torch.compile and
    torch.vmap, where there is no number to look at yet.
    """
    if torch.compiler.is_compiling() or condition.device.type != "cpu":
        return False
    try:
        return bool(condition.any())
    except RuntimeError:  # a batch of numbers, one of each call that vmap makes at once
        return False


def check_classes(data: Tensor, count: int) -> None:
    """Refuse what are no whole numbers 0..count-1.

    Their range is looked at on the CPU only: elsewhere the program would wait for it.  Nor is it in
    torch.compile and torch.vmap, where there is no number to look at yet.

    Raises:
        ValueError: floats (which would be cut to whole numbers), or a number out of range.
    """
    if data.is_floating_point() or data.is_complex():
        kind = str(data.dtype).removeprefix("torch.")
        raise ValueError(f"classes and bins must be whole numbers, got {kind}")
    if torch.compiler.is_compiling():
        return
    if data.device.type == "cpu" and data.numel() and data.dtype != torch.bool:
        extremes = data.long().aminmax()  # torch has none of uint16
        try:
            low, high = (int(x) for x in extremes)
        except RuntimeError:  # a batch of numbers, one of each call that vmap makes at once
            return
        if low < 0 or high >= count:
            wrong = low if low < 0 else high
            raise ValueError(f"class or bin {wrong} is not one of 0 to {count - 1}")
