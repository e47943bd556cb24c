"""Find the time grids that cost a trained model the fewest nats, and print them as knots.

    python scripts/search_grid.py qm9 --steps 10 20 50 100 --molecules 512

Measures the error of every variable at many times on held-out molecules, then takes the cheapest
grid for each number of steps (`bfn_core.schedule_search`).  Compare samples before believing it:
`scripts/measure_samples.py MODEL --scheme '{knots: [...]}'`.
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np
import torch

from bfn_core.schedule_search import cheapest_grid
from molbfn.data.batching import Gather, bucket_of
from molbfn.data.store import MoleculeStore
from molbfn.data.topology import with_topology
from molbfn.devices import autocast, choose_device, choose_precision
from molbfn.model import MoleculeModel, load_model


def main() -> None:
    """Measure, search, print."""
    arguments = _arguments()
    model = load_model(arguments.model, device=choose_device(arguments.device))
    times = torch.linspace(0, 1, arguments.grid, dtype=torch.float64)
    errors = measure_errors(model, times, arguments)
    print("time  " + "  ".join(errors))
    for k in range(0, len(times), max(1, len(times) // 16)):
        values = "  ".join(f"{float(errors[name][k]):.4g}" for name in errors)
        print(f"{float(times[k]):.3f}  {values}")
    costs = step_costs(model, times, errors)
    for steps in arguments.steps:
        path = cheapest_grid(costs, steps=steps)
        nats = sum(float(costs[i, k]) for i, k in itertools.pairwise(path))
        uniform = uniform_cost(costs, steps)
        knots = [[round(k / steps, 4), round(float(times[path[k]]), 4)] for k in range(1, steps)]
        print(f"{steps} steps: {nats:.3f} nats an atom (uniform {uniform:.3f}); knots: {knots}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name of a bundled model, or a model folder")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 20, 50])
    parser.add_argument("--grid", type=int, default=101, help="times measured")
    parser.add_argument("--molecules", type=int, default=512)
    parser.add_argument("--data", help="default: what the model was trained on")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


@torch.inference_mode()
def measure_errors(
    model: MoleculeModel, times: torch.Tensor, arguments: argparse.Namespace
) -> dict[str, torch.Tensor]:
    """Return for each variable the factor of d(beta) in the bound, nats an atom, [G]."""
    config = model.info.config
    store = MoleculeStore.open(arguments.data or config.data.source)
    if config.has_topology:
        store, _ = with_topology(store)
    store = store.subset(config.data.validation_split)
    chosen = np.random.default_rng(0).permutation(len(store))[: arguments.molecules]
    gather = Gather(store, model.vocabulary, topology=config.has_topology)
    precision = choose_precision("auto", model.device)
    totals = {name: torch.zeros(len(times), dtype=torch.float64) for name in model.flows}
    atoms = int(store.sizes[chosen].sum())
    buckets = np.array([bucket_of(size, model.info.buckets) for size in store.sizes[chosen]])
    for bucket in np.unique(buckets):
        batch = gather(chosen[buckets == bucket], int(bucket)).to(model.device)
        data, masks = model.encode(batch), model.masks(batch.mask)
        generator = torch.Generator(device=model.device).manual_seed(int(bucket))
        for k, t in enumerate(times.tolist()):
            now = model.flows.times(torch.full((len(batch.mask),), t, device=model.device))
            states = model.flows.sample(data, now, mask=masks, generator=generator)
            with autocast(precision, model.device):
                outputs = model.predictor(batch.mask)(states, now)
            for name, flow in model.flows.flows.items():
                # The loss is the factor times d(beta)/dt, so dividing by that leaves the factor.
                one = torch.ones_like(now[name])
                losses = flow.continuous_time_loss(data[name], outputs[name], one, mask=masks[name])
                totals[name][k] += float(losses.sum() / flow.schedule.rate(one[:1])) / atoms
    return totals


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
    main()
