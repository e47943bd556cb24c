"""Cost of a molecule against its number of atoms: time and peak memory, 12 to 181 atoms.

    python scripts/bench_sizes.py --rounds 3 --output docs/size_cost

Every measurement is a process of its own (peak memory is that of a process), and rounds are
interleaved over networks and sizes.  A batch holds as many molecules as the pair limit of
`molbfn generate` on a CPU allows, training a quarter of that.  Memory is what a process used at
most above what it used before its first call, divided by the molecules of a batch.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZES = (12, 18, 29, 45, 64, 91, 128, 181)
JOBS = ("network call", "training step")
NETWORKS = ("transformer with bonds", "EGNN, dense", "EGNN, edge list (published)")
_PAIRS = {"network call": 40_000, "training step": 10_000}


def measure(
    network: str, job: str, atoms: int, *, repeats: int, threads: int, precision: str
) -> dict[str, float]:
    """Return seconds and MiB a molecule, of this process: call it once in a process."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    batch = max(1, _PAIRS[job] // atoms**2)
    call, parameters = _work(network, batch, atoms, precision)
    before = _peak_bytes()
    run = _trainer(call, parameters) if job == "training step" else _caller(call)
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {
        "batch": batch,
        "seconds": statistics.median(seconds) / batch,
        "mebibytes": (_peak_bytes() - before) / 2**20 / batch,
    }


def _work(
    network: str, batch: int, atoms: int, precision: str
) -> tuple[Callable[[], Any], list[Any]]:
    """Return a forward pass with a loss, the published form in fp32 always, and parameters."""
    import torch

    if network.startswith("EGNN, edge"):
        from bench_networks import edge_list_call

        from molbfn.benchmarks.edge_list import EdgeListEGNN

        published = EdgeListEGNN(hidden=256, layers=9)
        return edge_list_call(published, [atoms] * batch, "cpu"), list(published.parameters())
    x = torch.randn(batch, atoms, 3)
    x = x - x.mean(1, keepdim=True)
    t = dict.fromkeys(("positions", "elements", "charges", "bonds"), torch.rand(batch))
    mask = torch.ones(batch, atoms, dtype=torch.bool)
    if network == "EGNN, dense":
        from molbfn.networks.egnn import EGNN

        module: torch.nn.Module = EGNN(elements_in=1, elements_out=2, hidden=256, layers=9)
        inputs = {"positions": x, "elements": torch.rand(batch, atoms, 1)}
    else:
        from molbfn.networks.transformer import EquivariantTransformer

        module = EquivariantTransformer(elements_in=4, elements_out=4, charges=3, bonds=4)
        inputs = {
            "positions": x,
            "elements": torch.rand(batch, atoms, 4),
            "charges": torch.rand(batch, atoms, 3),
            "bonds": torch.rand(batch, atoms, atoms, 4),
        }

    def call() -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            outputs = module(inputs, t, mask)
        return sum(output.float().square().mean() for output in outputs.values())

    return call, list(module.parameters())


def _caller(call: Callable[[], Any]) -> Callable[[], None]:
    import torch

    def run() -> None:
        with torch.inference_mode():
            call()

    return run


def _trainer(call: Callable[[], Any], parameters: list[Any]) -> Callable[[], None]:
    import torch

    optimiser = torch.optim.AdamW(parameters, lr=1e-4)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        call().backward()
        optimiser.step()

    return run


def _peak_bytes() -> int:
    """Most memory of this process; what started it does not count, where the system tells."""
    status = Path("/proc/self/status")
    if status.exists():
        (peak,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def collect(options: argparse.Namespace) -> dict[str, Any]:
    """Run all measurements in processes of their own and return medians over the rounds."""
    from molbfn.benchmarks.hardware import describe_machine

    found: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    for index in range(options.rounds):
        for atoms in options.sizes:
            for network in NETWORKS:
                for job in JOBS:
                    made = measure_apart(
                        network, job, atoms, repeats=options.repeats, threads=options.threads
                    )
                    found.setdefault((network, job, atoms), []).append(made)
        print(f"round {index + 1}/{options.rounds}", flush=True)
    rows = []
    for (network, job, atoms), made in found.items():
        rows.append(
            {
                "network": network,
                "job": job,
                "atoms": atoms,
                "batch": made[0]["batch"],
                "milliseconds": 1e3 * statistics.median(m["seconds"] for m in made),
                "mebibytes": statistics.median(m["mebibytes"] for m in made),
            }
        )
    machine = describe_machine("cpu") | {"threads": options.threads}
    return {"machine": machine, "rounds": options.rounds, "rows": rows}


def measure_apart(
    network: str, job: str, atoms: int, *, repeats: int, threads: int, precision: str = "bf16"
) -> dict[str, float]:
    """Return what :func:`measure` returns in a process of its own."""
    command = [sys.executable, __file__, "--one", network, job, str(atoms), precision]
    command += ["--repeats", str(repeats), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: {network}, {job}, {atoms} atoms:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def to_markdown(report: dict[str, Any], picture: str) -> str:
    """Return one table a job, and the conditions."""
    lines = ["# Cost of a molecule against its size", "", f"![the tables below]({picture})", ""]
    titles = ["atoms", *(f"{name}: {unit}" for name in NETWORKS for unit in ("ms", "MiB"))]
    for job in JOBS:
        rows = {(r["network"], r["atoms"]): r for r in report["rows"] if r["job"] == job}
        lines += [f"## One {job}, a molecule", "", "| " + " | ".join(titles) + " |"]
        lines.append("|---" * len(titles) + "|")
        for atoms in sorted({atoms for _, atoms in rows}):
            cells = [str(atoms)]
            for name in NETWORKS:
                row = rows[name, atoms]
                cells += [f"{row['milliseconds']:.2f}", f"{row['mebibytes']:.1f}"]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    machine = report["machine"]
    lines += [
        f"Medians of {report['rounds']} rounds, each measurement a process of its own; "
        f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}, eager; "
        "the published form in fp32, the others in bf16. Made by `scripts/bench_sizes.py`, whose "
        "head says what was measured.",
        "",
    ]
    return "\n".join(lines)


def plot(report: dict[str, Any], path: Path) -> None:
    """Draw time and memory a molecule against atoms, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6.5), sharex=True, layout="constrained")
    measured = (("milliseconds", "ms a molecule"), ("mebibytes", "peak MiB a molecule"))
    for row, job in zip(axes, JOBS, strict=True):
        for axis, (unit, label) in zip(row, measured, strict=True):
            for network in NETWORKS:
                points = [r for r in report["rows"] if (r["network"], r["job"]) == (network, job)]
                points = sorted((r["atoms"], r[unit]) for r in points if r[unit] > 0)
                axis.plot(*zip(*points, strict=True), marker="o", markersize=3, label=network)
            axis.set(xscale="log", yscale="log", title=f"one {job}", ylabel=label)
            sizes = sorted({r["atoms"] for r in report["rows"]})
            axis.set_xticks(sizes, [str(size) for size in sizes])
            axis.minorticks_off()
            axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("atoms")
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, or be one of the measuring processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="timed calls a process")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="writes OUTPUT.json, .md and .png")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        network, job, atoms, precision = options.one
        done = measure(
            network,
            job,
            int(atoms),
            repeats=options.repeats,
            threads=options.threads,
            precision=precision,
        )
        print(json.dumps(done))
        return
    if options.output is None:
        parser.error("--output is missing")
    report = collect(options)
    options.output.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    options.output.with_suffix(".md").write_text(to_markdown(report, options.output.name + ".png"))
    plot(report, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
