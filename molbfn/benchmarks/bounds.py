"""The likelihood bound of a benchmark's model on a part of its data, with its Monte-Carlo error."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bfn_core import likelihood_bound
from molbfn.benchmarks.data.samples import Samples, in_order
from molbfn.benchmarks.model import BenchModel
from molbfn.devices import autocast
from molbfn.errors import UserError


@dataclass(frozen=True)
class Bound:
    """A bound on -ln p, averaged over samples; all of it in nats a sample but ``dimensions``.

    Attributes:
        n_steps: n of L^n, or None: L^infinity.
        nats: L^n or L^infinity plus reconstruction.
        error: standard error of ``nats`` from the draws of times and noise (and of dynamic
            binarisation), from what a batch's mean varies by from pass to pass.  Graves et al.
            take the mean over all samples instead, whose few values tell little.
        reconstruction: the part L^r.
        spread: standard error from the choice of samples: standard deviation of their means over
            the root of their number; None for a single one.
        samples, passes: how many of each; ``repeats``: times drawn for a sample and pass.
        dimensions: elements of a sample.
    """

    n_steps: int | None
    nats: float
    error: float
    reconstruction: float
    spread: float | None
    samples: int
    passes: int
    repeats: int
    dimensions: int

    @property
    def bits_per_dimension(self) -> float:
        """Bits an element (a pixel's channel, a character)."""
        return self.nats / (self.dimensions * math.log(2))


class Subset:
    """The first samples of a part."""

    def __init__(self, samples: Samples, count: int) -> None:
        self._samples, self._count = samples, min(count, len(samples))

    def __len__(self) -> int:
        return self._count

    def take(self, index: np.ndarray, generator: torch.Generator) -> Tensor:
        """Return the samples of these numbers."""
        return self._samples.take(index, generator)


@torch.no_grad()
def measure_bound(
    model: BenchModel,
    samples: Samples,
    *,
    n_steps: int | None,
    passes: int = 8,
    repeats: int = 1,
    batch_size: int = 250,
    seed: int = 0,
    precision: str = "fp32",
    progress: Callable[[int, int], None] | None = None,
) -> Bound:
    """Estimate the bound over all samples, several times.

    Args:
        n_steps: n, or None for continuous time.
        passes: independent passes over the samples, at least 2.
        repeats: times drawn for a sample and pass, stratified, and states at t = 1.
        seed: of data noise, times and states.
        precision: "fp32" or "bf16" network calls.
        progress: called with (passes over a batch so far, in all).

    Raises:
        ValueError: fewer than 2 passes.
        UserError: the model has diverged.
    """
    if passes < 2:
        raise ValueError(f"an error needs at least 2 passes, got {passes}")
    device, predict = model.device, model.predictor()
    total = torch.zeros(len(samples), dtype=torch.float64)
    reconstructions: list[float] = []
    means: list[list[float]] = []  # [passes][batches]
    batches = math.ceil(len(samples) / batch_size)
    for number in range(passes):
        own = 2 * (seed * 1_000_003 + number) % 2**63
        draw = torch.Generator().manual_seed(own)
        noise = torch.Generator(device).manual_seed(own + 1)
        found, last = [], []
        for done, batch in enumerate(in_order(samples, batch_size, draw)):
            with autocast(precision, device):
                bound = likelihood_bound(
                    model.flows,
                    predict,
                    {"x": batch.to(device)},
                    n_steps=n_steps,
                    repeats=repeats,
                    generator=noise,
                )
            if not bool(bound.nats.isfinite().all()):
                raise UserError(
                    f"model {model.info.config.name}: the bound of some samples is not a finite "
                    f"number, as where weights have diverged"
                )
            found.append(bound.nats.cpu().double())
            last.append(bound.reconstruction["x"].cpu().double())
            if progress is not None:
                progress(number * batches + done + 1, passes * batches)
        nats = torch.cat(found)
        total += nats / passes
        means.append([float(part.mean()) for part in found])
        reconstructions.append(float(torch.cat(last).mean()))
    return Bound(
        n_steps=n_steps,
        nats=float(total.mean()),
        error=_error(torch.tensor(means), [len(part) for part in found]),
        reconstruction=statistics.mean(reconstructions),
        spread=float(total.std()) / math.sqrt(len(samples)) if len(samples) > 1 else None,
        samples=len(samples),
        passes=passes,
        repeats=repeats,
        dimensions=math.prod(model.shape),
    )


def _error(means: Tensor, sizes: Sequence[int]) -> float:
    """Return the standard error of the mean of all samples over all passes.

    Times are stratified within a batch, so that its mean is the smallest independent part.

    Args:
        means: [passes, batches].
        sizes: samples of each batch.
    """
    shares = torch.tensor(sizes) / sum(sizes)
    return float(torch.sqrt((shares.square() * means.var(0)).sum() / len(means)))


def _of_samples(bound: Bound) -> str:
    return "" if bound.spread is None else f" ± {bound.spread:.3f} (samples)"


def describe(bounds: Sequence[Bound], *, text: bool) -> list[str]:
    """Return a line for each bound."""
    unit = "bits/char" if text else "bits/dim"
    return [
        f"n = {'inf' if b.n_steps is None else b.n_steps:>5}  "
        f"{b.nats:10.3f} ± {b.error:.3f} (draws){_of_samples(b)} nats  "
        f"{b.bits_per_dimension:8.4f} {unit}  (reconstruction {b.reconstruction:.4f} nats)"
        for b in bounds
    ]
