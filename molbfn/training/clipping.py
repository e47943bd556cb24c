"""Gradient clipping that follows the recent norms, and drops steps that are not finite."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from molbfn.config import ClipConfig

_FEWEST = 10  # norms before the adaptive rule says anything


class GradientGuard:
    """Clips gradients in place and refuses the ones that are not finite.

    The limit is fixed, or ``factor x mean + spreads x sd`` of the last ``window`` norms as in
    GeoBFN and EDM.  Only finite norms enter the window, and a clipped one enters as the limit, so
    one bad step cannot raise or poison later limits.

    With a fixed limit, and an optimiser that can skip a step by itself, nothing here waits for a
    GPU: what is found stays on the device until :attr:`bad_steps` is read.  The adaptive rule needs
    each norm, and an optimiser that cannot skip (AMSGrad) needs each finding, at once.

    Args:
        clip: largest norm, or the adaptive rule.
    """

    def __init__(self, clip: float | ClipConfig) -> None:
        self._clip = clip
        window = clip.window if isinstance(clip, ClipConfig) else 0
        self._norms: deque[float] = deque(maxlen=window)
        self._bad_steps = torch.zeros((), dtype=torch.int64)

    @property
    def bad_steps(self) -> int:
        """Steps refused so far; a GPU is waited for."""
        return int(self._bad_steps)

    @property
    def limit(self) -> float:
        """The norm above which gradients are scaled down now."""
        if not isinstance(self._clip, ClipConfig):
            return self._clip
        if len(self._norms) < min(_FEWEST, self._clip.window):
            return float("inf")
        norms = np.fromiter(self._norms, dtype=np.float64)
        return float(self._clip.factor * norms.mean() + self._clip.spreads * norms.std(ddof=1))

    def __call__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        optimiser: torch.optim.Optimizer | None = None,
    ) -> Tensor:
        """Clip, or see to it that the next step is skipped where the gradients are not finite.

        Args:
            parameters: all that the optimiser has.
            optimiser: told to skip, if it is one that can; else the gradients are removed.

        Returns:
            The norm before.
        """
        parameters = [p for p in parameters if p.grad is not None]
        limit = self.limit
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        bad = ~torch.isfinite(norm)
        self._bad_steps = self._bad_steps.to(norm.device) + bad
        if can_skip(optimiser) and not isinstance(self._clip, ClipConfig):
            optimiser.found_inf = bad.float()
        elif bad:
            # An optimiser skips parameters without a gradient: weights and moments stay.
            for parameter in parameters:
                parameter.grad = None
        else:
            self._norms.append(min(float(norm), limit))
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"norms": list(self._norms), "bad_steps": self.bad_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._norms.clear()
        self._norms.extend(state["norms"])
        self._bad_steps = torch.tensor(state["bad_steps"])


def can_skip(optimiser: torch.optim.Optimizer | None) -> bool:
    """Whether a step does nothing where the optimiser's ``found_inf`` (a tensor) is 1.

    That is how torch's gradient scaler speaks with its fused optimisers; ours follow it.
    """
    return getattr(optimiser, "_step_supports_amp_scaling", False)
