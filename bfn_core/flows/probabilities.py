"""Numerically safe probabilities over classes and bins."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bfn_core.tensors import Generators, one_hot, standard_uniform

_TILT_STEPS = 50
"""Steps at most towards a tilt; where Newton's fail each halves what is left."""

_NARROW = 0.03
"""Bins narrower than this many standard deviations use the series form (see _narrow_bin)."""

_FAR = {torch.float32: -10.0, torch.float64: -50.0}
"""Below this many standard deviations log_ndtr is its series, exact to rounding there."""

LOG_STD_LIMIT = 30.0
"""Log standard deviations are taken within +- this."""


def draw_one_hot(
    log_probs: Tensor, *, mask: Tensor | None = None, generator: Generators = None
) -> Tensor:
    """Draw one class an element from log_probs [B, ..., K]; returns one-hot floats, same shape.

    By inversion of the cumulative distribution, one uniform number an element.
    """
    uniform = standard_uniform(
        log_probs.shape[:-1],
        generator=generator,
        dtype=log_probs.dtype,
        device=log_probs.device,
        mask=mask,
    )
    cumulative = log_probs.exp().cumsum(-1)
    threshold = uniform[..., None] * cumulative[..., -1:]
    index = (cumulative <= threshold).sum(-1).clamp_max(log_probs.shape[-1] - 1)
    return one_hot(index, log_probs.shape[-1], log_probs.dtype)


def bin_log_probs(mean: Tensor, log_std: Tensor, bins: int) -> Tensor:
    """Log-probabilities of a Gaussian in K equal bins on [-1, 1], the outer two open-ended.

    Args:
        mean, log_std: [...]; log_std is taken within +-30, far outside of what any float of
            order 1 resolves.
        bins: K, at least 2.

    Returns:
        [..., K], each row normalised to rounding.

    Exact relative to float32's precision (in float64 to 1e-9) from sigma far below a bin's width to
    far above 1: wide bins use differences of log-CDFs in the tail where both are small, narrow bins
    the integral of the density about the bin's centre.
    """
    edges = torch.arange(1, bins, device=mean.device, dtype=mean.dtype) * (2 / bins) - 1
    inverse_std = torch.exp(-log_std.clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT))[..., None]
    cuts = (edges - mean[..., None]) * inverse_std
    first = log_ndtr(cuts[..., :1])
    last = log_ndtr(-cuts[..., -1:])
    if bins == 2:
        return torch.cat([first, last], -1)
    inner = _interval_log_prob(cuts[..., :-1], (2 / bins) * inverse_std)
    return torch.cat([first, inner, last], -1)


def bin_log_prob(mean: Tensor, log_std: Tensor, bins: int, index: Tensor) -> Tensor:
    """The entry ``index`` (integers 0..K-1, [...]) of :func:`bin_log_probs` alone, [...]."""
    inverse_std = torch.exp(-log_std.clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT))
    place = index.to(mean.dtype)
    lower = (place * (2 / bins) - 1 - mean) * inverse_std
    upper = ((place + 1) * (2 / bins) - 1 - mean) * inverse_std
    inner = _interval_log_prob(lower, (2 / bins) * inverse_std)
    outer = log_ndtr(torch.where(index == 0, upper, -lower))
    return torch.where((index == 0) | (index == bins - 1), outer, inner)


def bin_expectation(mean: Tensor, log_std: Tensor, bins: int) -> Tensor:
    """Mean of the bins' centres under :func:`bin_log_probs`, [...], without the probabilities.

    Summed by parts, ``sum_k p_k c_k = 1/K sum_j erf((mean - e_j) / (sqrt 2 sigma))`` over the K - 1
    inner edges e_j: a fraction of the work.
    """
    edges = torch.arange(1, bins, device=mean.device, dtype=mean.dtype) * (2 / bins) - 1
    inverse_std = torch.exp(-log_std.clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT))
    scale = (math.sqrt(0.5) * inverse_std)[..., None]
    return torch.erf((mean[..., None] - edges) * scale).sum(-1) / bins


def tilted_to(log_probs: Tensor, values: Tensor, mean: Tensor) -> Tensor:
    """Tilt probabilities ``p_k`` by ``exp(a v_k)`` so that their mean value is as wanted.

    Among all distributions of that mean it is the one nearest to p (in KL to p).

    Args:
        log_probs: [..., K].
        values: v [K], ascending.
        mean: the mean wanted, [...]; taken as the nearest of values where it is beyond them.

    Returns:
        log-probabilities [..., K], differentiable in ``log_probs`` and ``mean``.
    """
    mean = mean.clamp(values[0], values[-1])
    with torch.no_grad():
        tilt = _find_tilt(log_probs, values, mean)
    found = torch.log_softmax(log_probs + tilt[..., None] * values, -1)
    # A step of Newton's more, which changes nothing but brings the derivative.
    average, variance = _moments(found, values)
    tiny = torch.finfo(variance.dtype).eps ** 2
    rest = torch.where(variance > tiny, (mean - average) / variance.detach().clamp_min(tiny), 0.0)
    return torch.log_softmax(found + rest[..., None] * values, -1)


def _find_tilt(log_probs: Tensor, values: Tensor, mean: Tensor) -> Tensor:
    """Return a of :func:`tilted_to`: Newton's method, by halves where it leaves the bracket."""
    # Enough to bring all to either end, were the probability there as small as e^-1e4.
    high = torch.full_like(mean, 1e4 / float(values.diff().min()))
    low, tilt = -high, torch.zeros_like(mean)
    enough = 4 * torch.finfo(mean.dtype).eps * float(values.abs().max())
    for _ in range(_TILT_STEPS):
        average, variance = _moments(
            torch.log_softmax(log_probs + tilt[..., None] * values, -1), values
        )
        gap = mean - average
        if not torch.compiler.is_compiling() and bool((gap.abs() <= enough).all()):
            break
        low, high = torch.where(gap > 0, tilt, low), torch.where(gap < 0, tilt, high)
        step = tilt + gap / variance.clamp_min(torch.finfo(variance.dtype).tiny)
        inside = (step > low) & (step < high)
        tilt = torch.where(gap == 0, tilt, torch.where(inside, step, 0.5 * (low + high)))
    return tilt


def _moments(log_probs: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of values [K] under log_probs [..., K]."""
    probs = log_probs.exp()
    mean = (probs * values).sum(-1)
    return mean, (probs * (values - mean[..., None]).square()).sum(-1)


def log_ndtr(x: Tensor) -> Tensor:
    """ln Phi(x), with derivatives that stay right far out in the left tail.

    torch's own derivative is exp(-x^2/2 - ln Phi(x)), which cancels: in float32 it is wrong from
    x = -1e3 on and infinite from about -3e4.  With ``Phi(x) = exp(-x^2/2) erfcx(-x/sqrt 2) / 2``
    the large part is differentiated on its own.  The second derivative, nearly -1, would still
    cancel in that of erfcx (in float32 it is wrong by 1e-3 at x = -100), so further out it is
    ``Phi(x) = exp(-x^2/2) / (-x sqrt(2 pi)) (1 - 1/x^2 + 3/x^4 - 15/x^6 + ...)``.

    All of it is made of torch's own functions, so any transform (vmap, jvp, compile) takes it.
    """
    # Every branch gets harmless arguments where another is used: no NaN reaches a gradient.
    edge = _FAR[x.dtype]
    left = x.clamp_max(-1.0)
    near = 0.5 * torch.special.erfcx(-left.clamp_min(edge) * math.sqrt(0.5))
    ratio = torch.where(x < edge, _far_ratio(x.clamp_max(edge)), near)
    tail = x < -1
    body = torch.special.log_ndtr(torch.where(tail, torch.zeros_like(x), x))
    return torch.where(tail, torch.log(ratio) - 0.5 * left * left, body)


def _far_ratio(x: Tensor) -> Tensor:
    """Phi(x) exp(x^2/2) far out in the left tail (Abramowitz and Stegun 1964, 26.2.12)."""
    inverse = torch.reciprocal(x)
    u = inverse * inverse
    series = 1 - u * (1 - 3 * u * (1 - 5 * u * (1 - 7 * u)))
    return series * (inverse * -math.sqrt(0.5 / math.pi))


def _interval_log_prob(lower: Tensor, width: Tensor) -> Tensor:
    """ln(Phi(lower + width) - Phi(lower)) for width > 0, in standard deviations."""
    width = width.expand_as(lower)
    narrow = width < _NARROW
    middle = lower + 0.5 * width
    # Both branches get harmless arguments where the other is used: no NaN reaches a gradient.
    small = _narrow_bin(middle, torch.where(narrow, width, torch.full_like(width, _NARROW)))
    safe_width = torch.where(narrow, torch.ones_like(width), width)
    near = -(middle.abs() - 0.5 * safe_width)  # in the left tail, the edge nearer to the mean
    log_near = log_ndtr(near)
    log_far = log_ndtr(near - safe_width)
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
