"""The probability-flow ODE about Gaussian data: exact for them, and regular at t = 0.

With ``y = l / a`` and ``sigma = b / a`` of a latent ``l = a s + b eps`` the ODE is
``dy / d sigma = (y - x) / sigma``, x the estimate.  For data ``N(m, S^2)`` the estimate is linear
in y; of any other data something is left over, r::

    x = m + S^2 / (S^2 + sigma^2) (y - m) + r

For the width ``w = sqrt(S^2 + sigma^2)`` and the clock ``tau = asinh(S / sigma)`` all but r
integrates in closed form::

    d (y - m) / w = (r / S) d tau

so a step of first order holds r constant and one of second order extrapolates it, linearly in tau.
Late, where sigma is far below S, tau is ``ln(2 S / sigma)`` and this is BFN-Solver++ (Xue et al.
2024), which holds x constant.  At t = 0 tau is 0 and ``(y - m) / w`` standard normal: the first
step is no special case, and the second can look back to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bfn_core.flows.base import Flow
from bfn_core.tensors import expand_right


@dataclass(frozen=True)
class GaussianFrame:
    """A latent's scales at some time, for data of standard deviation ``spread``; all as latents.

    Attributes:
        signal: a, the factor of the data.
        width: ``a w``, the latent's standard deviation.
        inverse: 1 / width; 0 where nothing is known, at t = 0.
        clock: tau; 0 there.
    """

    signal: Tensor
    width: Tensor
    inverse: Tensor
    clock: Tensor

    @classmethod
    def at(cls, flow: Flow, t: Tensor, spread: float, like: Tensor) -> GaussianFrame:
        """Return the frame at times t [B], to go with the latent ``like`` [B, ...]."""
        scales = flow.latent_scales(t.to(like.dtype))
        a, b = expand_right(scales.signal, like), expand_right(scales.noise, like)
        known = b > 0
        ratio = torch.where(known, spread * a / torch.where(known, b, 1.0), 0.0)
        width = b * torch.sqrt(1 + ratio.square())  # squares of small scales themselves vanish
        return cls(
            signal=a,
            width=width,
            inverse=torch.where(known, 1.0 / torch.where(known, width, 1.0), 0.0),
            clock=torch.asinh(ratio),
        )


def centre_of(frame: GaussianFrame, latent: Tensor, signal: Tensor, *, spread: float) -> Tensor:
    """Return m, were the data Gaussian, by the estimate ``signal`` at any time.

    Late, where the estimate says little of it, it is drawn towards 0.
    """
    gain = _gain(frame, spread)
    rest = (1 - gain * frame.signal).clamp_min(0.1)
    return (signal - gain * latent) / rest


def _gain(frame: GaussianFrame, spread: float) -> Tensor:
    """Return ``d x / d l = S^2 a / (a w)^2`` of Gaussian data, finite however small a is."""
    share = spread * frame.inverse
    return share * frame.signal * share


def left_over(
    frame: GaussianFrame, latent: Tensor, signal: Tensor, *, centre: Tensor, spread: float
) -> Tensor:
    """Return r, what Gaussian data would not explain of the estimate ``signal``."""
    gain = _gain(frame, spread)
    return signal - centre - gain * (latent - frame.signal * centre)


def middle_share(before: GaussianFrame, now: GaussianFrame, end: GaussianFrame) -> Tensor:
    """Return how far r at a step's middle is, from that of now, in units of its last change."""
    behind = now.clock - before.clock
    known = behind > 0
    return torch.where(known, 0.5 * (end.clock - now.clock) / torch.where(known, behind, 1.0), 0.0)


def advance(
    start: GaussianFrame,
    end: GaussianFrame,
    latent: Tensor,
    residual: Tensor,
    *,
    centre: Tensor,
    spread: float,
    noise: Tensor,
) -> Tensor:
    """Return the latent at the step's end.

    Args:
        start, end: frames of the step's ends.
        latent, residual: at the step's start, and r for the step.
        centre: m.
        spread: S.
        noise: standard normal, what ``(y - m) / w`` is where the step begins at t = 0.
    """
    offset = (latent - start.signal * centre) * start.inverse
    offset = torch.where(start.width > 0, offset, noise)
    moved = offset + (end.clock - start.clock) / spread * residual
    return end.signal * centre + end.width * moved
