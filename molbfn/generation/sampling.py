"""From a model to molecules.

Each molecule has its own random numbers, seeded by (seed, index), and is padded to a size that
depends on its own number of atoms only.  So molecule ``index`` is the same whatever the batch size
and however many are asked for, up to the rounding of the floating-point sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch

from bfn_core import (
    ObservationSampler,
    bayesian_sampler,
    piecewise_grid,
    renoise_sampler,
    sample_steps,
    window_sampler,
)
from molbfn.chem.molecule import Molecule
from molbfn.chem.perception import BondPerceiver, PerceivedMolecule
from molbfn.devices import Precision, autocast, choose_precision
from molbfn.errors import UserError
from molbfn.generation.sizes import SizeDistribution, choose_sizes
from molbfn.model import MoleculeModel

_T = TypeVar("_T")

_PAIRS = {"cpu": 40_000, "cuda": 2_000_000, "mps": 400_000}
"""Pairs of atoms a batch may have, when its size is chosen automatically."""

_CHUNK = 1024
"""Molecules whose sizes are drawn ahead, to be grouped into batches of one padded size."""


@dataclass(frozen=True)
class GenerationOptions:
    """How to sample; None means what is stored with the model.

    Attributes:
        steps: sampling steps; the network is called once more at the end.
        sampler: "renoise", "bayesian" or "window".
        window: steps replaced, for "window".
        temperature: multiplies the variance of the sender's noise.
        num_atoms: None (training histogram), 18, "18" or "15-20".
        batch_size: molecules a network call, or "auto".
        precision: of network calls; "auto" is bf16 where the hardware has it.
    """

    steps: int | None = None
    sampler: Literal["renoise", "bayesian", "window"] | None = None
    window: int | None = None
    temperature: float | None = None
    num_atoms: str | int | None = None
    batch_size: int | Literal["auto"] = "auto"
    precision: Precision = "auto"


@dataclass(frozen=True)
class SamplingPlan:
    """Options resolved against a model.

    Attributes:
        steps: sampling steps.
        sampler_name: as in :class:`GenerationOptions`.
        sampler: the sampler itself.
        grid: times [steps + 1].
        sizes: distribution of the number of atoms.
        batch_size: molecules a call, or None to choose by the number of atoms.
        precision: of network calls.
    """

    steps: int
    sampler_name: str
    sampler: ObservationSampler
    grid: torch.Tensor
    sizes: SizeDistribution
    batch_size: int | None
    precision: Literal["fp32", "bf16"]

    @property
    def calls(self) -> int:
        """Network calls a molecule."""
        return self.steps * self.sampler.calls_per_step + 1


def plan_sampling(model: MoleculeModel, options: GenerationOptions) -> SamplingPlan:
    """Resolve options against the model's stored settings.

    Raises:
        UserError: a value out of range (names the option).
    """
    stored = model.info.config.sampling
    steps = stored.steps if options.steps is None else options.steps
    if steps < 1:
        raise UserError(f"--steps {steps}: must be at least 1")
    temperature = stored.temperature if options.temperature is None else options.temperature
    if not (math.isfinite(temperature) and temperature >= 0):
        raise UserError(f"--temperature {temperature}: must be a number of at least 0")
    if options.batch_size != "auto" and options.batch_size < 1:
        raise UserError(f"--batch-size {options.batch_size}: must be at least 1, or auto")
    name = options.sampler or stored.sampler
    window = options.window or stored.window
    if name == "renoise":
        sampler = renoise_sampler(draw=stored.draw, temperature=temperature)
    elif name == "bayesian":
        sampler = bayesian_sampler(temperature=temperature)
    elif name == "window":
        if window is None or window < 1:
            raise UserError("--sampler window needs --window, a number of steps of at least 1")
        sampler = window_sampler(window, temperature=temperature)
    else:
        raise UserError(f"--sampler {name}: use renoise, bayesian or window")
    return SamplingPlan(
        steps=steps,
        sampler_name=name,
        sampler=sampler,
        grid=piecewise_grid(steps, stored.knots),
        sizes=choose_sizes(options.num_atoms, model.info.sizes),
        batch_size=None if options.batch_size == "auto" else options.batch_size,
        precision=choose_precision(options.precision, model.device),
    )


def generate(
    model: MoleculeModel,
    n: int,
    *,
    seed: int = 0,
    start: int = 0,
    bonds: bool = True,
    options: GenerationOptions | None = None,
    on_call: Callable[[int], None] | None = None,
    **overrides: object,
) -> Iterator[Molecule]:
    """Yield molecules ``start`` to ``start + n - 1`` in order.

    Args:
        model: a loaded model; it computes on the device it is on.
        n: how many.
        seed: of all random numbers.
        start: index of the first.
        bonds: perceive bonds and formal charges with RDKit in a worker process (property
            ``bond_route`` says how); otherwise the molecules carry coordinates only.
        options: how to sample; or give its fields as keywords (``steps=20``).
        on_call: called after each network call with the number of molecules in the batch.

    Raises:
        UserError: n below 1, or unusable options.
    """
    if overrides:
        if options is not None:
            raise TypeError("give either options or its fields, not both")
        options = GenerationOptions(**overrides)  # type: ignore[arg-type]
    plan = plan_sampling(model, options or GenerationOptions())
    check_count(n)
    molecules = generate_raw(model, plan, range(start, start + n), seed=seed, on_call=on_call)
    return _perceived(molecules) if bonds else molecules


def check_count(n: int) -> None:
    """Refuse a number of molecules that is not positive."""
    if n < 1:
        raise UserError(f"-n {n}: the number of molecules must be at least 1")


def _perceived(molecules: Iterator[Molecule]) -> Iterator[Molecule]:
    with BondPerceiver() as perceiver:
        for perceived in perceiver.perceive_many(molecules):
            yield with_route(perceived)


def with_route(perceived: PerceivedMolecule) -> Molecule:
    """Return the molecule with its bonds, and the property that says where they come from."""
    return perceived.molecule.with_properties(bond_route=perceived.route)


def generate_raw(
    model: MoleculeModel,
    plan: SamplingPlan,
    indices: range,
    *,
    seed: int = 0,
    on_call: Callable[[int], None] | None = None,
) -> Iterator[Molecule]:
    """Yield the molecules of ``indices`` in order, without bonds."""
    for chunk in _in_parts(indices, _CHUNK):
        made: dict[int, Molecule] = {}
        for batch in _batches(model, plan, chunk, seed):
            for molecule_index, molecule in zip(
                batch.indices, _sample_batch(model, plan, batch, seed, on_call), strict=True
            ):
                made[molecule_index] = molecule
        for index in chunk:
            yield made[index]


@dataclass(frozen=True)
class _Batch:
    """Molecules of one padded size, each with its generator (already used for the size)."""

    indices: tuple[int, ...]
    sizes: tuple[int, ...]
    generators: tuple[torch.Generator, ...]
    padded: int


def _batches(
    model: MoleculeModel, plan: SamplingPlan, indices: Sequence[int], seed: int
) -> Iterator[_Batch]:
    groups: dict[int, list[tuple[int, int, torch.Generator]]] = {}
    for index in indices:
        generator = torch.Generator().manual_seed(molecule_seed(seed, index))
        size = plan.sizes.at(float(torch.rand((), generator=generator, dtype=torch.float64)))
        groups.setdefault(model.padded_size(size), []).append((index, size, generator))
    for padded, members in sorted(groups.items()):
        limit = plan.batch_size or max(1, _PAIRS[model.device.type] // padded**2)
        for part in _in_parts(members, limit):
            yield _Batch(*(tuple(column) for column in zip(*part, strict=True)), padded=padded)


@torch.inference_mode()
def _sample_batch(
    model: MoleculeModel,
    plan: SamplingPlan,
    batch: _Batch,
    seed: int,
    on_call: Callable[[int], None] | None,
) -> list[Molecule]:
    device, count = model.device, len(batch.indices)
    sizes = torch.tensor(batch.sizes, device=device)
    mask = torch.arange(batch.padded, device=device)[None] < sizes[:, None]
    network = _in_precision(model.network, lambda: autocast(plan.precision, device))
    outputs = None
    for step in sample_steps(
        model.flows,
        model.flows.predictor(network, mask),
        model.shapes(count, batch.padded),
        grid=plan.grid,
        sampler=plan.sampler,
        mask=mask,
        generator=batch.generators,
        device=str(device),
    ):
        outputs = step.outputs
        if on_call is not None:
            on_call(count)
    assert outputs is not None
    modes = {name: flow.mode(outputs[name]) for name, flow in model.flows.flows.items()}
    positions, numbers = model.decode(modes)
    positions, numbers = positions.float().cpu().numpy(), numbers.cpu().numpy()
    return [
        Molecule(
            atomic_numbers=numbers[row, :size],
            positions=positions[row, :size],
            title=f"{model.name}-{seed}-{index}",
            properties={
                "model": model.name,
                "seed": seed,
                "index": index,
                "steps": plan.steps,
                "network_calls": plan.calls,
                "sampler": plan.sampler_name,
            },
        )
        for row, (index, size) in enumerate(zip(batch.indices, batch.sizes, strict=True))
    ]


def _in_parts(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def _in_precision(
    network: torch.nn.Module, context: Callable[[], AbstractContextManager] = nullcontext
) -> Callable[..., dict[str, torch.Tensor]]:
    def call(*arguments: object) -> dict[str, torch.Tensor]:
        with context():
            return network(*arguments)

    return call


def molecule_seed(seed: int, index: int) -> int:
    """Return the 32-bit seed of one molecule.

    torch's CPU generator keeps 32 bits of a seed, so a hash of (seed, index) would repeat itself
    among 100,000 molecules.  This is a bijection of the index for any one seed: none repeats.
    """
    mixed = (_mix(seed & 0xFFFFFFFF) + _mix((seed >> 32) & 0xFFFFFFFF) + index) & 0xFFFFFFFF
    return _mix(mixed)


def _mix(x: int) -> int:
    """A bijection of 32-bit integers that scatters neighbours (MurmurHash3's finaliser)."""
    x ^= x >> 16
    x = (x * 0x85EBCA6B) & 0xFFFFFFFF
    x ^= x >> 13
    x = (x * 0xC2B2AE35) & 0xFFFFFFFF
    return x ^ (x >> 16)
