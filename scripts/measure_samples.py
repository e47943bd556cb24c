"""Measure a model's samples over settings and seeds, and write the table of its model card.

    python scripts/measure_samples.py qm9 -n 2000 --steps 20 50 --seeds 0 1 --reference qm9 \\
        --output molbfn/weights/qm9_small/samples

By default each number of steps takes the model's own scheme for it. To compare others, give them as
they would stand in a config's `sampling` section:

    python scripts/measure_samples.py runs/mine/model -n 500 --steps 20 --output search \\
        --scheme '{sampler: ode}' --scheme '{sampler: sde, churn: 3, knots: [[0.7, 0.5]]}'

What was measured in parts, by steps or by seeds, on one machine or several, becomes one table with

    python scripts/measure_samples.py --join part1.json part2.json --output samples

Every figure in the table comes from `molbfn.evaluation` on molecules made here; the JSON beside it
keeps the numerators and denominators.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from molbfn.atomic import replacing
from molbfn.benchmarks.hardware import describe_machine
from molbfn.config import SamplingConfig, SchemeConfig
from molbfn.config_file import parse_config
from molbfn.devices import choose_device
from molbfn.errors import UserError, run_script
from molbfn.evaluation.run import evaluate
from molbfn.generation.plan import GenerationOptions, plan_sampling
from molbfn.generation.sampling import generate_raw
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
_BOND_COLUMNS = {
    "molecule_stability": "mol (own bonds)",
    "connected_validity": "connected (own bonds)",
    "valid_unique": "V × U (own bonds)",
}


@dataclass(frozen=True)
class Setting:
    """One row of the table; without a scheme, the model's own."""

    steps: int
    scheme: SchemeConfig


def main() -> None:
    """Generate, evaluate, write."""
    arguments = _arguments()
    if arguments.join:
        report = _joined([json.loads(Path(part).read_text()) for part in arguments.join])
        _write_report(report, Path(arguments.output))
        return
    model = load_model(arguments.model, device=choose_device(arguments.device))
    rows = []
    for setting in _settings(model, arguments):
        runs = [_run(model, setting, arguments, seed) for seed in arguments.seeds]
        scheme = setting.scheme.model_dump(mode="json")
        rows.append({"steps": setting.steps, "scheme": scheme, "runs": runs})
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
    _write_report(report, Path(arguments.output))


def _write_report(report: dict[str, Any], output: Path) -> None:
    _write(output.with_suffix(".json"), json.dumps(report, indent=1) + "\n")
    _write(output.with_suffix(".md"), _table(report))


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one report of several: their rows, and the seeds of like rows, in rising order.

    Raises:
        UserError: parts of other weights, numbers of molecules or references; a seed twice.
    """
    same = ("model", "weights", "molecules_per_run", "reference")
    rows: dict[str, dict[str, Any]] = {}
    machines: list[dict[str, Any]] = []
    for part in parts:
        for key in same:
            if part[key] != parts[0][key]:
                raise UserError(
                    f"--join: {key} is {parts[0][key]} in one and {part[key]} in another"
                )
        of_part = part.get("machines") or [part["machine"]]  # a report that was joined has several
        machines += [machine for machine in of_part if machine not in machines]
        for row in part["rows"]:
            setting = json.dumps([row["steps"], row["scheme"]])
            rows.setdefault(setting, {**row, "runs": []})["runs"] += row["runs"]
    for row in rows.values():
        row["runs"].sort(key=lambda run: run["seed"])
        seeds = [run["seed"] for run in row["runs"]]
        if len(set(seeds)) < len(seeds):
            raise UserError(f"--join: a seed is there twice at {row['steps']} steps: {seeds}")
    found = sorted({run["seed"] for row in rows.values() for run in row["runs"]})
    return {
        **{key: parts[0][key] for key in same[:3]},
        "seeds": found,
        "reference": parts[0]["reference"],
        "machines": machines,
        "rows": sorted(rows.values(), key=lambda row: row["steps"]),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", help="name of a bundled model, or a model folder")
    parser.add_argument("--join", nargs="+", metavar="FILE", help="JSON files made by this script")
    parser.add_argument("-n", type=int, default=2000, help="molecules a run")
    parser.add_argument("--steps", type=int, nargs="+", default=[50])
    parser.add_argument("--scheme", action="append", help="YAML of a sampling scheme; repeatable")
    parser.add_argument("--protocol", nargs="+", default=["edm"], choices=["edm", "bonds"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--reference", help="data set for novelty and composition, such as qm9")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--compile", action="store_true", help="compile the network first")
    parser.add_argument("--output", required=True, help="writes OUTPUT.json and OUTPUT.md")
    arguments = parser.parse_args()
    if (arguments.model is None) == (arguments.join is None):
        parser.error("give either a model or --join")
    return arguments


def _settings(model: MoleculeModel, arguments: argparse.Namespace) -> Iterator[Setting]:
    given = [
        parse_config(SchemeConfig, yaml.safe_load(text), where=f"--scheme {text}")
        for text in arguments.scheme or ()
    ]
    for steps in arguments.steps:
        for scheme in given or [model.info.config.sampling.scheme(steps)]:
            fields = {name: getattr(scheme, name) for name in SchemeConfig.model_fields}
            yield Setting(steps, SchemeConfig(**fields))


def _with_scheme(model: MoleculeModel, setting: Setting) -> MoleculeModel:
    """Return the model as if it had been saved with this scheme."""
    own = {name: getattr(setting.scheme, name) for name in SchemeConfig.model_fields}
    config = model.info.config.model_copy(
        update={"sampling": SamplingConfig(steps=setting.steps, **own)}
    )
    changed = copy.copy(model)
    changed.info = dataclasses.replace(model.info, config=config)
    return changed


def _run(
    model: MoleculeModel, setting: Setting, arguments: argparse.Namespace, seed: int
) -> dict[str, Any]:
    model = _with_scheme(model, setting)
    options = GenerationOptions(precision=arguments.precision, compile=arguments.compile)
    plan = plan_sampling(model, options)
    started = time.perf_counter()
    molecules = list(generate_raw(model, plan, range(arguments.n), seed=seed))
    seconds = time.perf_counter() - started
    result = evaluate(
        molecules, reference=arguments.reference, protocols=arguments.protocol, seed=seed
    )
    return {
        "seed": seed,
        "seconds": round(seconds, 2),
        "network_calls": plan.calls,
        "precision": plan.precision,
        "compile": plan.compile,
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
    """Return the element shares in per cent, means over the runs."""
    runs = [run["evaluation"]["composition"]["element_percent"] for run in row["runs"]]
    names = dict.fromkeys(name for shares in runs for name in shares)
    return " ".join(
        f"{name} {statistics.fmean(shares.get(name, 0.0) for shares in runs):.1f}" for name in names
    )


def _row(row: dict[str, Any]) -> str:
    runs = row["runs"]
    cells = [
        str(row["steps"]),
        str(runs[0]["network_calls"]),
        _words(row["scheme"]),
        *(_summary(_values(row, metric)) for metric in row_columns(row)),
        _shares(row),
        f"{statistics.median(run['seconds'] for run in runs):.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def row_columns(row: dict[str, Any]) -> list[str]:
    """Return the metrics shown: those of all protocols that were run."""
    protocols = {entry["protocol"] for entry in row["runs"][0]["evaluation"]["metrics"]}
    bonds = [f"bonds_{name}" for name in _BOND_COLUMNS] if "bonds" in protocols else []
    return [*(_COLUMNS if "edm" in protocols else ()), *bonds]


def _words(scheme: dict[str, Any]) -> str:
    """Return what sets a scheme apart, in a few words."""
    words = [scheme["sampler"]]
    if scheme["sampler"] == "sde":
        words.append(f"churn {scheme['churn']:g}")
    if scheme["sampler"] in ("ode", "sde"):
        words.append(f"extrapolation {scheme['extrapolation']:g}")
        if scheme["renoise_from"] is not None:
            words.append(f"renoise from {scheme['renoise_from']:g}")
        if scheme["spread"]:
            words.append(f"spread {scheme['spread']:g}")
    if scheme["sampler"] == "window":
        words.append(f"window {scheme['window']}")
    words += ["draw"] * scheme["draw"]
    words.append(f"T {scheme['temperature']:g}")
    words.append("knots " + (_knots(scheme["knots"]) or "none"))
    if scheme["class_knots"]:
        words.append("class knots " + _knots(scheme["class_knots"]))
    return ", ".join(words)


def _knots(knots: list[list[float]]) -> str:
    return " ".join(f"{u:g}:{t:g}" for u, t in knots)


def _summary(values: list[float]) -> str:
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"


def _table(report: dict[str, Any]) -> str:
    names = {**_COLUMNS, **{f"bonds_{name}": title for name, title in _BOND_COLUMNS.items()}}
    metrics = [names[name] for name in row_columns(report["rows"][0])]
    titles = ["steps", "calls", "scheme", *metrics, "elements %", "seconds"]
    seeds = ", ".join(str(seed) for seed in report["seeds"])
    head = (
        f"{report['molecules_per_run']} molecules a run, sampling seeds {seeds} (mean ± sd over "
        f"seeds), figures in per cent of all molecules generated, by the distance tables of the "
        f"EDM protocol ('own bonds': by the bonds and charges generated); novelty against "
        f"{report['reference'] or 'nothing'}; network calls in "
        f"{report['rows'][0]['runs'][0]['precision']}; weights {report['weights']}.\n\n"
    )
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += [_row(row) for row in report["rows"]]
    return head + "\n".join(lines) + "\n"


def _write(path: Path, text: str) -> None:
    with replacing(path) as stream:
        stream.write(text.encode())


if __name__ == "__main__":
    run_script(main)
