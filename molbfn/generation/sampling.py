"""From a model to raw molecules.

Each molecule has its own random numbers, seeded by (seed, index), and is padded to a size that
depends on its own number of atoms only.  So molecule ``index`` is the same whatever the batch size
and however many are asked for, up to the rounding of the floating-point sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from bfn_core import sample_steps
from bfn_core.sampling.loop import SampleStep
from molbfn.chem.bonds import bond_list, bond_orders, elements_in_table
from molbfn.chem.molecule import Molecule
from molbfn.chem.records import PROBLEM
from molbfn.chem.trajectory import Frame
from molbfn.devices import autocast, lacks_memory
from molbfn.errors import UserError
from molbfn.generation.plan import SamplingPlan
from molbfn.model import DecodedBatch, MoleculeModel
from molbfn.seeds import numbered_seed

_T = TypeVar("_T")

OnCall = Callable[[int], None]
"""Called after each network call with the number of molecules in the batch."""


@dataclass(frozen=True)
class Watch:
    """Which molecules to follow, and who is told."""

    indices: range
    on_frame: Callable[[Frame], None]
    """called with the frames in the order in which they are made"""


NOT_FINITE = "coordinates not finite"
"""Value of the property `PROBLEM` where they were not finite numbers; they are then all zero."""

GENERATED = "model"
"""Value of the property ``bond_route`` where the model generated the bonds."""

AGREEMENT = "geometry_bonds"
"""Property of a molecule with generated bonds: what EDM's distance rule makes of its coordinates:
the "same" bonds, "other orders" between the same atoms (in aromatic rings and charged groups that
is no fault), "different" pairs of atoms, or "unknown" for elements that the rule does not have."""

_PAIRS = {"cpu": 40_000, "cuda": 2_000_000, "mps": 400_000}
"""Pairs of atoms a batch may have, when its size is chosen automatically."""

_AHEAD = {"cpu": 256, "cuda": 8192, "mps": 1024}
"""Molecules at most whose sizes are drawn ahead, to be grouped into batches of one padded size.  An
interruption loses those of them that were made before a lower number was."""

_BATCHES_AHEAD = 8  # of a typical size; enough of them that most are full


def generate_raw(
    model: MoleculeModel,
    plan: SamplingPlan,
    indices: range,
    *,
    seed: int = 0,
    on_call: OnCall | None = None,
    watch: Watch | None = None,
) -> Iterator[Molecule]:
    """Yield the molecules of ``indices`` in order, with bonds only if the model generates them.

    Each comes as soon as it and all before it are made.
    Generated bonds come with the properties ``bond_route`` ("model") and :data:`AGREEMENT`.  A
    molecule whose coordinates are not finite has zeros instead, and the property :data:`PROBLEM`.
    ``watch`` shows the frames of some molecules and changes none of them.
    """
    if plan.compile:
        model.compile_blocks(dynamic=True)
    ahead = stretch_length(model, plan)
    for begin in range(0, len(indices), ahead):
        chunk = indices[begin : begin + ahead]
        made: dict[int, Molecule] = {}
        for batch in _batches(model, plan, chunk, seed):
            data = _sample_batch(model, plan, batch, on_call, watch)
            made.update(zip(batch.indices, _molecules(model, plan, batch, seed, data), strict=True))
            while chunk and chunk[0] in made:
                yield made.pop(chunk[0])
                chunk = chunk[1:]


def stretch_length(model: MoleculeModel, plan: SamplingPlan) -> int:
    """Return how many consecutive molecules are grouped into batches together."""
    most = _AHEAD.get(model.device.type, _AHEAD["cpu"])
    typical = _batch_limit(model, plan, model.padded_size(plan.sizes.at(0.5)))
    return max(min(most, _BATCHES_AHEAD * typical), 4 * (plan.batch_size or 0))


def _batch_limit(model: MoleculeModel, plan: SamplingPlan, padded: int) -> int:
    """Return how many molecules of one padded size a batch may have."""
    pairs = _PAIRS.get(model.device.type, _PAIRS["cpu"])
    return plan.batch_size or max(1, pairs // padded**2)


@dataclass(frozen=True)
class _Batch:
    """Molecules of one padded size, each with its generator (already used for the size)."""

    indices: tuple[int, ...]
    sizes: tuple[int, ...]
    generators: tuple[torch.Generator, ...]
    padded: int


def _batches(
    model: MoleculeModel, plan: SamplingPlan, indices: Sequence[int], seed: int
) -> list[_Batch]:
    """Return the batches, those that hold lower indices first."""
    groups: dict[int, list[tuple[int, int, torch.Generator]]] = {}
    for index in indices:
        generator = torch.Generator().manual_seed(numbered_seed(seed, index))
        size = plan.sizes.at(float(torch.rand((), generator=generator, dtype=torch.float64)))
        groups.setdefault(model.padded_size(size), []).append((index, size, generator))
    batches = [
        _Batch(*(tuple(column) for column in zip(*part, strict=True)), padded=padded)
        for padded, members in groups.items()
        for part in _even_parts(members, _batch_limit(model, plan, padded))
    ]
    return sorted(batches, key=lambda batch: batch.indices[0])


def _even_parts(items: Sequence[_T], limit: int) -> Iterator[Sequence[_T]]:
    """Divide into as few parts as the limit allows, of sizes that differ by one at most."""
    count = -(-len(items) // limit)
    for part in range(count):
        yield items[part * len(items) // count : (part + 1) * len(items) // count]


@torch.inference_mode()
def _sample_batch(
    model: MoleculeModel,
    plan: SamplingPlan,
    batch: _Batch,
    on_call: OnCall | None,
    watch: Watch | None,
) -> DecodedBatch:
    """Return the molecules of a batch as dense arrays on the CPU."""
    device, count = model.device, len(batch.indices)
    sizes = torch.tensor(batch.sizes, device=device)
    mask = torch.arange(batch.padded, device=device)[None] < sizes[:, None]
    network = _in_precision(model.network, lambda: autocast(plan.precision, device))
    outputs: Mapping[str, object] = {}
    # A batch of one would be compiled for separately.
    plain = torch.compiler.set_stance("force_eager") if plan.compile and count == 1 else None
    with _memory_errors(count, batch.padded, device), plain or nullcontext():
        for step in sample_steps(
            model.flows,
            model.sampling_predictor(mask, network),
            model.shapes(count, batch.padded),
            grid=plan.grid,
            sampler=plan.sampler,
            mask=model.masks(mask),
            generator=batch.generators,
            device=str(device),
        ):
            outputs = step.outputs
            if watch is not None:
                _show_frames(model, batch, step, watch)
            if on_call is not None:
                on_call(count)
    return _decoded(model, outputs)


def _decoded(model: MoleculeModel, outputs: Mapping[str, object]) -> DecodedBatch:
    data = {name: flow.decode(outputs[name]) for name, flow in model.flows.flows.items()}
    return model.decode(data).cpu()


def _show_frames(model: MoleculeModel, batch: _Batch, step: SampleStep, watch: Watch) -> None:
    rows = [row for row, index in enumerate(batch.indices) if index in watch.indices]
    if not rows:
        return
    data, times = _decoded(model, step.outputs), step.times["positions"]
    for row in rows:
        own = slice(0, batch.sizes[row])
        positions, finite = _finite(data.positions[row, own].numpy())
        estimate = Molecule(
            data.atomic_numbers[row, own].numpy(),
            positions,
            properties={} if finite else {PROBLEM: NOT_FINITE},
        )
        frame = Frame(batch.indices[row], step.index, step.calls, float(times[row]), estimate)
        watch.on_frame(frame)


def _finite(positions: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the positions, zeros in their place if they are not finite, and whether they are.

    A file cannot hold NaN, and dropping the molecule would flatter the model.
    """
    finite = bool(np.isfinite(positions).all())
    return (positions if finite else np.zeros_like(positions)), finite


def _molecules(
    model: MoleculeModel, plan: SamplingPlan, batch: _Batch, seed: int, data: DecodedBatch
) -> Iterator[Molecule]:
    for row, (index, size) in enumerate(zip(batch.indices, batch.sizes, strict=True)):
        properties: dict[str, str | int | float] = {
            "model": model.name,
            "seed": seed,
            "index": index,
            "steps": plan.steps,
            "network_calls": plan.calls,
            "sampler": plan.sampler_name,
        }
        positions, finite = _finite(data.positions[row, :size].numpy())
        if not finite:
            properties[PROBLEM] = NOT_FINITE
        molecule = Molecule(
            atomic_numbers=data.atomic_numbers[row, :size].numpy(),
            positions=positions,
            formal_charges=None if data.charges is None else data.charges[row, :size].numpy(),
            bonds=None if data.bonds is None else bond_list(data.bonds[row, :size, :size].numpy()),
            title=f"{model.name}-{seed}-{index}",
            properties=properties,
        )
        if molecule.bonds is not None:
            found = {AGREEMENT: agreement(molecule)}
            molecule = molecule.with_properties(bond_route=GENERATED, **found)
        yield molecule


def agreement(molecule: Molecule) -> str:
    """Return what EDM's distance rule makes of a molecule with bonds, see :data:`AGREEMENT`."""
    assert molecule.bonds is not None
    numbers = molecule.atomic_numbers
    if not elements_in_table(numbers).all():
        return "unknown"
    stated = np.zeros((len(numbers), len(numbers)), dtype=np.int64)
    stated[tuple(molecule.bonds[:, :2].T)] = molecule.bonds[:, 2]
    stated += stated.T
    by_distance = bond_orders(numbers, molecule.positions)
    if np.array_equal(by_distance, stated):
        return "same"
    return "other orders" if np.array_equal(by_distance > 0, stated > 0) else "different"


@contextmanager
def _memory_errors(count: int, atoms: int, device: torch.device) -> Iterator[None]:
    """Turn a lack of memory into a UserError."""
    try:
        yield
    except RuntimeError as error:
        if not lacks_memory(error):
            raise
        raise UserError(
            f"--batch-size: {count} molecules of {atoms} atoms do not fit into the memory of "
            f"{device}; give a smaller one, such as {max(1, count // 4)}"
        ) from None


def _in_precision(
    network: torch.nn.Module, context: Callable[[], AbstractContextManager]
) -> Callable[..., dict[str, Tensor]]:
    def call(*arguments: object) -> dict[str, Tensor]:
        with context():
            return network(*arguments)

    return call
