"""What every flow can do, and the small records it does it with.

A flow owns the closed-form Bayesian bookkeeping of one variable.  It knows nothing of networks
beyond their raw output, and nothing of what the variable means.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.export import register_dataclass

from bfn_core.schedules import AccuracySchedule
from bfn_core.tensors import Generators, apply_mask, centre, check_precision, is_seen


@dataclass(frozen=True)
class GaussianState:
    """Input distribution N(mean, 1/precision), independent in every element.

    Attributes:
        mean: [B, ...].
        precision: [B], one number a sample; 1 for the prior.
    """

    mean: Tensor
    precision: Tensor


@dataclass(frozen=True)
class CategoricalState:
    """Input distribution over K classes, as unnormalised log-probabilities.

    Attributes:
        logits: [B, ..., K]; the latent z of the flow, ``theta = softmax(z)``.
    """

    logits: Tensor


State = GaussianState | CategoricalState

# Pytrees: torch.vmap and torch.export may take and return states, and outputs below.
register_dataclass(GaussianState)
register_dataclass(CategoricalState)


@dataclass(frozen=True)
class PointOutput:
    """Output distribution that puts all mass on one value.

    Attributes:
        mean: [B, ...], in data units.
    """

    mean: Tensor

    @property
    def shape(self) -> torch.Size:
        """Shape of the data that it is about, [B, ...]."""
        return self.mean.shape


@dataclass(frozen=True)
class CategoricalOutput:
    """Output distribution over K classes or bins.

    Attributes:
        log_probs: [B, ..., K], normalised log-probabilities.
    """

    log_probs: Tensor

    @property
    def shape(self) -> torch.Size:
        """Shape of the data that it is about, [B, ...]."""
        return self.log_probs.shape[:-1]


Output = PointOutput | CategoricalOutput

register_dataclass(PointOutput)
register_dataclass(CategoricalOutput)


@dataclass(frozen=True)
class LatentScales:
    """``latent = signal * s + noise * eps`` under the flow distribution of data with signal s.

    Attributes:
        signal, noise: [B], both 0 at t = 0, and at any other time at which nothing is known yet.
    """

    signal: Tensor
    noise: Tensor


StateT = TypeVar("StateT", GaussianState, CategoricalState)
OutputT = TypeVar("OutputT", PointOutput, CategoricalOutput)


class Flow(ABC, Generic[StateT, OutputT]):
    """One kind of data.

    Shapes: ``data`` [B, ...] (floats, or int64 classes); ``t`` and accuracies [B]; ``mask`` covers
    leading axes of the data ([B, N] for points) and is True where there is data.  Losses are in
    nats, one number a sample: [B].  Data at padding is ignored, but classes there must be valid
    (0 will do).  States and losses are float32 or better, whatever the network computes in.

    An *estimate* is the vector whose noisy copy the sender sends: the value itself for Gaussian
    inputs, a point of the simplex (one-hot, or a probability vector) for categorical inputs.
    """

    schedule: AccuracySchedule
    centred: bool = False
    """Whether latents lie in the subspace of zero mean over points; data are then [B, N, D]."""

    @abstractmethod
    def prior(
        self, shape: Sequence[int], *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> StateT:
        """Return the state before any observation, for data of the given shape [B, ...].

        Continuous and discretised data: N(0, 1); categorical data: uniform.
        """

    @abstractmethod
    def embed(self, data: Tensor) -> Tensor:
        """Return the estimate that stands for the data itself, float32 or better.

        Continuous data are their own; bins their centres [B, ...]; classes one-hot [B, ..., K].
        """

    @abstractmethod
    def sender(
        self,
        estimate: Tensor,
        accuracy: Tensor,
        *,
        mask: Tensor | None = None,
        generator: Generators = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw y from the sender distribution p_S(y | estimate; accuracy).

        Args:
            estimate: [B, ...] (categorical: [B, ..., K]).
            accuracy: [B], positive for Gaussian flows (see :meth:`observe` for 0).
            mask, generator: see the class and :data:`bfn_core.tensors.Generators`.
            temperature: multiplies the variance of the noise; 1 is the exact law.

        Returns:
            y, shape and dtype of ``estimate``, exactly zero on padding.
        """

    @abstractmethod
    def update(self, state: StateT, y: Tensor, accuracy: Tensor) -> StateT:
        """Return the Bayesian update h(theta, y, alpha) of the state, y as from :meth:`sender`."""

    @abstractmethod
    def observe(
        self,
        state: StateT,
        estimate: Tensor,
        accuracy: Tensor,
        *,
        mask: Tensor | None = None,
        generator: Generators = None,
        temperature: float = 1.0,
    ) -> StateT:
        """Return ``update(state, sender(estimate))``, finite at accuracy 0 as well.

        It is a draw from the Bayesian update distribution; arguments as for :meth:`sender`.
        """

    @abstractmethod
    def latent(self, state: StateT) -> Tensor:
        """Return what is Gaussian under the flow distribution: the mean, or the logits."""

    @abstractmethod
    def from_latent(self, latent: Tensor, t: Tensor) -> StateT:
        """Return the state at time t [B] with this latent; the inverse of :meth:`latent`."""

    @abstractmethod
    def signal(self, estimate: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return the vector that an estimate adds to the latent: itself, or ``K e - 1``."""

    def project(self, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return what of x [B, ...] is data: zero on padding, and centred if the flow is."""
        return centre(x, mask) if self.centred else apply_mask(x, mask)

    @abstractmethod
    def latent_scales(self, t: Tensor) -> LatentScales:
        """Return how much signal and noise a latent holds at time t [B].

        The squared ratio of the two, signal to noise, is beta(t) for Gaussian and beta(t) / K for
        categorical inputs.
        """

    @abstractmethod
    def latent_noise(
        self, like: Tensor, *, mask: Tensor | None = None, generator: Generators = None
    ) -> Tensor:
        """Return standard normal noise for a latent: zero on padding, centred if the flow is."""

    @abstractmethod
    def inputs(self, state: StateT, t: Tensor) -> Tensor:
        """Return what the network sees of the state: [B, ...], or [B, ..., K] for classes.

        The dtype is the state's, whatever that of the times.  Padding is zero for Gaussian flows;
        ``JointFlow.inputs`` makes it so for all.
        """

    @abstractmethod
    def output(self, raw: Tensor, state: StateT, t: Tensor) -> OutputT:
        """Turn the network's raw output into the output distribution p_O, in float32 or better.

        Args:
            raw: [B, ...] for continuous data, [B, ..., 2] for bins, [B, ..., K] for classes.
            state: what the network saw.
            t: [B], the time of the state.
        """

    def point(self, mean: Tensor) -> PointOutput:
        """Return the point output at ``mean`` [B, ...]; flows with a limit clip it."""
        return PointOutput(mean)

    @abstractmethod
    def receiver(
        self, output: OutputT, accuracy: Tensor, *, mask: Tensor | None = None
    ) -> torch.distributions.Distribution:
        """Return the receiver distribution p_R(y) = E_{x ~ p_O} p_S(y | x; accuracy).

        One factor for each element of the data (a vector of K for categorical data), so its
        ``log_prob`` has the data's shape; a centred flow's is over whole samples, [B].  On padding
        y is 0 for certain and adds nothing to the log-density, whatever the output says there.

        torch's distributions take no generator.  A draw with one is that of an estimate and then
        of the sender, with ``known = {"mask": mask, "generator": generator}``::

            flow.sender(flow.draw(output, **known), accuracy, **known)

        Args:
            output: made at the start of the step.
            accuracy: [B], positive.
            mask: see the class.

        Raises:
            ValueError: an accuracy that is not positive, for which y has no density.
        """

    @abstractmethod
    def expectation(self, output: OutputT) -> Tensor:
        """Return the mean estimate under p_O, shape as from :meth:`embed`."""

    @abstractmethod
    def draw(
        self, output: OutputT, *, mask: Tensor | None = None, generator: Generators = None
    ) -> Tensor:
        """Return an estimate drawn from p_O, independently for each element, shape as embedded."""

    def estimate(
        self,
        output: OutputT,
        *,
        draw: bool,
        mask: Tensor | None = None,
        generator: Generators = None,
    ) -> Tensor:
        """Return what a sampler observes: a draw from p_O, or its mean."""
        if draw:
            return self.draw(output, mask=mask, generator=generator)
        return self.expectation(output)

    @abstractmethod
    def given_evidence(
        self, output: OutputT, score: Tensor, t: Tensor, *, mask: Tensor | None = None
    ) -> OutputT:
        """Return the output distribution given evidence c too.

        Its expectation moves by what Tweedie's formula says (see :mod:`bfn_core.guidance`).

        Args:
            output: made at time t.
            score: gradient of ln p(c | latent) at the latent, shape as from :meth:`latent`.
            t: [B].
        """

    @abstractmethod
    def mode(self, output: OutputT) -> Tensor:
        """Return the most probable data under p_O, in the data's own form (classes: int64)."""

    def decode(self, output: OutputT) -> Tensor:
        """Return the data that a sample with this last output is: the mode, unless a flow says."""
        return self.mode(output)

    @abstractmethod
    def continuous_time_loss(
        self, data: Tensor, output: OutputT, t: Tensor, *, mask: Tensor | None = None
    ) -> Tensor:
        """Return the integrand of L^infinity at time t: its mean over t ~ U(0, 1) is the loss.

        Graves et al. 2023, eq. 41.
        """

    @abstractmethod
    def step_loss(
        self,
        data: Tensor,
        output: OutputT,
        t: Tensor,
        t_next: Tensor,
        *,
        mask: Tensor | None = None,
        generator: Generators = None,
        samples: int = 1,
    ) -> Tensor:
        """Return KL(p_S || p_R) of the step from t to t_next, for an output made at t.

        Where there is no closed form it is an unbiased Monte-Carlo estimate from ``samples`` draws.

        Raises:
            ValueError: samples < 1, a step that ends before it begins, or as :func:`check_loss`.
        """

    def discrete_time_loss(
        self,
        data: Tensor,
        output: OutputT,
        t: Tensor,
        *,
        n_steps: int,
        mask: Tensor | None = None,
        generator: Generators = None,
        samples: int = 1,
    ) -> Tensor:
        """Return ``n_steps`` times the step loss: its mean over t in {0, 1/n, ...} is L^n.

        Raises:
            ValueError: n_steps < 1, or a time at which none of the steps begins.
        """
        if n_steps < 1:
            raise ValueError(f"n_steps must be at least 1, got {n_steps}")
        step = t.detach() * n_steps
        if is_seen(((step - step.round()).abs() > 0.01) | (step > n_steps - 0.5)):
            raise ValueError(
                f"t must be 0, 1/{n_steps}, ... or {n_steps - 1}/{n_steps}, where a step begins; "
                f"draw low_discrepancy_steps(batch, {n_steps}) / {n_steps}"
            )
        end = (t + 1 / n_steps).clamp_max(1.0)
        loss = self.step_loss(data, output, t, end, mask=mask, generator=generator, samples=samples)
        return n_steps * loss

    @abstractmethod
    def reconstruction_loss(
        self, data: Tensor, output: OutputT, *, mask: Tensor | None = None
    ) -> Tensor:
        """Return ``-ln p_O(data | theta; 1)`` for an output made at t = 1."""

    @abstractmethod
    def dimensions(self, data: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return the number of dimensions of each sample, [B]: bits/dim = nats / (D ln 2)."""

    def sample(
        self,
        data: Tensor,
        t: Tensor,
        *,
        mask: Tensor | None = None,
        generator: Generators = None,
    ) -> StateT:
        """Draw a state from the Bayesian flow distribution p_F(theta | data; t).

        Accuracies add, so this is the prior after one observation of accuracy beta(t).

        Raises:
            ValueError: not one time for each sample.
        """
        _check_times(data, t)
        estimate = self.embed(data)
        prior = self.prior(data.shape, dtype=estimate.dtype, device=str(estimate.device))
        accuracy = self.schedule.beta(t.to(estimate.dtype))
        return self.observe(prior, estimate, accuracy, mask=mask, generator=generator)


def check_loss(data: Tensor, output: PointOutput | CategoricalOutput, *times: Tensor) -> None:
    """Refuse shapes that would broadcast to a loss of something else.

    Raises:
        ValueError: data and output are not of one shape, not one time for each sample, times in
            half precision, in which rates and accuracies are lost, or a step (two times) that ends
            before it begins.
    """
    if data.shape != output.shape:
        raise ValueError(
            f"an output for data of shape {tuple(output.shape)} does not fit data of shape "
            f"{tuple(data.shape)}"
        )
    _check_times(data, *times)
    for t in times:
        check_precision(t.dtype, "times")
    for start, end in itertools.pairwise(times):
        if is_seen(end < start):
            raise ValueError("a step must not end before it begins: t_next is below t")


def _check_times(data: Tensor, *times: Tensor) -> None:
    for t in times:
        if not t.is_floating_point():
            raise ValueError(f"times must be floats from 0 to 1, got {t.dtype}")
        if is_seen(~((t >= 0) & (t <= 1 + 1e-6))):
            raise ValueError(f"times must lie in [0, 1], got {float(t.min())} to {float(t.max())}")
        if t.shape != data.shape[:1]:
            raise ValueError(
                f"times of shape {tuple(t.shape)} for data of shape {tuple(data.shape)}: expected "
                f"one for each sample, {tuple(data.shape[:1])}"
            )


def check_accuracy(accuracy: Tensor) -> None:
    """Refuse accuracies at which a receiver has no density.

    Raises:
        ValueError: one of them is not positive.
    """
    if not bool((accuracy > 0).all()):
        raise ValueError(f"a receiver needs positive accuracies, got {float(accuracy.min())}")


def check_raw(raw: Tensor, shape: Sequence[int]) -> None:
    """Refuse a network's output that would broadcast to that for other data.

    Raises:
        ValueError: it is not of this shape.
    """
    if tuple(raw.shape) != tuple(shape):
        raise ValueError(
            f"the network returned shape {tuple(raw.shape)} where {tuple(shape)} is expected"
        )


def check_samples(samples: int) -> None:
    """Raise ValueError for fewer than one Monte-Carlo draw."""
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
