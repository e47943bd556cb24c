"""Ordinal data in K bins on [-1, 1] (Graves et al. 2023, section 5)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bfn_core.distributions import masked, mixture
from bfn_core.flows.base import (
    CategoricalOutput,
    GaussianState,
    check_accuracy,
    check_loss,
    check_raw,
    check_samples,
)
from bfn_core.flows.gaussian import GaussianFlow
from bfn_core.flows.probabilities import (
    LOG_STD_LIMIT,
    bin_expectation,
    bin_log_prob,
    bin_log_probs,
    draw_one_hot,
    tilted_to,
)
from bfn_core.parameterisation import Parameterisation, PreconditionedPrediction
from bfn_core.schedules import AccuracySchedule, gaussian_schedule
from bfn_core.tensors import (
    Generators,
    apply_mask,
    at_least_float32,
    check_classes,
    expand_right,
    root,
    standard_normal,
    state_dtype,
    sum_per_sample,
)


class BinnedOutput(CategoricalOutput):
    """The mass of a Gaussian in K equal bins on [-1, 1], the outer two open-ended.

    The log-probabilities [..., K] are made where they are asked for: the expectation, a draw and
    the reconstruction loss need none.

    Args:
        mean, log_std: of the Gaussian, [...].
        bins: K.
    """

    mean: Tensor
    log_std: Tensor
    bins: int

    def __init__(self, mean: Tensor, log_std: Tensor, bins: int) -> None:
        self.__dict__.update(mean=mean, log_std=log_std, bins=bins)

    @property
    def shape(self) -> torch.Size:
        return self.mean.shape

    @property
    def log_probs(self) -> Tensor:
        """Normalised log-probabilities [..., K]."""
        # Kept, but what was made without gradients must not serve where they are wanted.
        made: Tensor | None = self.__dict__.get("_made")
        wanted = torch.is_grad_enabled() and (self.mean.requires_grad or self.log_std.requires_grad)
        if made is None or (wanted and not made.requires_grad):
            made = bin_log_probs(self.mean, self.log_std, self.bins)
            self.__dict__["_made"] = made
        return made


class DiscretisedFlow(GaussianFlow[CategoricalOutput]):
    """Integers 0..K-1 seen as bin centres ``(2k + 1) / K - 1``; the output is binned Gaussian.

    The network returns two numbers an element, on a new last axis: the raw mean and the raw log
    standard deviation of a Gaussian (both through the parameterisation), whose mass in each bin is
    the output probability; the outermost bins reach to infinity.

    Args:
        bins: K, at least 2.
        sigma_1: standard deviation of the input distribution at t = 1, of the default schedule.
        parameterisation: default :class:`PreconditionedPrediction` for data of unit variance.
        schedule: in place of sigma_1's ``GaussianSchedule(sigma_1)``.
        std_limits: the Gaussian's standard deviation is taken within these two.  Graves et al.'s
            code uses (1e-3, 10), so networks trained with it never learned what to say beyond: at
            t = 1 and sigma_1 = 1e-3 all that is surer than the noise comes out as 1e-3.

    Raises:
        ValueError: bins < 2; neither sigma_1 nor a schedule, or both; sigma_1 outside (0, 1);
            limits that are not positive and rising.
    """

    def __init__(
        self,
        *,
        bins: int,
        sigma_1: float | None = None,
        parameterisation: Parameterisation | None = None,
        schedule: AccuracySchedule | None = None,
        std_limits: tuple[float, float] | None = None,
    ) -> None:
        if bins < 2:
            raise ValueError(f"bins must be at least 2, got {bins}")
        if std_limits is not None and not 0 < std_limits[0] < std_limits[1]:
            raise ValueError(f"std_limits must be positive and rise, got {std_limits}")
        super().__init__(
            schedule=gaussian_schedule(sigma_1, schedule),
            parameterisation=parameterisation or PreconditionedPrediction(),
        )
        self.bins = bins
        self.std_limits = std_limits

    def centres(self, like: Tensor) -> Tensor:
        """Return the K bin centres in ``like``'s dtype and device."""
        index = torch.arange(self.bins, device=like.device, dtype=like.dtype)
        return (2 * index + 1) / self.bins - 1

    def embed(self, data: Tensor) -> Tensor:
        check_classes(data, self.bins)
        return (2 * data.to(state_dtype()) + 1) / self.bins - 1

    def output(self, raw: Tensor, state: GaussianState, t: Tensor) -> CategoricalOutput:
        """``raw`` [B, ..., 2]: raw mean and raw log standard deviation.

        Raises:
            ValueError: ``raw`` is not of the state's shape and 2 numbers an element.
        """
        check_raw(raw, (*state.mean.shape, 2))
        raw_mean, raw_log_std = at_least_float32(raw).unbind(-1)
        t = t.to(state.mean.dtype)
        mean = self.parameterisation.estimate(raw_mean, state.mean, t, self.schedule)
        log_std = self.parameterisation.log_std(raw_log_std, t, self.schedule)
        if self.std_limits is not None:
            log_std = log_std.clamp(*map(math.log, self.std_limits))
        return BinnedOutput(mean, log_std, self.bins)

    def receiver(
        self, output: CategoricalOutput, accuracy: Tensor, *, mask: Tensor | None = None
    ) -> torch.distributions.Distribution:
        check_accuracy(accuracy)
        log_probs = apply_mask(output.log_probs, mask)
        centres = self.centres(log_probs).expand_as(log_probs)
        spread = expand_right(torch.rsqrt(accuracy), centres).expand_as(centres)
        return masked(mixture(log_probs, torch.distributions.Normal(centres, spread)), mask)

    def expectation(self, output: CategoricalOutput) -> Tensor:
        if isinstance(output, BinnedOutput):
            return bin_expectation(output.mean, output.log_std, output.bins)
        return (output.log_probs.exp() * self.centres(output.log_probs)).sum(-1)

    def draw(
        self, output: CategoricalOutput, *, mask: Tensor | None = None, generator: Generators = None
    ) -> Tensor:
        if isinstance(output, BinnedOutput):
            mean = output.mean
            noise = standard_normal(
                mean.shape, generator=generator, dtype=mean.dtype, device=mean.device, mask=mask
            )
            std = output.log_std.clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT).exp()
            return self._bin_centre(mean + std * noise)
        chosen = draw_one_hot(output.log_probs, mask=mask, generator=generator)
        return (chosen * self.centres(output.log_probs)).sum(-1)

    def _bin_of(self, x: Tensor) -> Tensor:
        return ((x + 1) * self.bins / 2).floor().clamp(0, self.bins - 1)

    def _bin_centre(self, x: Tensor) -> Tensor:
        return (2 * self._bin_of(x) + 1) / self.bins - 1

    def given_evidence(
        self, output: CategoricalOutput, score: Tensor, t: Tensor, *, mask: Tensor | None = None
    ) -> CategoricalOutput:
        """Tilt ``p_k`` by ``exp(a c_k)`` so that the mean moves by ``(1 - gamma) score``.

        No further than to the outermost bins, and not at all where all others have probability 0.
        """
        log_probs = output.log_probs
        mean = (log_probs.exp() * self.centres(log_probs)).sum(-1)
        wanted = mean + self.evidence_shift(score, t, mask=mask)
        return CategoricalOutput(tilted_to(log_probs, self.centres(log_probs), wanted))

    def mode(self, output: CategoricalOutput) -> Tensor:
        return output.log_probs.argmax(-1)

    def decode(self, output: CategoricalOutput) -> Tensor:
        """Return the bin nearest to the expectation, as GeoBFN's code does.

        The loss in continuous time sees the expectation alone, so a network may make it with any
        spread; where that is wide the outer bins, which reach to infinity, hold the most.
        """
        return self._bin_of(self.expectation(output)).long()

    def continuous_time_loss(
        self, data: Tensor, output: CategoricalOutput, t: Tensor, *, mask: Tensor | None = None
    ) -> Tensor:
        """``alpha(t) / 2 ||x - k_hat||^2`` with x at its bin centre."""
        check_loss(data, output, t)
        error = (self.embed(data) - self.expectation(output)).square()
        return 0.5 * self.schedule.rate(t) * sum_per_sample(error, mask)

    def step_loss(
        self,
        data: Tensor,
        output: CategoricalOutput,
        t: Tensor,
        t_next: Tensor,
        *,
        mask: Tensor | None = None,
        generator: Generators = None,
        samples: int = 1,
    ) -> Tensor:
        """Monte Carlo: with y = x + eps / sqrt(alpha) and offsets d_k = sqrt(alpha) (x - k_c),

        ``ln p_S - ln p_R = -eps^2 / 2 - logsumexp_k(ln p_k - (d_k + eps)^2 / 2) = -l``, in which
        ``eps^2 / 2`` is cancelled by hand: ``l = logsumexp_k(ln p_k - d_k (d_k / 2 + eps))``.

        What is averaged is ``-l - m eps + v (eps^2 - 1) / 2``, with m and v of :func:`_control`.
        The added terms have mean 0 and take away nearly all of the noise where steps are small (all
        of it for a Gaussian p_O); without them its share grows as sqrt(n).
        """
        check_loss(data, output, t, t_next)
        check_samples(samples)
        # Normalised once more: what is missing to 1 would count n times in L^n.
        log_probs = torch.log_softmax(output.log_probs, -1)
        x = self.embed(data).to(log_probs.dtype)
        accuracy = expand_right(self.schedule.increment(t, t_next), x)
        offsets = root(accuracy)[..., None] * (x[..., None] - self.centres(log_probs))
        control = _control(log_probs, offsets)
        total = torch.zeros_like(t, dtype=log_probs.dtype)
        for _ in range(samples):
            noise = standard_normal(
                x.shape, generator=generator, dtype=x.dtype, device=x.device, mask=mask
            )
            exponent = log_probs - offsets * (0.5 * offsets + noise[..., None])
            known = control.mean * noise - 0.5 * control.variance * (noise * noise - 1)
            total = total - sum_per_sample(torch.logsumexp(exponent, -1) + known, mask)
        return total / samples

    def reconstruction_loss(
        self, data: Tensor, output: CategoricalOutput, *, mask: Tensor | None = None
    ) -> Tensor:
        """``-ln p_O(k(x))``, exact also where it is large.

        Graves et al.'s code takes density times bin width where p_O is below 1e-5, so on such
        pixels its bound differs from this one.
        """
        check_loss(data, output)
        check_classes(data, self.bins)
        index = data.long()
        if isinstance(output, BinnedOutput):
            log_prob = bin_log_prob(output.mean, output.log_std, output.bins, index)
        else:
            log_prob = output.log_probs.gather(-1, index[..., None])[..., 0]
        return -sum_per_sample(log_prob, mask)

    def dimensions(self, data: Tensor, *, mask: Tensor | None = None) -> Tensor:
        return sum_per_sample(torch.ones_like(data, dtype=state_dtype()), mask)


@dataclass(frozen=True)
class _Control:
    """The noise ``mean eps - variance (eps^2 - 1) / 2`` of a step loss, each [B, ...]."""

    mean: Tensor
    variance: Tensor


def _control(log_probs: Tensor, offsets: Tensor) -> _Control:
    """Return the fit to ``-l(eps)`` of a step loss, by least squares over eps ~ N(0, 1).

    By Stein's lemma its coefficients are ``E[-l']`` and ``E[-l'']``, and -l' and l'' are the mean
    and the variance of the offsets d_k under weights ``p_k exp(-d_k (d_k / 2 + eps))``.  They are
    taken by the Gauss-Hermite rule of two points, eps = -1 and 1.  No draw has a part in them, so
    they leave no bias, in gradients neither: these pass through, and lose their noise as well.

    Where p_O is Gaussian the variance is below 1.  Between bins far apart it may be much larger at
    one of the points than on average, so it is taken as 1 at most.

    Args:
        log_probs, offsets: [B, ..., K].
    """
    means, squares = [], []
    for point in (-1.0, 1.0):
        weights = torch.softmax(log_probs - offsets * (0.5 * offsets + point), -1)
        weighted = weights * offsets
        means.append(weighted.sum(-1))
        squares.append((weighted * offsets).sum(-1))
    variances = [square - mean * mean for mean, square in zip(means, squares, strict=True)]
    return _Control(0.5 * (means[0] + means[1]), (0.5 * (variances[0] + variances[1])).clamp(0, 1))
