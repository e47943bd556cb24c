"""Categorical data (Graves et al. 2023, section 6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bfn_core.distributions import masked, mixture
from bfn_core.flows.base import (
    CategoricalOutput,
    CategoricalState,
    Flow,
    LatentScales,
    check_accuracy,
    check_loss,
    check_raw,
    check_samples,
)
from bfn_core.flows.probabilities import draw_one_hot
from bfn_core.schedules import AccuracySchedule, categorical_schedule
from bfn_core.tensors import (
    Generators,
    apply_mask,
    at_least_float32,
    check_classes,
    expand_right,
    one_hot,
    root,
    standard_normal,
    state_dtype,
    sum_per_sample,
)


class DiscreteFlow(Flow[CategoricalState, CategoricalOutput]):
    """Classes 0..K-1 with K-dimensional Gaussian observations of their one-hot code.

    Sender ``N(alpha (K e_x - 1), alpha K I)``; update ``z' = z + y`` with theta = softmax(z); flow
    distribution ``theta = softmax(z), z ~ N(beta(t) (K e_x - 1), beta(t) K I)`` (eq. 185).

    Args:
        classes: K, at least 2.
        beta_1: accuracy at t = 1, of the default schedule ``beta_1 t^2``.
        schedule: in place of beta_1's ``CategoricalSchedule(beta_1)``.
        residual: the network returns what the other variables say of an element, and what is known
            of the element itself is added: ``p_O = softmax(raw + z)``.  For independent noise that
            is Bayes' rule, ``p(x_d | theta) ~ p(x_d | theta without theta_d) theta_d``.

    Raises:
        ValueError: classes < 2; neither beta_1 nor a schedule, or both; beta_1 not positive and
            finite.
    """

    def __init__(
        self,
        *,
        classes: int,
        beta_1: float | None = None,
        schedule: AccuracySchedule | None = None,
        residual: bool = False,
    ) -> None:
        if classes < 2:
            raise ValueError(f"classes must be at least 2, got {classes}")
        self.classes = classes
        self.residual = residual
        self.schedule = categorical_schedule(beta_1, schedule)

    def prior(
        self, shape: Sequence[int], *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> CategoricalState:
        return CategoricalState(torch.zeros((*shape, self.classes), dtype=dtype, device=device))

    def embed(self, data: Tensor) -> Tensor:
        check_classes(data, self.classes)
        return one_hot(data, self.classes, state_dtype())

    def sender(
        self,
        estimate: Tensor,
        accuracy: Tensor,
        *,
        mask: Tensor | None = None,
        generator: Generators = None,
        temperature: float = 1.0,
    ) -> Tensor:
        accuracy = expand_right(accuracy, estimate).to(estimate.dtype)
        noise = standard_normal(
            estimate.shape,
            generator=generator,
            dtype=estimate.dtype,
            device=estimate.device,
            mask=mask,
        )
        spread = root(temperature * accuracy * self.classes)
        return apply_mask(accuracy * (self.classes * estimate - 1) + spread * noise, mask)

    def update(self, state: CategoricalState, y: Tensor, accuracy: Tensor) -> CategoricalState:
        return CategoricalState(state.logits + y)

    def observe(
        self,
        state: CategoricalState,
        estimate: Tensor,
        accuracy: Tensor,
        *,
        mask: Tensor | None = None,
        generator: Generators = None,
        temperature: float = 1.0,
    ) -> CategoricalState:
        y = self.sender(estimate, accuracy, mask=mask, generator=generator, temperature=temperature)
        return self.update(state, y, accuracy)

    def latent(self, state: CategoricalState) -> Tensor:
        return state.logits

    def from_latent(self, latent: Tensor, t: Tensor) -> CategoricalState:
        return CategoricalState(latent)

    def signal(self, estimate: Tensor, *, mask: Tensor | None = None) -> Tensor:
        return apply_mask(self.classes * estimate - 1, mask)

    def latent_scales(self, t: Tensor) -> LatentScales:
        """``beta`` and ``sqrt(K beta)``: Graves et al. 2023, eq. 185."""
        beta = self.schedule.beta(t)
        return LatentScales(beta, root(self.classes * beta))

    def latent_noise(
        self, like: Tensor, *, mask: Tensor | None = None, generator: Generators = None
    ) -> Tensor:
        noise = standard_normal(
            like.shape, generator=generator, dtype=like.dtype, device=like.device, mask=mask
        )
        return apply_mask(noise, mask)

    def inputs(self, state: CategoricalState, t: Tensor) -> Tensor:
        """Return ``2 theta - 1``, [B, ..., K]."""
        return 2 * torch.softmax(state.logits, -1) - 1

    def output(self, raw: Tensor, state: CategoricalState, t: Tensor) -> CategoricalOutput:
        """``raw`` [B, ..., K]: logits of p_O, or of its ratio to the state (``residual``).

        Raises:
            ValueError: ``raw`` is not of the state's shape, K logits an element.
        """
        check_raw(raw, state.logits.shape)
        logits = at_least_float32(raw)
        if self.residual:
            logits = logits + state.logits
        return CategoricalOutput(torch.log_softmax(logits, -1))

    def receiver(
        self, output: CategoricalOutput, accuracy: Tensor, *, mask: Tensor | None = None
    ) -> torch.distributions.Distribution:
        check_accuracy(accuracy)
        log_probs = apply_mask(output.log_probs, mask)
        accuracy = expand_right(accuracy, log_probs)[..., None]
        eye = torch.eye(self.classes, dtype=log_probs.dtype, device=log_probs.device)
        means = accuracy * (self.classes * eye - 1)
        means = means.expand(*log_probs.shape, self.classes)
        spread = torch.sqrt(accuracy * self.classes).expand_as(means)
        classes = torch.distributions.Independent(torch.distributions.Normal(means, spread), 1)
        return masked(mixture(log_probs, classes), mask)

    def expectation(self, output: CategoricalOutput) -> Tensor:
        return output.log_probs.exp()

    def draw(
        self, output: CategoricalOutput, *, mask: Tensor | None = None, generator: Generators = None
    ) -> Tensor:
        return draw_one_hot(output.log_probs, mask=mask, generator=generator)

    def given_evidence(
        self, output: CategoricalOutput, score: Tensor, t: Tensor, *, mask: Tensor | None = None
    ) -> CategoricalOutput:
        """``p + score``, exact where it is a distribution; negative parts are cut off.

        A score of logits sums to zero; what is left of a sum, and all of it on padding, is removed.
        """
        score = apply_mask(score - score.mean(-1, keepdim=True), mask)
        tiny = torch.finfo(output.log_probs.dtype).tiny
        moved = (output.log_probs.exp() + score).clamp_min(tiny)
        return CategoricalOutput(moved.log() - moved.sum(-1, keepdim=True).log())

    def mode(self, output: CategoricalOutput) -> Tensor:
        return output.log_probs.argmax(-1)

    def continuous_time_loss(
        self, data: Tensor, output: CategoricalOutput, t: Tensor, *, mask: Tensor | None = None
    ) -> Tensor:
        """``K alpha(t) / 2 ||e_x - p_hat||^2 = K beta_1 t ||e_x - p_hat||^2``.

        Graves et al. 2023, eq. 205.
        """
        check_loss(data, output, t)
        error = (self.embed(data) - self.expectation(output)).square().sum(-1)
        return 0.5 * self.classes * self.schedule.rate(t) * sum_per_sample(error, mask)

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
        """Monte Carlo over y ~ p_S: ``ln p_S - ln p_R = -logsumexp_k(ln p_k + y_k - y_x) = -l``.

        Graves et al. 2023, eqs. 189 and 190, simplified.  Exact for each y: the terms ``||y||^2``
        and ``||K e_k - 1||^2`` are the same for every k.  Memory is [B, ..., K], not K^2.

        What is averaged is ``-l + c (e^l - 1)``: the second term has mean 0 under p_S, and takes
        away most of the noise of small steps, whose l is nearly linear in y.  The factor
        ``c = s / (e^s - 1)``, s = 2 alpha K, is the best one for a normal l of variance s (the
        largest there is), and 0 for large steps, in which e^l has long tails.
        """
        check_loss(data, output, t, t_next)
        check_samples(samples)
        estimate = self.embed(data).to(output.log_probs.dtype)
        accuracy = self.schedule.increment(t, t_next)
        spread = (2 * self.classes * accuracy).clamp_min(torch.finfo(accuracy.dtype).tiny)
        # ln(s / (e^s - 1)); e^s itself is no float from s = 88 on.
        log_factor = torch.log(spread) - spread - torch.log(-torch.expm1(-spread))
        log_factor = expand_right(log_factor, data)
        total = torch.zeros_like(t, dtype=estimate.dtype)
        for _ in range(samples):
            y = self.sender(estimate, accuracy, mask=mask, generator=generator)
            own = (estimate * y).sum(-1, keepdim=True)
            log_ratio = torch.logsumexp(output.log_probs + (y - own), -1)
            control = torch.exp(log_ratio + log_factor) - torch.exp(log_factor)
            total = total + sum_per_sample(control - log_ratio, mask)
        return total / samples

    def reconstruction_loss(
        self, data: Tensor, output: CategoricalOutput, *, mask: Tensor | None = None
    ) -> Tensor:
        check_loss(data, output)
        check_classes(data, self.classes)
        log_prob = output.log_probs.gather(-1, data.long()[..., None])[..., 0]
        return -sum_per_sample(log_prob, mask)

    def dimensions(self, data: Tensor, *, mask: Tensor | None = None) -> Tensor:
        return sum_per_sample(torch.ones_like(data, dtype=state_dtype()), mask)
