"""The bound through the probability-flow ODE beside the variational one, on the same samples.

Both of them bound ``-ln p`` of one network used in two ways (:mod:`bfn_core.flow_likelihood`), so
what tells something is their difference sample by sample: images differ from one another by far
more than the two bounds of one image do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bfn_core import flow_bound, likelihood_bound
from molbfn.benchmarks.data.samples import Samples, in_order
from molbfn.benchmarks.model import BenchModel
from molbfn.devices import autocast
from molbfn.errors import UserError

_TIMES = 16  # drawn for a sample and pass, of the variational bound
_PART = 32  # samples at once at most: the ODE is differentiated, which takes memory


@dataclass(frozen=True)
class FlowFigure:
    """Both bounds on -ln p, averaged over samples; nats a sample but for the counts.

    Attributes:
        solver_steps: of the ODE's integrator, four network calls each.
        eta: time at which it begins.
        probes: random vectors of each trace.
        calls: network calls a sample and pass, forward and backward.
        nats: the bound through the ODE, with the reconstruction.
        error: its standard error from the draws of noise and probes (and of dynamic binarisation).
        spread: its standard error from the choice of samples; None for a single one.
        variational: L^infinity plus reconstruction, of the same draws of the same samples.
        excess: ``nats - variational``.
        excess_error: its standard error from the draws.
        excess_spread: that from the choice of samples; None for a single one.
        samples, passes: how many of each.
        dimensions: elements of a sample.
    """

    solver_steps: int
    eta: float
    probes: int
    calls: int
    nats: float
    error: float
    spread: float | None
    variational: float
    excess: float
    excess_error: float
    excess_spread: float | None
    samples: int
    passes: int
    dimensions: int

    @property
    def bits_per_dimension(self) -> float:
        """Bits an element (a pixel's channel, a character)."""
        return self.nats / (self.dimensions * math.log(2))


@dataclass(frozen=True)
class _Drawn:
    """Both bounds of each sample in one pass, float64 [B], and the calls of the ODE."""

    flow: Tensor
    variational: Tensor
    calls: int


@torch.no_grad()
def measure_flow_bound(
    model: BenchModel,
    samples: Samples,
    *,
    solver_steps: int,
    eta: float,
    probes: int = 1,
    passes: int = 2,
    batch_size: int = _PART,
    seed: int = 0,
    precision: str = "fp32",
    progress: Callable[[int, int], None] | None = None,
) -> FlowFigure:
    """Estimate both bounds over all samples, several times.

    Args:
        solver_steps, eta, probes: see :func:`bfn_core.flow_bound`; at eta the latents' law is taken
            for the noise alone, whatever the data, which is part of the model whose bound this is.
        passes: independent passes over the samples, at least 2.
        batch_size: samples at once.
        seed: of data noise, states and probes: the same ones for every ``solver_steps``.
        precision: "fp32" or "bf16" network calls.
        progress: called with (batches so far, in all, over all passes).

    Raises:
        ValueError: fewer than 2 passes, or what :func:`bfn_core.flow_bound` refuses.
        UserError: the model has diverged.
    """
    if passes < 2:
        raise ValueError(f"an error needs at least 2 passes, got {passes}")
    batches = math.ceil(len(samples) / batch_size)
    found: list[_Drawn] = []
    for number in range(passes):
        own = 2 * (seed * 1_000_003 + number) % 2**63
        draw = torch.Generator().manual_seed(own)
        noise = torch.Generator(model.device).manual_seed(own + 1)
        for batch in in_order(samples, batch_size, draw):
            with autocast(precision, model.device):
                drawn = _draw(model, batch, noise, steps=solver_steps, eta=eta, probes=probes)
            if not bool((drawn.flow + drawn.variational).isfinite().all()):
                raise UserError(
                    f"model {model.info.config.name}: the bound of some samples is not a finite "
                    f"number, as where weights have diverged, or where --steps are too few"
                )
            found.append(drawn)
            if progress is not None:
                progress(len(found), passes * batches)
    flow = torch.cat([one.flow for one in found]).view(passes, -1)
    variational = torch.cat([one.variational for one in found]).view(passes, -1)
    excess = flow - variational
    return FlowFigure(
        solver_steps=solver_steps,
        eta=eta,
        probes=probes,
        calls=found[0].calls,
        nats=float(flow.mean()),
        error=_error(flow),
        spread=_spread(flow),
        variational=float(variational.mean()),
        excess=float(excess.mean()),
        excess_error=_error(excess),
        excess_spread=_spread(excess),
        samples=len(samples),
        passes=passes,
        dimensions=math.prod(model.shape),
    )


def _draw(
    model: BenchModel,
    batch: Tensor,
    noise: torch.Generator,
    *,
    steps: int,
    eta: float,
    probes: int,
) -> _Drawn:
    """Return one draw of both bounds of a batch."""
    data, predict = {"x": batch.to(model.device)}, model.predictor()
    flow = flow_bound(
        model.flows, predict, data, steps=steps, eta=eta, probes=probes, generator=noise
    )
    variational = likelihood_bound(model.flows, predict, data, repeats=_TIMES, generator=noise)
    return _Drawn(flow.nats.cpu().double(), variational.nats.cpu().double(), flow.calls)


def _error(values: Tensor) -> float:
    """Return the standard error of the mean from independent draws [passes, samples]."""
    passes, count = values.shape
    return float(torch.sqrt(values.var(0).sum() / passes)) / count


def _spread(values: Tensor) -> float | None:
    """Return the standard error of the mean from the choice of samples, [passes, samples]."""
    count = values.shape[1]
    return float(values.mean(0).std()) / math.sqrt(count) if count > 1 else None


def describe_flow(figure: FlowFigure) -> str:
    """Return a figure in one line."""
    spread = "" if figure.spread is None else f" ± {figure.spread:.3f} (samples)"
    off = "" if figure.excess_spread is None else f" ± {figure.excess_spread:.3f}"
    return (
        f"{figure.solver_steps:>5} steps ({figure.calls} calls)  {figure.nats:10.3f} ± "
        f"{figure.error:.3f} (draws){spread} nats; on the same samples n = inf has "
        f"{figure.variational:.3f}, the difference is {figure.excess:+.3f}{off}"
    )
