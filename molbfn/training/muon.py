"""Muon: momentum whose steps are made orthogonal, for the matrices inside a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from molbfn.devices import multiplies_bf16

# Fifth-order polynomial whose iteration takes singular values in (0, 1] to about 1 (Jordan 2024).
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum, then a step of ``0.2 sqrt(max(rows, columns))`` times an orthogonal matrix.

    Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/), with the scale of Liu et al.
    2025 (arXiv 2502.16982), which makes the root of the mean square that of AdamW.  The method and
    the saved state are those of ``torch.optim.Muon``, whose iterations are in bfloat16 always and
    go matrix by matrix.  Here matrices of one shape go together, and a processor that would have
    to emulate bfloat16 (where a step took longer than the gradients) iterates in float32.  As with
    torch's fused optimisers, a step changes nothing where the attribute ``found_inf`` is 1.

    Args:
        matrices: parameters [rows, columns].
        lr: learning rate.
        weight_decay: of the weights, times ``lr``.
        momentum: of the average of gradients, which is taken one step ahead (Nesterov).

    Raises:
        ValueError: a parameter is no matrix.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(matrices, defaults)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise ValueError(f"Muon takes matrices, not shape {tuple(parameter.shape)}")
        self._step_supports_amp_scaling = True

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Step once, after ``closure`` (which computes gradients) if there is one."""
        loss = call_closure(closure)
        for group in self.param_groups:
            alike: dict[tuple[torch.Size, torch.device], list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault((parameter.shape, parameter.device), []).append(parameter)
            for parameters in alike.values():
                self._step_alike(parameters, group)
        return loss

    def _step_alike(self, parameters: list[nn.Parameter], group: dict[str, float]) -> None:
        momentum, rate = group["momentum"], group["lr"]
        gradients = [parameter.grad for parameter in parameters]
        averages = [self._average(parameter) for parameter in parameters]
        decay = 1 - rate * group["weight_decay"]
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None:
            skip = found_inf > 0
            # An average of itself and itself stays as it is.
            gradients = torch.where(skip, torch.stack(averages), torch.stack(gradients)).unbind()
            decay = torch.where(skip, 1.0, decay)
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        ahead = torch.stack(torch._foreach_lerp(gradients, averages, momentum))
        dtype = torch.bfloat16 if multiplies_bf16(ahead.device) else torch.float32
        updates = orthogonal(ahead.to(dtype)).to(parameters[0].dtype)
        if found_inf is not None:
            updates = updates.masked_fill(skip, 0.0)
        scale = 0.2 * math.sqrt(max(parameters[0].shape))
        torch._foreach_mul_(parameters, decay)
        torch._foreach_add_(parameters, updates.unbind(), alpha=-rate * scale)

    def _average(self, parameter: nn.Parameter) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def call_closure(closure: Callable[[], float] | None) -> float | None:
    """Return the loss of an optimiser's closure, which computes gradients, if there is one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def orthogonal(matrices: Tensor) -> Tensor:
    """Bring the singular values of matrices [K, rows, columns] to about 1 and keep the vectors.

    Five Newton-Schulz iterations ``(a + b XX' + c (XX')^2) X`` in the dtype of the matrices.  A
    singular value above 0.2 % of the Frobenius norm ends up between 0.68 and 1.21; zero stays zero.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x
