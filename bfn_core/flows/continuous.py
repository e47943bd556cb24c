"""Continuous data (Graves et al. 2023, section 4), with an optional zero-mean subspace."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bfn_core.distributions import CentredNormal, masked
from bfn_core.flows.base import (
    GaussianState,
    PointOutput,
    check_accuracy,
    check_loss,
    check_raw,
)
from bfn_core.flows.gaussian import GaussianFlow
from bfn_core.flows.probabilities import bin_log_prob
from bfn_core.parameterisation import Parameterisation, PreconditionedPrediction
from bfn_core.schedules import AccuracySchedule, gaussian_schedule
from bfn_core.tensors import (
    Generators,
    apply_mask,
    at_least_float32,
    expand_right,
    root,
    sum_per_sample,
)


class ContinuousFlow(GaussianFlow[PointOutput]):
    """A real-valued variable; the output distribution is a point.

    Args:
        sigma_1: standard deviation of the input distribution at t = 1, of the default schedule.
        centred: work in the subspace of zero centre of mass, data [B, N, D] (3 (N - 1) dimensions
            for positions), as in Song et al. 2024 (GeoBFN), section 3.
        parameterisation: default :class:`PreconditionedPrediction` for data of unit variance.
        schedule: in place of sigma_1's ``GaussianSchedule(sigma_1)``.
        reconstruction_sigma: standard deviation of the Gaussian that stands for the point output
            in :meth:`reconstruction_loss`; default sigma_1 (or the schedule's at the time of the
            call, through which a schedule that is learnt is trained too), the spread of the
            posterior at t = 1.
        reconstruction_bins: the data are the centres of this many equal bins on [-1, 1] (images):
            the reconstruction loss is then that of the Gaussian's mass in the data's bin, and the
            likelihood bound one on discrete data.
        limit: estimates are clipped to [-limit, limit] (images: 1).

    Raises:
        ValueError: neither sigma_1 nor a schedule, or both; sigma_1 outside (0, 1),
            reconstruction_sigma not positive, fewer than 2 bins, or bins for centred data.
    """

    def __init__(
        self,
        *,
        sigma_1: float | None = None,
        centred: bool = False,
        parameterisation: Parameterisation | None = None,
        schedule: AccuracySchedule | None = None,
        reconstruction_sigma: float | None = None,
        reconstruction_bins: int | None = None,
        limit: float | None = None,
    ) -> None:
        if reconstruction_sigma is not None and not reconstruction_sigma > 0:
            raise ValueError(f"reconstruction_sigma must be positive, got {reconstruction_sigma}")
        if reconstruction_bins is not None and reconstruction_bins < 2:
            raise ValueError(f"reconstruction_bins must be at least 2, got {reconstruction_bins}")
        if reconstruction_bins is not None and centred:
            raise ValueError("reconstruction_bins does not go with centred data")
        if limit is not None and not limit > 0:
            raise ValueError(f"limit must be positive, got {limit}")
        super().__init__(
            schedule=gaussian_schedule(sigma_1, schedule),
            parameterisation=parameterisation or PreconditionedPrediction(),
            centred=centred,
        )
        self._given_sigma = reconstruction_sigma or sigma_1
        self.reconstruction_bins = reconstruction_bins
        self.limit = limit

    @property
    def reconstruction_sigma(self) -> float:
        """Standard deviation of the Gaussian that stands for the point output; see the class."""
        with torch.no_grad():
            return float(self._last_sigma())

    def _last_sigma(self) -> float | Tensor:
        """Return the same; a tensor if it is the schedule's, which may be learnt."""
        if self._given_sigma is not None:
            return self._given_sigma
        return root(self.schedule.gamma_complement(torch.ones((), dtype=torch.float64)))

    def embed(self, data: Tensor) -> Tensor:
        self._check_points(data)
        return at_least_float32(data)

    def _check_points(self, data: Tensor) -> None:
        if self.centred and data.dim() != 3:
            raise ValueError(f"centred data must be [B, N, D], got {tuple(data.shape)}")

    def output(self, raw: Tensor, state: GaussianState, t: Tensor) -> PointOutput:
        """``raw`` [B, ...]: what the parameterisation makes an estimate of.

        Raises:
            ValueError: ``raw`` is not of the state's shape.
        """
        check_raw(raw, state.mean.shape)
        raw, t = at_least_float32(raw), t.to(state.mean.dtype)
        return self.point(self.parameterisation.estimate(raw, state.mean, t, self.schedule))

    def point(self, mean: Tensor) -> PointOutput:
        """Return the output at ``mean`` [B, ...], clipped to the flow's limit."""
        return PointOutput(mean if self.limit is None else mean.clamp(-self.limit, self.limit))

    def receiver(
        self, output: PointOutput, accuracy: Tensor, *, mask: Tensor | None = None
    ) -> torch.distributions.Distribution:
        """``N(x_hat, 1/alpha)`` of each element; of whole samples in the subspace if centred."""
        check_accuracy(accuracy)
        if self.centred:
            return CentredNormal(output.mean, torch.rsqrt(accuracy), mask=mask)
        mean = apply_mask(output.mean, mask)
        spread = expand_right(torch.rsqrt(accuracy), mean).expand_as(mean)
        return masked(torch.distributions.Normal(mean, spread), mask)

    def expectation(self, output: PointOutput) -> Tensor:
        return output.mean

    def draw(
        self, output: PointOutput, *, mask: Tensor | None = None, generator: Generators = None
    ) -> Tensor:
        return output.mean

    def given_evidence(
        self, output: PointOutput, score: Tensor, t: Tensor, *, mask: Tensor | None = None
    ) -> PointOutput:
        """Exact: ``x_hat + (1 - gamma) score``, clipped to the flow's limit."""
        return self.point(output.mean + self.evidence_shift(score, t, mask=mask))

    def mode(self, output: PointOutput) -> Tensor:
        return output.mean

    def _squared_error(self, data: Tensor, output: PointOutput, mask: Tensor | None) -> Tensor:
        data = self.project(self.embed(data), mask=mask)
        estimate = self.project(output.mean, mask=mask)
        return sum_per_sample((data - estimate).square(), mask)

    def continuous_time_loss(
        self, data: Tensor, output: PointOutput, t: Tensor, *, mask: Tensor | None = None
    ) -> Tensor:
        """``alpha(t) / 2 ||x - x_hat||^2 = -ln(sigma_1) sigma_1^(-2t) ||x - x_hat||^2``.

        Graves et al. 2023, eq. 101.
        """
        check_loss(data, output, t)
        return 0.5 * self.schedule.rate(t) * self._squared_error(data, output, mask)

    def step_loss(
        self,
        data: Tensor,
        output: PointOutput,
        t: Tensor,
        t_next: Tensor,
        *,
        mask: Tensor | None = None,
        generator: Generators = None,
        samples: int = 1,
    ) -> Tensor:
        """``alpha_i / 2 ||x - x_hat||^2``, exact (two Gaussians of one variance).

        Graves et al. 2023, eqs. 95 (alpha_i) and 96.
        """
        check_loss(data, output, t, t_next)
        return 0.5 * self.schedule.increment(t, t_next) * self._squared_error(data, output, mask)

    def reconstruction_loss(
        self, data: Tensor, output: PointOutput, *, mask: Tensor | None = None
    ) -> Tensor:
        """Negative log-density of N(x_hat, reconstruction_sigma^2) in the flow's subspace.

        With ``reconstruction_bins`` it is the negative log of that Gaussian's mass in the data's
        bin.
        """
        check_loss(data, output)
        if self.reconstruction_bins is not None:
            return self._loss_in_bins(data, output, self.reconstruction_bins, mask)
        variance = self._last_sigma() ** 2
        log_norm = 0.5 * _log(2 * math.pi * variance)
        error = self._squared_error(data, output, mask)
        return error / (2 * variance) + self.dimensions(data, mask=mask) * log_norm

    def _loss_in_bins(
        self, data: Tensor, output: PointOutput, bins: int, mask: Tensor | None
    ) -> Tensor:
        log_std = torch.zeros_like(output.mean) + _log(self._last_sigma())
        index = ((data + 1) * (bins / 2)).floor().long().clamp(0, bins - 1)
        return -sum_per_sample(bin_log_prob(output.mean, log_std, bins, index), mask)

    def dimensions(self, data: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Count the elements; a centred sample of N points in D axes has ``D (N - 1)``."""
        self._check_points(data)
        count = sum_per_sample(torch.ones_like(at_least_float32(data)), mask)
        return (count - data.shape[-1]).clamp_min(0) if self.centred else count


def _log(x: float | Tensor) -> float | Tensor:
    return x.log() if isinstance(x, Tensor) else math.log(x)
