"""Measure molecules drawn from a data set with replacement, as a perfect model of it would draw.

    python scripts/measure_data.py qm9 --split train -n 10000 --seeds 0 1 2

Figures such as valid x unique depend on how many molecules there are to draw from: what a model
that has learned a data set to perfection would get is less than the data set's own.  Prints one
line for each seed and the mean and standard deviation over them, per cent.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np

from molbfn.data.store import MoleculeStore
from molbfn.data.topology import with_topology
from molbfn.errors import run_script
from molbfn.evaluation.run import evaluate


def main() -> None:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="data set, such as qm9")
    parser.add_argument("--split", help="train, valid or test; default: all of it")
    parser.add_argument("-n", type=int, default=10_000, help="molecules of each draw")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--protocol", nargs="+", default=["edm", "bonds"])
    options = parser.parse_args()
    store, _ = with_topology(MoleculeStore.open(options.data))
    if options.split:
        store = store.subset(options.split)
    found: dict[str, list[float]] = {}
    print(f"{options.n} of {len(store)} molecules, with replacement")
    for seed in options.seeds:
        rows = np.random.default_rng(seed).integers(len(store), size=options.n)
        drawn = (store.molecule(int(row)) for row in rows)
        metrics = evaluate(drawn, protocols=options.protocol, seed=0).metrics
        for metric in metrics:
            if metric.value is not None:
                found.setdefault(metric.name, []).append(100 * metric.value)
        last = ", ".join(f"{name} {values[-1]:.1f}" for name, values in found.items())
        print(f"seed {seed}: {last}", flush=True)
    for name, values in found.items():
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        print(f"{name}: {statistics.mean(values):.1f}{spread}")


if __name__ == "__main__":
    run_script(main)
