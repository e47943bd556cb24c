"""Measure a model's samples over settings and seeds, and write the table of its model card.

    python scripts/measure_samples.py qm9 -n 2000 --steps 20 50 --seeds 0 1 --reference qm9 \\
        --output molbfn/weights/qm9_small/samples

Every figure in the table comes from `molbfn.evaluation` (EDM protocol) on molecules made here; the
JSON beside it keeps the numerators and denominators.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from molbfn.benchmarks.hardware import describe_machine
from molbfn.devices import choose_device
from molbfn.evaluation.run import evaluate
from molbfn.generation.sampling import GenerationOptions, generate_raw, plan_sampling
from molbfn.model import MoleculeModel, load_model

_COLUMNS = {
    "atom_stability": "atom",
    "molecule_stability": "mol",
    "validity": "valid",
    "connected_validity": "connected",
    "valid_unique": "V × U",
    "valid_unique_novel": "V × U × N",
    "novelty": "novel",
}


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    steps: int
    sampler: str
    temperature: float


def main() -> None:
    """Generate, evaluate, write."""
    arguments = _arguments()
    model = load_model(arguments.model, device=choose_device(arguments.device))
    rows = []
    for setting in _settings(arguments):
        runs = [_run(model, setting, arguments, seed) for seed in arguments.seeds]
        rows.append({"setting": asdict(setting), "runs": runs})
        print(_row(rows[-1]), flush=True)
    report = {
        "model": model.name,
        "weights": model.fingerprint(),
        "molecules_per_run": arguments.n,
        "seeds": arguments.seeds,
        "reference": arguments.reference,
        "machine": describe_machine(str(model.device)),
        "rows": rows,
    }
    output = Path(arguments.output)
    _write(output.with_suffix(".json"), json.dumps(report, indent=1) + "\n")
    _write(output.with_suffix(".md"), _table(report))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="name of a bundled model, or a model folder")
    parser.add_argument("-n", type=int, default=2000, help="molecules a run")
    parser.add_argument("--steps", type=int, nargs="+", default=[50])
    parser.add_argument("--sampler", nargs="+", default=["renoise"])
    parser.add_argument("--window", type=int, help="for --sampler window")
    parser.add_argument("--temperature", type=float, nargs="+", default=[1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--reference", help="data set for novelty and composition, such as qm9")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--output", required=True, help="writes OUTPUT.json and OUTPUT.md")
    return parser.parse_args()


def _settings(arguments: argparse.Namespace) -> Iterator[Setting]:
    for values in itertools.product(arguments.steps, arguments.sampler, arguments.temperature):
        yield Setting(*values)


def _run(
    model: MoleculeModel, setting: Setting, arguments: argparse.Namespace, seed: int
) -> dict[str, Any]:
    options = GenerationOptions(
        steps=setting.steps,
        sampler=setting.sampler,  # type: ignore[arg-type]
        window=arguments.window,
        temperature=setting.temperature,
        precision=arguments.precision,
    )
    plan = plan_sampling(model, options)
    started = time.perf_counter()
    molecules = list(generate_raw(model, plan, range(arguments.n), seed=seed))
    seconds = time.perf_counter() - started
    result = evaluate(molecules, reference=arguments.reference, seed=seed)
    return {
        "seed": seed,
        "seconds": round(seconds, 2),
        "network_calls": plan.calls,
        "precision": plan.precision,
        "evaluation": result.to_dict(),
    }


def _values(row: dict[str, Any], metric: str) -> list[float]:
    found = []
    for run in row["runs"]:
        for entry in run["evaluation"]["metrics"]:
            name = entry["name"].removesuffix("_distances")
            if name == metric and entry["value"] is not None:
                found.append(100 * entry["value"])
    return found


def _shares(row: dict[str, Any]) -> str:
    """Return the element shares of the first run, in per cent."""
    shares = row["runs"][0]["evaluation"]["composition"]["element_percent"]
    return " ".join(f"{name} {share:.1f}" for name, share in shares.items())


def _row(row: dict[str, Any]) -> str:
    setting, runs = row["setting"], row["runs"]
    cells = [
        str(setting["steps"]),
        setting["sampler"],
        f"{setting['temperature']:g}",
        str(runs[0]["network_calls"]),
        *(_summary(_values(row, metric)) for metric in _COLUMNS),
        _shares(row),
        f"{statistics.median(run['seconds'] for run in runs):.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _summary(values: list[float]) -> str:
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def _table(report: dict[str, Any]) -> str:
    titles = ["steps", "sampler", "T", "calls", *_COLUMNS.values(), "elements %", "seconds"]
    seeds = ", ".join(str(seed) for seed in report["seeds"])
    head = (
        f"{report['molecules_per_run']} molecules a run, sampling seeds {seeds} (mean ± sd over "
        f"seeds), EDM protocol, all figures in per cent of all molecules generated; novelty "
        f"against {report['reference'] or 'nothing'}; network calls in "
        f"{report['rows'][0]['runs'][0]['precision']}; weights {report['weights']}.\n\n"
    )
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += [_row(row) for row in report["rows"]]
    return head + "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


if __name__ == "__main__":
    main()
