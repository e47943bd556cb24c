"""Copy a trained benchmark model into the package, its weights in bfloat16 or rounded to bytes.

    python scripts/bundle_bench_model.py runs/bench/mnist_small/model

What is measured afterwards (`molbfn bench eval mnist_small`) is the rounded model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import molbfn
from molbfn.benchmarks.model import load_bench_model
from molbfn.errors import run_script
from molbfn.rounding import round_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--output", type=Path, help="default: molbfn/weights/bench/NAME")
    parser.add_argument("--bytes", action="store_true", help="matrices as int8 (molbfn.rounding)")
    options = parser.parse_args()
    model = load_bench_model(options.model)
    weights = model.network.state_dict()
    if options.bytes:
        weights = round_weights(weights)
    else:
        weights = {
            name: value.bfloat16() if value.is_floating_point() else value
            for name, value in weights.items()
        }
    package = Path(molbfn.__file__).parent
    folder = options.output or package / "weights" / "bench" / model.info.config.name
    model.save(folder, weights=weights)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    run_script(main)
