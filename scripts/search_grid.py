"""Find the time grids that cost a trained model the fewest nats, and print them as knots.

    python scripts/search_grid.py qm9 --steps 10 20 50 100 --molecules 512

Measures the error of every variable at many times on held-out molecules, then takes the cheapest
grid for each number of steps (`bfn_core.schedule_search`).  For a model trained with `decoupled`
times also the cheapest path through the square of the positions' times and those of everything
else, beside the control: classes at a power of the positions' time.  Compare samples before
believing any of it: `scripts/measure_samples.py MODEL --scheme "{knots: ..., class_knots: ...}"`.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
import torch

from bfn_core.schedule_search import cheapest_grid, cheapest_path
from molbfn.data.batching import Gather, MoleculeBatch, bucket_of
from molbfn.data.store import MoleculeStore
from molbfn.data.topology import with_topology
from molbfn.devices import autocast, choose_device, choose_precision
from molbfn.errors import run_script
from molbfn.model import MoleculeModel, load_model


def main() -> None:
    """Measure, search, print."""
    arguments = _arguments()
    model = load_model(arguments.model, device=choose_device(arguments.device))
    times = torch.linspace(0, 1, arguments.grid, dtype=torch.float64)
    batches = held_out(model, arguments)
    errors = measure_errors(model, times, batches)
    print("time  " + "  ".join(errors))
    for k in range(0, len(times), max(1, len(times) // 16)):
        values = "  ".join(f"{float(errors[name][k]):.4g}" for name in errors)
        print(f"{float(times[k]):.3f}  {values}")
    costs = step_costs(model, times, errors)
    for steps in arguments.steps:
        path = cheapest_grid(costs, steps=steps)
        nats = sum(float(costs[i, k]) for i, k in itertools.pairwise(path))
        uniform = uniform_cost(costs, steps)
        knots = _knots(times, path)
        print(f"{steps} steps: {nats:.3f} nats an atom (uniform {uniform:.3f}); knots: {knots}")
    if model.info.config.decoupled:
        search_paths(model, batches, arguments)


def search_paths(
    model: MoleculeModel, batches: dict[int, MoleculeBatch], arguments: argparse.Namespace
) -> None:
    """Print the cheapest path of two times for each number of steps, and power warps beside it."""
    times = torch.linspace(0, 1, arguments.square, dtype=torch.float64)
    errors, beta = measure_square(model, times, batches)
    for steps in arguments.steps:
        if steps >= len(times):
            print(f"{steps} steps: give --square more than {steps} times")
            continue
        found = cheapest_path(*errors, *beta, steps=steps, reach=arguments.reach)
        print(
            f"{steps} steps, two times: {found.cost:.3f} nats an atom; "
            f"knots: {_knots(times, found.first)}; class_knots: {_knots(times, found.second)}"
        )
        for power in (0.5, 0.7, 1.0, 1.4, 2.0):
            cost = warp_cost(errors, beta, steps=steps, power=power)
            print(f"  control, class time = position time ^ {power}: {cost:.3f} nats an atom")


def warp_cost(
    errors: tuple[torch.Tensor, torch.Tensor],
    beta: tuple[torch.Tensor, torch.Tensor],
    *,
    steps: int,
    power: float,
) -> float:
    """Return the cost of uniform steps in the positions' time with the classes at its power."""
    last = len(beta[0]) - 1
    walk = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    first = (walk * last).round().long().tolist()
    second = (walk**power * last).round().long().tolist()
    total = 0.0
    for (i, j), (k, m) in itertools.pairwise(zip(first, second, strict=True)):
        total += float(errors[0][i, j] * (beta[0][k] - beta[0][i]))
        total += float(errors[1][i, j] * (beta[1][m] - beta[1][j]))
    return total


def _knots(times: torch.Tensor, path: tuple[int, ...]) -> list[list[float]]:
    steps = len(path) - 1
    return [[round(k / steps, 4), round(float(times[path[k]]), 4)] for k in range(1, steps)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name of a bundled model, or a model folder")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 50])
    parser.add_argument("--grid", type=int, default=101, help="times measured")
    parser.add_argument(
        "--square", type=int, default=21, help="times of each group, for decoupled models"
    )
    parser.add_argument("--reach", type=int, help="most such times a step may pass; default: any")
    parser.add_argument("--molecules", type=int, default=512)
    parser.add_argument("--data", help="default: what the model was trained on")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def measure_errors(
    model: MoleculeModel, times: torch.Tensor, batches: dict[int, MoleculeBatch]
) -> dict[str, torch.Tensor]:
    """Return for each variable the factor of d(beta) in the bound, nats an atom, [G]."""
    found = [
        factors(model, dict.fromkeys(model.flows, t), batches) for t in times.tolist()
    ]  # fmt: skip
    return {
        name: torch.tensor([f[name] for f in found], dtype=torch.float64) for name in model.flows
    }


def measure_square(
    model: MoleculeModel, times: torch.Tensor, batches: dict[int, MoleculeBatch]
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Return errors [G, G] and accuracies [G] of the positions, and of all else together.

    The classes' accuracies are all proportional to ``t^2``: their errors are added with
    ``beta_1`` as weight, and the common accuracy is ``t^2``.
    """
    schedules = {name: flow.schedule for name, flow in model.flows.flows.items()}
    one = torch.ones(1, dtype=torch.float64)
    count = len(times)
    first, second = torch.zeros(2, count, count, dtype=torch.float64)
    for i, t in enumerate(times.tolist()):
        for j, u in enumerate(times.tolist()):
            now = {name: t if name == "positions" else u for name in model.flows}
            found = factors(model, now, batches)
            first[i, j] = found.pop("positions")
            second[i, j] = sum(f * float(schedules[name].beta(one)) for name, f in found.items())
    return (first, second), (schedules["positions"].beta(times), times**2)


@torch.inference_mode()
def factors(
    model: MoleculeModel, times: dict[str, float], batches: dict[int, MoleculeBatch]
) -> dict[str, float]:
    """Return each variable's factor of d(beta) in the bound at these times, nats an atom."""
    precision = choose_precision("auto", model.device)
    totals, atoms = dict.fromkeys(model.flows, 0.0), 0
    for bucket, batch in batches.items():
        atoms += int(batch.mask.sum())
        data, masks = model.encode(batch), model.masks(batch.mask)
        generator = torch.Generator(device=model.device).manual_seed(bucket)
        now = {
            name: torch.full((len(batch.mask),), t, device=model.device)
            for name, t in times.items()
        }
        states = model.flows.sample(data, now, mask=masks, generator=generator)
        with autocast(precision, model.device):
            outputs = model.predictor(batch.mask)(states, now)
        for name, flow in model.flows.flows.items():
            # The loss is the factor times d(beta)/dt, so dividing by that leaves the factor.
            one = torch.ones_like(now[name])
            losses = flow.continuous_time_loss(data[name], outputs[name], one, mask=masks[name])
            totals[name] += float(losses.sum() / flow.schedule.rate(one[:1]))
    return {name: total / atoms for name, total in totals.items()}


def held_out(model: MoleculeModel, arguments: argparse.Namespace) -> dict[int, MoleculeBatch]:
    """Return padded size -> batch of the held-out molecules."""
    config = model.info.config
    store = MoleculeStore.open(arguments.data or config.data.source)
    if config.has_topology:
        store, _ = with_topology(store)
    store = store.subset(config.data.validation_split)
    store = store.subset(store.made_of(model.vocabulary))
    chosen = np.random.default_rng(0).permutation(len(store))[: arguments.molecules]
    gather = Gather(store, model.vocabulary, topology=config.has_topology)
    sizes = np.array([bucket_of(size, model.info.buckets) for size in store.sizes[chosen]])
    return {
        int(size): gather(chosen[sizes == size], int(size)).to(model.device)
        for size in np.unique(sizes)
    }


def step_costs(
    model: MoleculeModel, times: torch.Tensor, errors: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Return the cost of a step between any two times, nats an atom, [G, G]."""
    total = torch.zeros(len(times), len(times), dtype=torch.float64)
    for name, flow in model.flows.flows.items():
        beta = flow.schedule.beta(times)
        total += errors[name][:, None] * (beta[None] - beta[:, None])
    return total


def uniform_cost(costs: torch.Tensor, steps: int) -> float:
    """Return the cost of (about) uniform steps, for comparison."""
    path = torch.linspace(0, len(costs) - 1, steps + 1).round().long().tolist()
    return sum(float(costs[i, k]) for i, k in itertools.pairwise(path))


if __name__ == "__main__":
    run_script(main)
