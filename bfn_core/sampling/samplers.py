"""The samplers that observe noisy copies of the network's estimates.

One rule covers three published samplers: replace the last ``window`` observations by one
observation of the current estimate, with their summed accuracy.

* ``window = 1``: Bayesian updates, the sampler of Graves et al. 2023 (sections 4 to 6);
* ``window >= steps`` (None here): all earlier observations are discarded each step, the
  noise-reduced sampling of MolCRAFT (Qu et al. 2024), called re-noising here;
* in between: the backward-correction window of MolJO (Qiu et al. 2024).

Not to be confused with the ODE and SDE solvers, which integrate a limit process and need no
observations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from bfn_core.flows.base import Output, State
from bfn_core.flows.joint import JointFlow, Masks
from bfn_core.tensors import Generators


@dataclass(frozen=True)
class History:
    """The states a sampler may still step from, oldest first, with their times.

    Attributes:
        states: each a mapping variable -> state; the last is the current one.
        times: for each state, a mapping variable -> [B].
        taken: number of steps taken so far.
    """

    states: tuple[Mapping[str, State], ...]
    times: tuple[Mapping[str, Tensor], ...]
    taken: int = 0

    @property
    def current(self) -> Mapping[str, State]:
        """The state the network sees next."""
        return self.states[-1]


@dataclass(frozen=True)
class ObservationSampler:
    """Observe the estimate in place of the last ``window`` observations.

    The first of the remembered states is the one to step from: before ``window`` steps have been
    taken that is the prior, afterwards the state ``window`` steps before the next one.

    Attributes:
        window: how many of the latest observations (this one included) the new one replaces; None
            for all of them.
        draw: send a value drawn from categorical outputs (the papers' Bayesian sampler) instead
            of their expectation (re-noising).
        temperature: multiplies the variance of the sender's noise; 1 is the exact law.
    """

    window: int | None = None
    draw: bool = False
    temperature: float = 1.0

    calls_per_step = 1

    def __post_init__(self) -> None:
        if self.window is not None and self.window < 1:
            raise ValueError(f"window must be at least 1, got {self.window}")
        if not self.temperature >= 0:
            raise ValueError(f"temperature must not be negative, got {self.temperature}")

    def init(self, states: Mapping[str, State], times: Mapping[str, Tensor]) -> History:
        """Start from ``states`` at ``times`` (the prior at t = 0, or a given state)."""
        return History(states=(states,), times=(times,))

    def step(
        self,
        flows: JointFlow,
        history: History,
        outputs: Mapping[str, Output],
        times_next: Mapping[str, Tensor],
        *,
        mask: Masks = None,
        generator: Generators = None,
    ) -> History:
        """Move to ``times_next`` given the network's outputs at the current state."""
        base, base_times = history.states[0], history.times[0]
        new: dict[str, State] = {}
        for name, flow in flows.flows.items():
            own_mask = flows.mask_of(name, mask)
            estimate = flow.estimate(
                outputs[name], draw=self.draw, mask=own_mask, generator=generator
            )
            accuracy = flow.schedule.increment(base_times[name], times_next[name])
            new[name] = flow.observe(
                base[name],
                estimate,
                accuracy.to(estimate.dtype),
                mask=own_mask,
                generator=generator,
                temperature=self.temperature,
            )
        return self._remember(history, new, times_next)

    def _remember(
        self, history: History, new: Mapping[str, State], times: Mapping[str, Tensor]
    ) -> History:
        """Keep the base of the next step first and the newest state last, and no more."""
        states, kept_times = (*history.states, new), (*history.times, times)
        if self.window is None:
            states, kept_times = (states[0], states[-1]), (kept_times[0], kept_times[-1])
        else:
            states, kept_times = states[-self.window :], kept_times[-self.window :]
        return History(states=states, times=kept_times, taken=history.taken + 1)


def bayesian_sampler(*, temperature: float = 1.0) -> ObservationSampler:
    """The paper's sampler: one Bayesian update a step, classes drawn.

    With the exact posterior of a single variable as the output distribution, the states follow
    the law of the flow: for discrete and discretised data at any number of steps, for continuous
    data (whose output is a point) in the limit of many.

    Raises:
        ValueError: temperature < 0.
    """
    return ObservationSampler(window=1, draw=True, temperature=temperature)


def renoise_sampler(*, draw: bool = False, temperature: float = 1.0) -> ObservationSampler:
    """Noise-reduced sampling: a fresh flow sample of the estimate each step.

    It is a heuristic, biased by construction: a fresh flow sample of the *expectation* leaves out
    the spread of what the network does not know.  For Gaussian data of variance s^2 and the exact
    network, with z = mu / gamma, sigma^2 = (1 - gamma) / gamma and c = s^2 / (s^2 + sigma^2), the
    estimate is ``c z`` and the variance of z follows ``v_next = c^2 v + T sigma_next^2`` (T the
    temperature).  More steps do not cure it: for small sigma_1 the samples' variance tends to
    T s^2 / 2, so that T = 2, not 1, restores the spread of a Gaussian.
    At few steps it is good because the state forgets earlier errors;
    :func:`bayesian_sampler` is the one that converges to the law of the data.

    Args:
        draw: send a draw from categorical outputs instead of their expectation.
        temperature: multiplies the variance of the noise.

    Raises:
        ValueError: temperature < 0.
    """
    return ObservationSampler(window=None, draw=draw, temperature=temperature)


def window_sampler(window: int, *, temperature: float = 1.0) -> ObservationSampler:
    """MolJO's window of ``window`` steps, classes drawn.

    ``window = 1`` is :func:`bayesian_sampler`; a window of all steps re-noises with drawn classes.

    Raises:
        ValueError: window < 1 or temperature < 0.
    """
    return ObservationSampler(window=window, draw=True, temperature=temperature)
