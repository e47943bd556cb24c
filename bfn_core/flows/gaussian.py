"""The Gaussian bookkeeping that continuous and discretised flows share.

Sender ``N(x, 1/alpha)``; update ``rho' = rho + alpha``, ``mu' = (rho mu + alpha y) / rho'``
(Graves et al. 2023, section 4, eqs. 49 and 50); flow distribution
``N(gamma x, gamma (1 - gamma))`` (eq. 77).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bfn_core.flows.base import Flow, GaussianState, LatentScales, OutputT
from bfn_core.parameterisation import Parameterisation
from bfn_core.schedules import AccuracySchedule
from bfn_core.tensors import (
    Generators,
    expand_right,
    root,
    standard_normal,
)


class GaussianFlow(Flow[GaussianState, OutputT]):
    """Prior, sender and update for variables with a Gaussian input distribution.

    Args:
        schedule: accuracy over time.
        parameterisation: what the network sees and returns.
        centred: keep everything in the subspace of zero mean over the points of a sample: data
            [B, N, D] with the mean over N (where the mask is True) removed.
    """

    def __init__(
        self,
        *,
        schedule: AccuracySchedule,
        parameterisation: Parameterisation,
        centred: bool = False,
    ) -> None:
        self.schedule = schedule
        self.parameterisation = parameterisation
        self.centred = centred

    def latent(self, state: GaussianState) -> Tensor:
        return state.mean

    def from_latent(self, latent: Tensor, t: Tensor) -> GaussianState:
        return GaussianState(mean=latent, precision=1 + self.schedule.beta(t))

    def signal(self, estimate: Tensor, *, mask: Tensor | None = None) -> Tensor:
        return self.project(estimate, mask=mask)

    def latent_scales(self, t: Tensor) -> LatentScales:
        """``gamma`` and ``sqrt(gamma (1 - gamma))``: Graves et al. 2023, eq. 77."""
        gamma = self.schedule.gamma(t)
        return LatentScales(gamma, root(gamma * self.schedule.gamma_complement(t)))

    def evidence_shift(self, score: Tensor, t: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Return ``(1 - gamma) score``: how far evidence moves the expected data, [B, ...]."""
        share = expand_right(self.schedule.gamma_complement(t), score)
        return self.project(share * score, mask=mask)

    def latent_noise(
        self, like: Tensor, *, mask: Tensor | None = None, generator: Generators = None
    ) -> Tensor:
        noise = standard_normal(
            like.shape, generator=generator, dtype=like.dtype, device=like.device, mask=mask
        )
        return self.project(noise, mask=mask)

    def prior(
        self, shape: Sequence[int], *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> GaussianState:
        return GaussianState(
            mean=torch.zeros(tuple(shape), dtype=dtype, device=device),
            precision=torch.ones(shape[0], dtype=dtype, device=device),
        )

    def sender(
        self,
        estimate: Tensor,
        accuracy: Tensor,
        *,
        mask: Tensor | None = None,
        generator: Generators = None,
        temperature: float = 1.0,
    ) -> Tensor:
        spread = expand_right(root(temperature / accuracy), estimate).to(estimate.dtype)
        estimate = self.project(estimate, mask=mask)
        return estimate + spread * self.latent_noise(estimate, mask=mask, generator=generator)

    def update(self, state: GaussianState, y: Tensor, accuracy: Tensor) -> GaussianState:
        """Graves et al. 2023, eqs. 49 and 50."""
        precision = state.precision + accuracy
        kept = expand_right(state.precision / precision, y)
        gained = expand_right(accuracy / precision, y)
        return GaussianState(mean=kept * state.mean + gained * y, precision=precision)

    def observe(
        self,
        state: GaussianState,
        estimate: Tensor,
        accuracy: Tensor,
        *,
        mask: Tensor | None = None,
        generator: Generators = None,
        temperature: float = 1.0,
    ) -> GaussianState:
        # The update distribution of eq. 52: alpha y = alpha x + sqrt(alpha) eps needs no division
        # by alpha, so alpha = 0 is exact.
        estimate = self.project(estimate, mask=mask)
        precision = state.precision + accuracy
        kept = expand_right(state.precision / precision, estimate)
        gained = expand_right(accuracy / precision, estimate)
        spread = expand_right(root(temperature * accuracy) / precision, estimate)
        noise = self.latent_noise(estimate, mask=mask, generator=generator)
        mean = kept * state.mean + gained * estimate + spread * noise
        return GaussianState(mean=mean, precision=precision)

    def inputs(self, state: GaussianState, t: Tensor) -> Tensor:
        return self.parameterisation.inputs(state.mean, t.to(state.mean.dtype), self.schedule)
