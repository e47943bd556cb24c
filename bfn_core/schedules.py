"""Accuracy schedules: how much a flow has learned about its data at time t.

A schedule is a function ``beta(t)`` with ``beta(0) = 0`` that grows on [0, 1]; everything a flow
needs follows from it.  Accuracies add, so the accuracy of a step from s to t is
``beta(t) - beta(s)``.  Source: Graves et al. 2023, "Bayesian Flow Networks" (arXiv 2308.07037),
sections 4 and 6, whose equation numbers are given.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class AccuracySchedule(ABC):
    """A monotone accuracy ``beta`` on t in [0, 1], with ``beta(0) = 0``.

    All methods are elementwise: they take times of any shape and return the same shape and dtype.
    """

    @abstractmethod
    def beta(self, t: Tensor) -> Tensor:
        """Return the accuracy collected up to time t."""

    @abstractmethod
    def rate(self, t: Tensor) -> Tensor:
        """Return alpha(t) = d beta / dt."""

    def increment(self, start: Tensor, end: Tensor) -> Tensor:
        """Return ``beta(end) - beta(start)``; a closed form without cancellation is better."""
        return self.beta(end) - self.beta(start)

    def gamma(self, t: Tensor) -> Tensor:
        """Return ``beta / (1 + beta)``, the share of the data in the mean of a Gaussian flow."""
        beta = self.beta(t)
        return beta / (1 + beta)

    def gamma_complement(self, t: Tensor) -> Tensor:
        """Return ``1 - gamma = 1 / (1 + beta)`` without cancellation."""
        return 1 / (1 + self.beta(t))


@dataclass(frozen=True)
class GaussianSchedule(AccuracySchedule):
    """``beta(t) = sigma_1^(-2t) - 1``: the input entropy of a Gaussian falls linearly in t.

    Graves et al. 2023, eqs. 72 (beta), 74 (alpha) and 80 (gamma).

    Attributes:
        sigma_1: standard deviation of the input distribution at t = 1, in data units, in (0, 1).

    Raises:
        ValueError: sigma_1 outside (0, 1).
    """

    sigma_1: float

    def __post_init__(self) -> None:
        if not 0.0 < self.sigma_1 < 1.0:
            raise ValueError(f"sigma_1 must lie in (0, 1), got {self.sigma_1}")

    @property
    def _log_sigma(self) -> float:
        return math.log(self.sigma_1)

    def beta(self, t: Tensor) -> Tensor:
        return torch.expm1(-2 * self._log_sigma * t)

    def rate(self, t: Tensor) -> Tensor:
        return -2 * self._log_sigma * torch.exp(-2 * self._log_sigma * t)

    def increment(self, start: Tensor, end: Tensor) -> Tensor:
        growth = torch.expm1(-2 * self._log_sigma * (end - start))
        return torch.exp(-2 * self._log_sigma * start) * growth

    def gamma(self, t: Tensor) -> Tensor:
        return -torch.expm1(2 * self._log_sigma * t)

    def gamma_complement(self, t: Tensor) -> Tensor:
        return torch.exp(2 * self._log_sigma * t)


@dataclass(frozen=True)
class CategoricalSchedule(AccuracySchedule):
    """``beta(t) = beta_1 t^2``, ``alpha(t) = 2 beta_1 t``: Graves et al. 2023, eqs. 182 and 183.

    Attributes:
        beta_1: accuracy at t = 1, positive.

    Raises:
        ValueError: beta_1 not positive and finite.
    """

    beta_1: float

    def __post_init__(self) -> None:
        if not self.beta_1 > 0.0 or not math.isfinite(self.beta_1):
            raise ValueError(f"beta_1 must be positive and finite, got {self.beta_1}")

    def beta(self, t: Tensor) -> Tensor:
        return self.beta_1 * t * t

    def rate(self, t: Tensor) -> Tensor:
        return 2 * self.beta_1 * t

    def increment(self, start: Tensor, end: Tensor) -> Tensor:
        return self.beta_1 * (end - start) * (end + start)


def gaussian_schedule(sigma_1: float | None, schedule: AccuracySchedule | None) -> AccuracySchedule:
    """Return the schedule itself, or the default one of sigma_1; exactly one of them is given.

    Raises:
        ValueError: none or both; sigma_1 outside (0, 1).
    """
    if sigma_1 is not None and schedule is None:
        return GaussianSchedule(sigma_1)
    if sigma_1 is None and schedule is not None:
        return schedule
    raise ValueError("give either sigma_1 or a schedule")


def categorical_schedule(
    beta_1: float | None, schedule: AccuracySchedule | None
) -> AccuracySchedule:
    """Return the schedule itself, or the default one of beta_1; exactly one of them is given.

    Raises:
        ValueError: none or both; beta_1 not positive and finite.
    """
    if beta_1 is not None and schedule is None:
        return CategoricalSchedule(beta_1)
    if beta_1 is None and schedule is not None:
        return schedule
    raise ValueError("give either beta_1 or a schedule")
