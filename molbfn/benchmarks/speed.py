"""Speed of a benchmark's network as we run it against the same network run plainly.

Plain: float32, no compilation, convolutions in torch's default layout, attention written out as
softmax(q k) v.  Every round times every variant once, in an order that alternates from round to
round, so that slow drifts of the machine hit all of them; a ratio is the median of the rounds'.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from molbfn.benchmarks.hardware import wait
from molbfn.benchmarks.model import BenchModel
from molbfn.devices import autocast, choose_precision, compile_problem
from molbfn.errors import UserError

JOBS = ("training step", "network call")


@dataclass(frozen=True)
class Variant:
    """A way to run the network.

    Attributes:
        name: for the table.
        plain: default layout of convolutions, attention written out.
        precision: "fp32" or "bf16".
        compiled: through torch.compile.
    """

    name: str
    plain: bool
    precision: str
    compiled: bool


def variants(device: torch.device) -> tuple[Variant, ...]:
    """Return the ways to run a network, from plain to ours; with bf16 where it is not emulated."""
    precision = choose_precision("auto", device)
    half = Variant("and bf16", plain=False, precision="bf16", compiled=False)
    return (
        Variant("plain", plain=True, precision="fp32", compiled=False),
        Variant("channels last, fused attention", plain=False, precision="fp32", compiled=False),
        *((half,) if precision == "bf16" else ()),
        Variant("and compiled (ours)", plain=False, precision=precision, compiled=True),
    )


class DefaultLayout(TorchFunctionMode):
    """Gives every 2D convolution its input and weight in torch's default memory format."""

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: Mapping | None = None
    ) -> Any:
        if function is torch.nn.functional.conv2d:
            x, weight, *rest = args
            args = (x.contiguous(), weight.contiguous(), *rest)
        return function(*args, **(kwargs or {}))


def measure_speed(
    model: BenchModel,
    *,
    batch_size: int,
    rounds: int = 5,
    progress: Callable[[int, int, str], None] | None = None,
) -> list[Mapping[str, Any]]:
    """Return a row for each job and variant: samples a second and the gain over plain.

    A training step is the continuous-time loss of random data and its gradients, without the
    optimiser; a network call is one without gradients.  The weights are fresh copies.

    Args:
        progress: called with (done, in all, what).

    Raises:
        UserError: torch.compile does not work here.
    """
    device = model.device
    problem = compile_problem(device)
    if problem is not None:
        raise UserError(f"bench speed: torch.compile does not work here ({problem})")
    data = _random_data(model, batch_size)
    chosen = variants(device)
    networks = {v.name: _prepared(model.network, v) for v in chosen}
    seconds: dict[tuple[str, str], list[float]] = {
        (job, v.name): [] for job in JOBS for v in chosen
    }
    total = len(seconds) * (rounds + 1)
    done = 0
    for number in range(rounds + 1):  # the first round compiles and warms up
        order = chosen if number % 2 else tuple(reversed(chosen))
        for job in JOBS:
            for variant in order:
                call = _training_step if job == JOBS[0] else _network_call
                networks[variant.name].train(job == JOBS[0])
                with _context(variant, device):
                    wait(str(device))
                    start = time.perf_counter()
                    call(model, networks[variant.name], data)
                    wait(str(device))
                    taken = time.perf_counter() - start
                if number:
                    seconds[job, variant.name].append(taken)
                done += 1
                if progress is not None:
                    progress(done, total, f"{job}, {variant.name}")
    return [_row(job, variant, seconds, batch_size) for job in JOBS for variant in chosen]


def _row(
    job: str, variant: Variant, seconds: Mapping[tuple[str, str], list[float]], batch_size: int
) -> Mapping[str, Any]:
    own, plain = seconds[job, variant.name], seconds[job, "plain"]
    gains = [p / s for p, s in zip(plain, own, strict=True)]
    return {
        "job": job,
        "variant": variant.name,
        "precision": variant.precision,
        "batch_size": batch_size,
        "samples_per_second": batch_size / statistics.median(own),
        "gain": statistics.median(gains),
        "gain_min": min(gains),
        "gain_max": max(gains),
    }


def _prepared(network: nn.Module, variant: Variant) -> nn.Module:
    network = copy.deepcopy(network)
    if variant.compiled:
        network.compile(dynamic=False)
    return network


def _context(variant: Variant, device: torch.device) -> AbstractContextManager:
    stack = ExitStack()
    if variant.plain:
        stack.enter_context(DefaultLayout())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
    stack.enter_context(autocast(variant.precision, device))
    return stack


def _random_data(model: BenchModel, batch_size: int) -> Tensor:
    """Return data of the right form: zeros would do, only shapes matter."""
    shape = (batch_size, *model.shape)
    if model.info.config.flow.kind == "continuous":
        return torch.zeros(shape, device=model.device)
    return torch.zeros(shape, dtype=torch.int64, device=model.device)


def _training_step(model: BenchModel, network: nn.Module, data: Tensor) -> None:
    t = torch.linspace(0.05, 0.95, len(data), device=data.device)
    times = model.flows.times(t)
    states = model.flows.sample({"x": data}, times)
    outputs = model.flows.predictor(network)(states, times)
    loss = model.flows.continuous_time_loss({"x": data}, outputs, times)["x"].mean()
    loss.backward()
    network.zero_grad()


@torch.no_grad()
def _network_call(model: BenchModel, network: nn.Module, data: Tensor) -> None:
    t = torch.full((len(data),), 0.5, device=data.device)
    times = model.flows.times(t)
    states = model.flows.sample({"x": data}, times)
    network(model.flows.inputs(states, times), times, None)
