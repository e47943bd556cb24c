"""What a network's raw output means for Gaussian inputs: noise, data, or a residual.

The input distribution of a Gaussian flow has mean ``mu = gamma x + sqrt(gamma (1 - gamma)) eps``.
A parameterisation says what the network is shown (:meth:`Parameterisation.inputs`) and how its raw
output F becomes an estimate of x (:meth:`Parameterisation.estimate`).  It also says how wide one
unit of output is (:meth:`Parameterisation.scale`), which discretised outputs use for their spread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bfn_core.schedules import AccuracySchedule
from bfn_core.tensors import expand_right


class Parameterisation(ABC):
    """Maps (mu, t) to network inputs and raw network outputs to estimates of the data.

    Shapes: ``mean`` and ``raw`` [B, ...], ``t`` [B].  Everything is finite for t in [0, 1].
    """

    @abstractmethod
    def inputs(self, mean: Tensor, t: Tensor, schedule: AccuracySchedule) -> Tensor:
        """Return what the network sees, shape of ``mean``."""

    @abstractmethod
    def estimate(self, raw: Tensor, mean: Tensor, t: Tensor, schedule: AccuracySchedule) -> Tensor:
        """Return the estimate of the data, shape of ``mean``."""

    @abstractmethod
    def scale(self, t: Tensor, schedule: AccuracySchedule) -> Tensor:
        """Return |d estimate / d raw|, shape of ``t``."""

    def log_std(self, raw: Tensor, t: Tensor, schedule: AccuracySchedule) -> Tensor:
        """Return the log standard deviation of the estimate, shape of ``raw`` [B, ...].

        ``raw`` is the log standard deviation of the network's own output.
        """
        scale = self.scale(t, schedule).clamp_min(torch.finfo(t.dtype).tiny)
        return raw + expand_right(torch.log(scale), raw)


@dataclass(frozen=True)
class DataPrediction(Parameterisation):
    """The network returns the data itself: ``x_hat = F(mu, t)``."""

    def inputs(self, mean: Tensor, t: Tensor, schedule: AccuracySchedule) -> Tensor:
        return mean

    def estimate(self, raw: Tensor, mean: Tensor, t: Tensor, schedule: AccuracySchedule) -> Tensor:
        return raw

    def scale(self, t: Tensor, schedule: AccuracySchedule) -> Tensor:
        return torch.ones_like(t)


@dataclass(frozen=True)
class NoisePrediction(Parameterisation):
    """``x_hat = mu / gamma - sqrt((1 - gamma) / gamma) F(mu, t)`` (Graves et al. 2023, eq. 84).

    It is singular at t = 0, so for ``t < t_min`` the estimate is the prior's: mean 0 and standard
    deviation 1, whatever the network says (section 4 and, for the deviation, section 5).

    Attributes:
        t_min: time below which the network's output is not used, in (0, 1).
    """

    t_min: float = 1e-4

    def __post_init__(self) -> None:
        if not 0.0 < self.t_min < 1.0:
            raise ValueError(f"t_min must lie in (0, 1), got {self.t_min}")

    def _safe(self, t: Tensor) -> Tensor:
        return t.clamp_min(self.t_min)

    def inputs(self, mean: Tensor, t: Tensor, schedule: AccuracySchedule) -> Tensor:
        return mean

    def estimate(self, raw: Tensor, mean: Tensor, t: Tensor, schedule: AccuracySchedule) -> Tensor:
        gamma = expand_right(schedule.gamma(self._safe(t)), mean)
        noise_scale = expand_right(self.scale(t, schedule), mean)
        known = expand_right(t >= self.t_min, mean)
        return torch.where(known, mean / gamma - noise_scale * raw, torch.zeros_like(mean))

    def scale(self, t: Tensor, schedule: AccuracySchedule) -> Tensor:
        safe = self._safe(t)
        scale = torch.sqrt(schedule.gamma_complement(safe) / schedule.gamma(safe))
        return torch.where(t >= self.t_min, scale, torch.zeros_like(scale))

    def log_std(self, raw: Tensor, t: Tensor, schedule: AccuracySchedule) -> Tensor:
        known = expand_right(t >= self.t_min, raw)
        return torch.where(known, super().log_std(raw, t, schedule), torch.zeros_like(raw))


@dataclass(frozen=True)
class PreconditionedPrediction(Parameterisation):
    """Residual prediction with unit-variance inputs and targets, after Karras et al. 2022, Table 1.

    With ``z = mu / gamma`` and ``sigma^2 = (1 - gamma) / gamma``, z is the data plus noise of
    standard deviation sigma, and ``x_hat = c_skip z + c_out F(c_in z)``.  Multiplied out so that
    nothing divides by gamma::

        c_in z   = mu / sqrt(gamma (1 - gamma + gamma s^2))
        c_skip z = mu s^2 / (1 - gamma + gamma s^2)
        c_out    = s sqrt((1 - gamma) / (1 - gamma + gamma s^2))

    with s = sigma_data.  The exact continuous-time loss weight times c_out^2 then stays between
    s^2 and 1 (times -ln sigma_1) for all t.  The input at t = 0 exactly is 0 (mu is 0 there).

    Attributes:
        sigma_data: standard deviation of the data, in data units, positive.
    """

    sigma_data: float = 1.0

    def __post_init__(self) -> None:
        if not self.sigma_data > 0.0:
            raise ValueError(f"sigma_data must be positive, got {self.sigma_data}")

    def _spread(self, t: Tensor, schedule: AccuracySchedule) -> Tensor:
        return schedule.gamma_complement(t) + schedule.gamma(t) * self.sigma_data**2

    def inputs(self, mean: Tensor, t: Tensor, schedule: AccuracySchedule) -> Tensor:
        variance = schedule.gamma(t) * self._spread(t, schedule)
        tiny = torch.finfo(variance.dtype).tiny
        return mean * expand_right(torch.rsqrt(variance.clamp_min(tiny)), mean)

    def estimate(self, raw: Tensor, mean: Tensor, t: Tensor, schedule: AccuracySchedule) -> Tensor:
        skip = expand_right(self.sigma_data**2 / self._spread(t, schedule), mean)
        return skip * mean + expand_right(self.scale(t, schedule), mean) * raw

    def scale(self, t: Tensor, schedule: AccuracySchedule) -> Tensor:
        ratio = schedule.gamma_complement(t) / self._spread(t, schedule)
        return self.sigma_data * torch.sqrt(ratio)
