"""Numerically safe probabilities over classes and bins."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from bfn_core.tensors import Generators, standard_uniform

_NARROW = 0.03
"""Bins narrower than this many standard deviations use the series form (see _narrow_bin)."""


def draw_one_hot(log_probs: Tensor, *, generator: Generators = None) -> Tensor:
    """Draw one class an element from log_probs [B, ..., K]; returns one-hot floats, same shape.

    By inversion of the cumulative distribution, one uniform number an element.
    """
    uniform = standard_uniform(
        log_probs.shape[:-1], generator=generator, dtype=log_probs.dtype, device=log_probs.device
    )
    cumulative = log_probs.exp().cumsum(-1)
    threshold = uniform[..., None] * cumulative[..., -1:]
    index = (cumulative <= threshold).sum(-1).clamp_max(log_probs.shape[-1] - 1)
    return one_hot(index, log_probs.shape[-1]).to(log_probs.dtype)


def bin_log_probs(mean: Tensor, log_std: Tensor, bins: int) -> Tensor:
    """Log-probabilities of a Gaussian in K equal bins on [-1, 1], the outer two open-ended.

    Args:
        mean, log_std: [...].
        bins: K.

    Returns:
        [..., K], each row normalised to rounding.

    Exact relative to the float's precision from sigma far below a bin's width to far above 1: wide
    bins use differences of log-CDFs in the tail where both are small, narrow bins the integral of
    the density about the bin's centre.
    """
    edges = torch.arange(1, bins, device=mean.device, dtype=mean.dtype) * (2 / bins) - 1
    inverse_std = torch.exp(-log_std)[..., None]
    cuts = (edges - mean[..., None]) * inverse_std
    first = torch.special.log_ndtr(cuts[..., :1])
    last = torch.special.log_ndtr(-cuts[..., -1:])
    if bins == 2:
        return torch.cat([first, last], -1)
    inner = _interval_log_prob(cuts[..., :-1], (2 / bins) * inverse_std)
    return torch.cat([first, inner, last], -1)


def _interval_log_prob(lower: Tensor, width: Tensor) -> Tensor:
    """ln(Phi(lower + width) - Phi(lower)) for width > 0, in standard deviations."""
    width = width.expand_as(lower)
    narrow = width < _NARROW
    middle = lower + 0.5 * width
    # Both branches get harmless arguments where the other is used: no NaN reaches a gradient.
    small = _narrow_bin(middle, torch.where(narrow, width, torch.full_like(width, _NARROW)))
    safe_width = torch.where(narrow, torch.ones_like(width), width)
    near = -(middle.abs() - 0.5 * safe_width)  # in the left tail, the edge nearer to the mean
    log_near = torch.special.log_ndtr(near)
    log_far = torch.special.log_ndtr(near - safe_width)
    wide = log_near + torch.log1p(-torch.exp((log_far - log_near).clamp_max(-1e-7)))
    return torch.where(narrow, small, wide)


def _narrow_bin(middle: Tensor, width: Tensor) -> Tensor:
    """Integral of the standard normal over a narrow bin about ``middle``, in logs.

    ``int_{-w/2}^{w/2} phi(m + u) du = phi(m) int exp(-m u - u^2 / 2) du``; the factor exp(-m u)
    integrates to ``w sinh(a) / a`` with a = m w / 2, and exp(-u^2 / 2) changes it by a relative
    O(w^2 / 24), which the last term carries to leading order.
    """
    a = 0.5 * middle.abs() * width
    safe = a.clamp_min(1e-2)
    log_sinhc = torch.where(
        a < 1e-2, a * a / 6, safe + torch.log1p(-torch.exp(-2 * safe)) - torch.log(2 * safe)
    )
    log_density = -0.5 * middle * middle - 0.5 * math.log(2 * math.pi)
    return log_density + torch.log(width) + log_sinhc - width * width / 24
