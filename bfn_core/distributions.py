"""Distributions that torch does not have."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from bfn_core.tensors import (
    at_least_float32,
    centre,
    check_mask,
    expand_right,
    sum_per_sample,
)

_Shape = torch.Size | list[int] | tuple[int, ...]


class CentredNormal(Distribution):
    """An isotropic Gaussian on point sets of zero mean: D (N - 1) dimensions, not D N.

    Densities are with respect to the Lebesgue measure of the subspace, so those of senders,
    receivers and reconstructions compare.

    Args:
        mean: [B, N, D]; its mean over points (where the mask is True) is removed.
        std: [B], positive.
        mask: [B, N] bool, or None where all points are data.
    """

    arg_constraints = {}  # noqa: RUF012 (torch's own name and form)
    support = constraints.independent(constraints.real, 2)
    has_rsample = True

    def __init__(self, mean: Tensor, std: Tensor, *, mask: Tensor | None = None) -> None:
        self.mask = mask
        self.location = centre(at_least_float32(mean), mask)
        self.std = std
        super().__init__(mean.shape[:1], mean.shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The centred mean, [B, N, D]."""
        return self.location

    def rsample(self, sample_shape: _Shape = ()) -> Tensor:
        """Return samples [*sample_shape, B, N, D] of zero mean over points, zero on padding."""
        count = math.prod(sample_shape)
        shape = (count, *self.location.shape)
        noise = torch.randn(shape, dtype=self.location.dtype, device=self.location.device)
        flat_mask = None if self.mask is None else self.mask.repeat(count, 1)
        noise = centre(noise.flatten(0, 1), flat_mask).reshape(*sample_shape, *self.location.shape)
        return self.location + expand_right(self.std, self.location) * noise

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density [..., B] of points [..., B, N, D], after removing their mean."""
        outer = value.shape[: value.dim() - 3]
        batches = value.reshape(math.prod(outer), *self.location.shape)
        mask = None if self.mask is None else self.mask.repeat(len(batches), 1)
        centred = centre(batches.flatten(0, 1), mask).view_as(batches)
        error = (centred - self.location).square().sum((-2, -1)).view(value.shape[:-2])
        count = sum_per_sample(torch.ones_like(self.location), self.mask)
        dimensions = (count - self.location.shape[-1]).clamp_min(0)
        log_norm = torch.log(self.std) + 0.5 * math.log(2 * math.pi)
        return -0.5 * error / self.std.square() - dimensions * log_norm


class Masked(Distribution):
    """A distribution of each element, with padding: 0 there for certain, and of log-density 0.

    Args:
        base: batch shape [B, ...]; it must be a proper one on padding too, but is not seen there.
        mask: bool, over leading axes of the batch shape, True where there is data.

    Raises:
        ValueError: the mask is not bool, or does not fit the batch shape.
    """

    arg_constraints = {}  # noqa: RUF012 (torch's own name and form)

    def __init__(self, base: Distribution, mask: Tensor) -> None:
        check_mask(mask, base.batch_shape)
        self.base = base
        self.mask = mask.reshape(mask.shape + (1,) * (len(base.batch_shape) - mask.dim()))
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether draws of the base can be differentiated."""
        return self.base.has_rsample

    @property
    def mean(self) -> Tensor:
        """The mean, 0 on padding, [B, ..., *event]."""
        return self._data(self.base.mean)

    @property
    def variance(self) -> Tensor:
        """The variance, 0 on padding, [B, ..., *event]."""
        return self._data(self.base.variance)

    def sample(self, sample_shape: _Shape = ()) -> Tensor:
        """Return samples [*sample_shape, B, ..., *event], zero on padding."""
        return self._data(self.base.sample(torch.Size(sample_shape)))

    def rsample(self, sample_shape: _Shape = ()) -> Tensor:
        """Return samples as :meth:`sample` does that can be differentiated, if the base's can."""
        return self._data(self.base.rsample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density [..., B, ...] of values [..., B, ..., *event], 0 on padding."""
        return _or_zero(self.base.log_prob(self._data(value)), self.mask)

    def _data(self, x: Tensor) -> Tensor:
        return _or_zero(x, self.mask.reshape(self.mask.shape + (1,) * len(self.event_shape)))


def _or_zero(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x, torch.zeros((), dtype=x.dtype, device=x.device))


def mixture(log_probs: Tensor, components: Distribution) -> Distribution:
    """Return the mixture of components [..., K] (and their event) with log_probs [..., K]."""
    # torch's own checks fail on a batch of nothing
    checked = None if log_probs.numel() else False
    weights = torch.distributions.Categorical(logits=log_probs, validate_args=checked)
    return torch.distributions.MixtureSameFamily(weights, components, validate_args=checked)


def masked(base: Distribution, mask: Tensor | None) -> Distribution:
    """Return the distribution with this mask, itself if there is none."""
    return base if mask is None else Masked(base, mask)
