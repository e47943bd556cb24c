"""Several variables side by side: independent bookkeeping, one network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bfn_core.flows.base import Flow, Output, State
from bfn_core.tensors import Generators, apply_mask

Times = Tensor | Mapping[str, Tensor]
"""One time a sample [B] for all variables, or one such tensor for each variable."""

Grid = Tensor | Mapping[str, Tensor]
"""Times [steps + 1] from 0 to 1 for all variables, or one such tensor for each variable."""

Masks = Tensor | Mapping[str, Tensor | None] | None
"""One mask for all variables, or one for each: bool, of the data's shape or of its leading axes.

A mask [B, N] of pairs [B, N, N] leaves out rows only; pairs take one of their own, [B, N, N]."""

Predictor = Callable[[Mapping[str, State], Mapping[str, Tensor]], Mapping[str, Output]]
"""(states, times per variable) -> output distributions: a network with its flows bound to it.

Those of :meth:`JointFlow.predictor` take one time for all variables as well."""

Network = Callable[..., Mapping[str, Tensor]]
"""(inputs, times per variable, mask) -> raw outputs, one tensor for each variable."""


class JointFlow:
    """A product of flows over named variables.

    Each operation is the flow's own, applied per variable; data, states, outputs and losses are
    mappings from variable name.  Times may be shared or differ per variable.

    Args:
        flows: variable name -> flow, in the order in which noise is drawn.
    """

    def __init__(self, **flows: Flow[Any, Any]) -> None:
        if not flows:
            raise ValueError("a joint flow needs at least one variable")
        self.flows = dict(flows)

    def __getitem__(self, name: str) -> Flow[Any, Any]:
        return self.flows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.flows)

    def times(self, t: Times) -> dict[str, Tensor]:
        """Return one time tensor [B] for each variable.

        Raises:
            TypeError: neither a tensor nor a mapping of tensors.
            ValueError: a mapping without one of the variables.
        """
        if isinstance(t, Tensor):
            return dict.fromkeys(self.flows, t)
        if not isinstance(t, Mapping):
            raise TypeError(
                f"times must be a tensor [B], or one for each variable, not {type(t).__name__}"
            )
        missing = [name for name in self.flows if name not in t]
        if missing:
            raise ValueError(f"no time given for {', '.join(missing)}")
        for name in self.flows:
            if not isinstance(t[name], Tensor):
                raise TypeError(f"the time of {name} must be a tensor [B], not {t[name]!r}")
        return {name: t[name] for name in self.flows}

    def dtypes(self, data: Mapping[str, Tensor]) -> dict[str, torch.dtype]:
        """Return the dtype of each variable's states (and so of its times) for such data.

        Raises:
            ValueError: no data of a variable.
        """
        self.check_names(data, "data")
        return {name: flow.embed(data[name][:0]).dtype for name, flow in self.flows.items()}

    def check_names(self, values: Mapping[str, Any], what: str) -> None:
        """Refuse anything but a mapping with a value for each variable.

        Raises:
            TypeError: no mapping.
            ValueError: one is missing.
        """
        if not isinstance(values, Mapping):
            raise TypeError(
                f"{what} must be a mapping with {', '.join(self.flows)}, not "
                f"{type(values).__name__}"
            )
        missing = [name for name in self.flows if name not in values]
        if missing:
            raise ValueError(f"no {what} given for {', '.join(missing)}")

    def check_outputs(
        self, outputs: Mapping[str, Output], shapes: Mapping[str, Sequence[int]]
    ) -> None:
        """Refuse outputs that would broadcast to those for other data.

        Args:
            outputs: what a predictor returned.
            shapes: variable -> shape of the data.

        Raises:
            TypeError, ValueError: not one for each variable, or of another shape.
        """
        self.check_names(outputs, "output")
        for name in self.flows:
            if tuple(outputs[name].shape) != tuple(shapes[name]):
                raise ValueError(
                    f"the predictor returned an output for {name} of shape "
                    f"{tuple(outputs[name].shape)} where {tuple(shapes[name])} is expected"
                )

    def mask_of(self, name: str, mask: Masks) -> Tensor | None:
        """Return the mask of one variable.

        Raises:
            ValueError: a mapping with a name that is no variable.
        """
        if not isinstance(mask, Mapping):
            return mask
        unknown = mask.keys() - self.flows.keys()
        if unknown:
            raise ValueError(
                f"a mask for {', '.join(sorted(unknown))}, but the variables are "
                f"{', '.join(self.flows)}"
            )
        return mask.get(name)

    def prior(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> dict[str, State]:
        """Return the prior states for data of the given shapes [B, ...]."""
        self.check_names(shapes, "shape")
        return {
            name: flow.prior(shapes[name], dtype=dtype, device=device)
            for name, flow in self.flows.items()
        }

    def sample(
        self,
        data: Mapping[str, Tensor],
        t: Times,
        *,
        mask: Masks = None,
        generator: Generators = None,
    ) -> dict[str, State]:
        """Draw every variable's state from its Bayesian flow distribution."""
        self.check_names(data, "data")
        times = self.times(t)
        return {
            name: flow.sample(
                data[name], times[name], mask=self.mask_of(name, mask), generator=generator
            )
            for name, flow in self.flows.items()
        }

    def sender(
        self,
        estimates: Mapping[str, Tensor],
        accuracies: Mapping[str, Tensor],
        *,
        mask: Masks = None,
        generator: Generators = None,
        temperature: float = 1.0,
    ) -> dict[str, Tensor]:
        """Draw y of each variable from its sender distribution."""
        return {
            name: flow.sender(
                estimates[name],
                accuracies[name],
                mask=self.mask_of(name, mask),
                generator=generator,
                temperature=temperature,
            )
            for name, flow in self.flows.items()
        }

    def update(
        self,
        states: Mapping[str, State],
        ys: Mapping[str, Tensor],
        accuracies: Mapping[str, Tensor],
    ) -> dict[str, State]:
        """Return the Bayesian update of each variable's state."""
        return {
            name: flow.update(states[name], ys[name], accuracies[name])
            for name, flow in self.flows.items()
        }

    def receiver(
        self,
        outputs: Mapping[str, Output],
        accuracies: Mapping[str, Tensor],
        *,
        mask: Masks = None,
    ) -> dict[str, torch.distributions.Distribution]:
        """Return the receiver distribution of each variable; the joint one is their product."""
        return {
            name: flow.receiver(outputs[name], accuracies[name], mask=self.mask_of(name, mask))
            for name, flow in self.flows.items()
        }

    def inputs(
        self, states: Mapping[str, State], t: Times, *, mask: Masks = None
    ) -> dict[str, Tensor]:
        """Return what the network sees of each variable, exactly zero on padding."""
        times = self.times(t)
        return {
            name: apply_mask(flow.inputs(states[name], times[name]), self.mask_of(name, mask))
            for name, flow in self.flows.items()
        }

    def outputs(
        self, raw: Mapping[str, Tensor], states: Mapping[str, State], t: Times
    ) -> dict[str, Output]:
        """Turn raw network outputs into output distributions."""
        self.check_names(raw, "raw output")
        times = self.times(t)
        return {
            name: flow.output(raw[name], states[name], times[name])
            for name, flow in self.flows.items()
        }

    def predictor(self, network: Network, mask: Masks = None) -> Predictor:
        """Bind a network: the result maps (states, times) to output distributions.

        The network gets one time tensor for each variable, also where all share one.
        """

        def predict(states: Mapping[str, State], t: Times) -> Mapping[str, Output]:
            own, times = _differentiable(mask), self.times(t)
            raw = network(self.inputs(states, times, mask=own), times, own)
            return self.outputs(raw, states, times)

        return predict

    def continuous_time_loss(
        self,
        data: Mapping[str, Tensor],
        outputs: Mapping[str, Output],
        t: Times,
        *,
        mask: Masks = None,
    ) -> dict[str, Tensor]:
        """Return the integrand of L^infinity of each variable, nats a sample [B]."""
        times = self.times(t)
        return {
            name: flow.continuous_time_loss(
                data[name], outputs[name], times[name], mask=self.mask_of(name, mask)
            )
            for name, flow in self.flows.items()
        }

    def discrete_time_loss(
        self,
        data: Mapping[str, Tensor],
        outputs: Mapping[str, Output],
        t: Times,
        *,
        n_steps: int,
        mask: Masks = None,
        generator: Generators = None,
        samples: int = 1,
    ) -> dict[str, Tensor]:
        """Return ``n_steps`` times the KL of the step that starts at t, nats a sample [B]."""
        times = self.times(t)
        return {
            name: flow.discrete_time_loss(
                data[name],
                outputs[name],
                times[name],
                n_steps=n_steps,
                mask=self.mask_of(name, mask),
                generator=generator,
                samples=samples,
            )
            for name, flow in self.flows.items()
        }

    def step_loss(
        self,
        data: Mapping[str, Tensor],
        outputs: Mapping[str, Output],
        t: Times,
        t_next: Times,
        *,
        mask: Masks = None,
        generator: Generators = None,
        samples: int = 1,
    ) -> dict[str, Tensor]:
        """Return KL(p_S || p_R) of each variable's step from t to t_next, nats a sample [B]."""
        starts, ends = self.times(t), self.times(t_next)
        return {
            name: flow.step_loss(
                data[name],
                outputs[name],
                starts[name],
                ends[name],
                mask=self.mask_of(name, mask),
                generator=generator,
                samples=samples,
            )
            for name, flow in self.flows.items()
        }

    def reconstruction_loss(
        self,
        data: Mapping[str, Tensor],
        outputs: Mapping[str, Output],
        *,
        mask: Masks = None,
    ) -> dict[str, Tensor]:
        """Return ``-ln p_O(data | theta; 1)`` of each variable, nats a sample [B]."""
        return {
            name: flow.reconstruction_loss(data[name], outputs[name], mask=self.mask_of(name, mask))
            for name, flow in self.flows.items()
        }

    def dimensions(self, data: Mapping[str, Tensor], *, mask: Masks = None) -> dict[str, Tensor]:
        """Return the number of dimensions of each variable, [B]."""
        return {
            name: flow.dimensions(data[name], mask=self.mask_of(name, mask))
            for name, flow in self.flows.items()
        }


def _differentiable(mask: Masks) -> Masks:
    """Return a mask that may take part in what is differentiated: one of inference mode may not."""
    if isinstance(mask, Mapping):
        return {name: _differentiable_one(part) for name, part in mask.items()}
    return _differentiable_one(mask)


def _differentiable_one(mask: Tensor | None) -> Tensor | None:
    if mask is None or torch.compiler.is_compiling():  # in which nobody can ask
        return mask
    if torch.is_inference_mode_enabled() or not mask.is_inference():
        return mask
    return mask.clone()
