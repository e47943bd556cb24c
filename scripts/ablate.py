"""Train variants of a config for the same number of steps and compare them: one thing at a time.

    python scripts/ablate.py configs/qm9.yaml configs/ablations/qm9.yaml --steps 1000 --seeds 0 \\
        --runs runs/ablations --output docs/ablations

The second file names the variants, each with its overrides (the first, usually empty, is the base):

    base: []
    noise prediction: [positions.parameterisation=noise]

Losses of variants with other schedules or variables measure other things and cannot be compared;
the samples can: all figures on them come from `molbfn.evaluation`.  A run that is finished is not
repeated (if its settings are the same), one that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import yaml

from molbfn.atomic import replacing
from molbfn.benchmarks.hardware import describe_machine
from molbfn.config_file import load_config
from molbfn.errors import UserError, run_script
from molbfn.evaluation.run import evaluate
from molbfn.generation.plan import GenerationOptions, plan_sampling
from molbfn.generation.sampling import generate_raw
from molbfn.model import load_model
from molbfn.training.job import train

_METRICS = {
    "molecule_stability": "mol",
    "valid_unique": "V × U",
    "bonds_molecule_stability": "mol (own bonds)",
    "bonds_connected_validity": "connected (own bonds)",
}
_LOSSES = ("valid/loss", "valid/positions")


def main() -> None:
    """Train, sample, compare."""
    arguments = _arguments()
    variants = _variants(arguments.variants)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for seed in arguments.seeds:
        for name, overrides in variants.items():
            folder = arguments.runs / f"{name.replace(' ', '_').replace('/', '_')}-{seed}"
            results[name].append(_run(arguments, overrides, folder, seed))
            print(f"{name}, seed {seed}: {_figures(results[name][-1:])}", flush=True)
            _write(arguments, variants, results)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("variants", type=Path, help="YAML: name -> list of key=value overrides")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("-n", type=int, default=500, help="molecules sampled of each run")
    parser.add_argument("--sampling-steps", type=int, default=20)
    parser.add_argument("--runs", type=Path, required=True, help="folder of the run folders")
    parser.add_argument("--output", type=Path, required=True, help="writes OUTPUT.json and .md")
    return parser.parse_args()


def _variants(path: Path) -> dict[str, list[str]]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise SystemExit(f"error: {path}: cannot be read ({error})") from None
    if not isinstance(found, dict) or not all(isinstance(v, list) for v in found.values()):
        raise SystemExit(f"error: {path}: expected lines like 'name: [key=value, ...]'")
    return found


def _run(
    arguments: argparse.Namespace, overrides: list[str], folder: Path, seed: int
) -> dict[str, Any]:
    done = folder / "ablation.json"
    fixed = [f"training.{key}={arguments.steps}" for key in ("steps", "validate_steps")]
    fixed.append(f"training.seed={seed}")
    config = load_config(arguments.config, [*overrides, *fixed])
    made = {
        "config": config.model_dump(mode="json"),
        "molecules": arguments.n,
        "sampling_steps": arguments.sampling_steps,
    }
    if done.is_file():
        found = json.loads(done.read_text())
        if found.get("made") != made:
            raise UserError(f"{done}: made with other settings; give other --runs, or remove it")
        return found
    started = time.perf_counter()
    result = train(config, folder, resume=(folder / "last.ckpt").is_file())
    model = load_model(result.model)
    plan = plan_sampling(model, GenerationOptions(steps=arguments.sampling_steps))
    molecules = list(generate_raw(model, plan, range(arguments.n), seed=0))
    protocols = ["edm", "bonds"] if model.makes_bonds else ["edm"]
    evaluation = evaluate(molecules, protocols=protocols, seed=0)
    found = {
        "made": made,
        "seed": seed,
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        "losses": {name: result.metrics.get(name) for name in _LOSSES},
        "metrics": {m.name: m.value for m in evaluation.metrics if m.name in _METRICS},
        "element_percent": evaluation.composition.element_percent(),
    }
    with replacing(done) as stream:
        stream.write(json.dumps(found, indent=1).encode())
    return found


def _figures(runs: list[dict[str, Any]]) -> str:
    cells = [f"{_mean([run['losses'][name] for run in runs])}" for name in _LOSSES]
    for name in _METRICS:
        values = [run["metrics"].get(name) for run in runs]
        cells.append(_mean([None if value is None else 100 * value for value in values], 1))
    cells.append(f"{statistics.median(run['minutes'] for run in runs):.1f}")
    return " | ".join(cells)


def _mean(values: list[float | None], digits: int = 3) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = f"{statistics.mean(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.{digits}f}"


def _write(
    arguments: argparse.Namespace,
    variants: dict[str, list[str]],
    results: dict[str, list[dict[str, Any]]],
) -> None:
    known = {name: runs for name, runs in results.items() if runs}
    titles = ["variant", "overrides", *_LOSSES, *_METRICS.values(), "minutes"]
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for name, runs in known.items():
        lines.append(f"| {name} | `{' '.join(variants[name])}` | {_figures(runs)} |")
    machine = describe_machine("cpu")
    head = (
        f"`{arguments.config}`, {arguments.steps} training steps, training seeds "
        f"{', '.join(map(str, arguments.seeds))}; {arguments.n} molecules at "
        f"{arguments.sampling_steps} sampling steps, sampling seed 0, per cent; losses in nats per "
        f"atom. Machine: {machine['processor']}, {machine['threads']} threads.\n\n"
    )
    report = {"steps": arguments.steps, "machine": machine, "results": known}
    with replacing(arguments.output.with_suffix(".md")) as stream:
        stream.write((head + "\n".join(lines) + "\n").encode())
    with replacing(arguments.output.with_suffix(".json")) as stream:
        stream.write((json.dumps(report, indent=1) + "\n").encode())


if __name__ == "__main__":
    run_script(main)
