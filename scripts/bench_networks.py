"""Speed of the networks: ours against GeoBFN's in its published edge-list form, in one run.

In float32, and in bfloat16 where the hardware multiplies it; compiled in the faster of the two.
Every round times every variant once, in an order that alternates from round to round, so that
slow drifts of the machine hit all of them; a ratio is the median of the rounds' ratios.

A batch of the published form holds molecules of all sizes (the quantiles of the size histogram).
The dense forms run one batch per size bucket, as in training; their time per molecule is the mean
over the buckets, weighted with the histogram. Inputs are random numbers: only shapes matter.

FLOPs are those of the matrix products, padding included, as torch.utils.flop_counter counts them.
The share of the peak is that of a large product of the same precision and threads, once a round.
Peak memory is measured by scripts/bench_sizes.py's helper, each case in a process of its own, and
samples by `molbfn.generation`: ours at its 51 calls, those of GeoBFN's form at a few steps,
scaled to 1,001 calls.

    python scripts/bench_networks.py --batch 64 --rounds 7 --output network_speed
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import bench_sizes
import torch
from bench_samples import MEAN_ATOMS, SamplingLoops
from bench_text import to_markdown
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from molbfn.benchmarks.edge_list import (
    EdgeListBatch,
    EdgeListEGNN,
    fully_connected_edges,
)
from molbfn.benchmarks.hardware import (
    PEAK_SIZE,
    describe_machine,
    gemm_gflops,
    wait,
)
from molbfn.benchmarks.sizes import Bucket, make_buckets, quantile_sizes
from molbfn.data.batching import choose_buckets
from molbfn.data.locate import available_datasets, resolve_dataset
from molbfn.data.store import MoleculeStore
from molbfn.devices import choose_precision
from molbfn.errors import UserError, run_script
from molbfn.networks.egnn import EGNN
from molbfn.networks.transformer import EquivariantTransformer

JOBS = ("training step", "inference call")
_BUCKETS = 6
_CHARGES = 3  # -1, 0, 1
_BONDS = 4  # none, single, double, triple


@dataclass(frozen=True)
class Variant:
    """One network in one precision; ``calls`` are (weight, forward-and-loss) per batch shape.

    ``flops`` are those of each job, a molecule.
    """

    name: str
    precision: str
    network: nn.Module
    calls: list[tuple[float, Callable[[], Tensor]]]
    flops: dict[str, float]


@dataclass(frozen=True)
class Row:
    """A line of the result table; times in seconds per molecule, medians over the rounds."""

    job: str
    variant: str
    precision: str
    parameters: int
    seconds_per_molecule: float
    molecules_per_second: float
    gflop_per_molecule: float
    share_of_peak: float
    speedup: float
    speedup_min: float
    speedup_max: float


def edge_list_call(network: nn.Module, sizes: list[int], device: str) -> Callable[[], Tensor]:
    """Forward and loss of the published form on one batch; edges are made once, as in GeoBFN."""
    atoms = sum(sizes)
    molecule = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).to(device)
    batch = EdgeListBatch(
        positions=torch.randn(atoms, 3, device=device),
        charge=torch.rand(atoms, 1, device=device),
        t=torch.rand(len(sizes), device=device)[molecule],
        edges=fully_connected_edges(sizes).to(device),
        molecule=molecule,
        molecules=len(sizes),
    )
    noise = torch.randn(atoms, 3, device=device)

    def call() -> Tensor:
        positions, elements = network(batch)
        return ((positions - noise).square().sum() + elements.square().sum()) / atoms

    return call


def dense_call(
    network: nn.Module, bucket: Bucket, *, classes: Mapping[str, int], device: str
) -> Callable[[], Tensor]:
    """Forward and the same loss of a dense network on one padded batch.

    ``classes`` are the input channels of "elements" and, if the network has them, of "charges" and
    "bonds".
    """
    count, width = len(bucket.sizes), bucket.width
    mask = (torch.arange(width) < torch.tensor(bucket.sizes)[:, None]).to(device)
    weight = mask[..., None].float()
    inputs = {"positions": torch.randn(count, width, 3, device=device) * weight}
    for name, channels in classes.items():
        shape = (count, width, width) if name == "bonds" else (count, width)
        inputs[name] = torch.rand(*shape, channels, device=device)
    times = torch.rand(count, device=device)
    t = dict.fromkeys(inputs, times)
    noise = torch.randn(count, width, 3, device=device) * weight
    atoms = sum(bucket.sizes)

    def call() -> Tensor:
        output = network(inputs, t, mask)
        loss = (output["positions"] - noise).float().square().sum()
        return (loss + sum(output[name].float().square().sum() for name in classes)) / atoms

    return call


def count_flops(
    calls: list[tuple[float, Callable[[], Tensor]]], molecules: int
) -> dict[str, float]:
    """Return the FLOPs of each job a molecule, for calls of so many molecules."""
    flops = dict.fromkeys(JOBS, 0.0)
    for weight, call in calls:
        with FlopCounterMode(display=False) as step:
            call().backward()
        with FlopCounterMode(display=False) as inference, torch.no_grad():
            call()
        for job, counter in zip(JOBS, (step, inference), strict=True):
            flops[job] += weight * counter.get_total_flops() / molecules
    return flops


def make_variants(
    options: argparse.Namespace, histogram: Mapping[int, int], buckets: list[Bucket]
) -> list[Variant]:
    """Build all networks, the baseline first; the EGNNs start from the same weights."""
    device = options.device
    published = EdgeListEGNN(hidden=options.hidden, layers=options.layers).to(device)
    sizes = quantile_sizes(histogram, options.batch)
    calls = [(1.0, edge_list_call(published, sizes, device))]
    name = "EGNN, edge list (published)"
    best = choose_precision("auto", torch.device(device))
    precisions = ["fp32", *(("bf16",) if best == "bf16" else ())]
    flops = count_flops(calls, len(sizes))
    variants = [Variant(name, precision, published, calls, flops) for precision in precisions]

    def dense(name: str, precision: str, network: nn.Module, **classes: int) -> None:
        network.to(device)

        def calls(batches: list[Bucket]) -> list[tuple[float, Callable[[], Tensor]]]:
            return [
                (b.share, dense_call(network, b, classes=classes, device=device)) for b in batches
            ]

        # All molecules of a bucket cost the same, and what is compiled cannot be counted.
        flops = count_flops(calls([replace(b, sizes=b.sizes[:1]) for b in buckets]), 1)
        if "compiled" in precision:
            compile_network(network, options.compile)
        variants.append(Variant(name, precision, network, calls(buckets), flops))

    precisions += [] if options.compile == "none" else [f"{best} compiled"]
    for precision in precisions:
        egnn = EGNN(elements_in=1, elements_out=2, hidden=options.hidden, layers=options.layers)
        egnn.load_state_dict(published.state_dict())
        dense("EGNN, dense (ours)", precision, egnn, elements=1)
    elements = options.elements
    for precision in precisions[precisions.index(best) :]:
        transformer = EquivariantTransformer(
            elements_in=elements,
            elements_out=elements,
            charges=_CHARGES,
            bonds=_BONDS,
            **dict(options.transformer),
        )
        name = "transformer with charges and bonds (ours)"
        dense(name, precision, transformer, elements=elements, charges=_CHARGES, bonds=_BONDS)
    return variants


def compile_network(network: nn.Module, how: str) -> None:
    """Compile in place, whole or block by block (all blocks share one graph per shape)."""
    import torch._dynamo

    torch._dynamo.config.recompile_limit = 64
    for part in [network] if how == "whole" else network.blocks:
        part.compile(dynamic=False)


def autocast(variant: Variant, device: str) -> AbstractContextManager:
    """The precision of a variant as a context."""
    if variant.precision.startswith("fp32"):
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


class Clock:
    """Times the two jobs of a variant, in seconds per molecule."""

    def __init__(self, batch: int, device: str) -> None:
        self.batch, self.device = batch, device
        self.optimisers: dict[int, torch.optim.Optimizer] = {}

    def measure(self, job: str, variant: Variant) -> float:
        """Return the mean over the variant's batch shapes, weighted with their shares."""
        run = self._train if job == JOBS[0] else self._infer
        total = 0.0
        for weight, call in variant.calls:
            wait(self.device)
            start = time.perf_counter()
            run(variant, call)
            wait(self.device)
            total += weight * (time.perf_counter() - start)
        return total / self.batch

    def _train(self, variant: Variant, call: Callable[[], Tensor]) -> None:
        parameters = list(variant.network.parameters())
        optimiser = self.optimisers.setdefault(
            id(variant), torch.optim.AdamW(parameters, lr=1e-4, amsgrad=True, weight_decay=1e-12)
        )
        optimiser.zero_grad(set_to_none=True)
        with autocast(variant, self.device):
            loss = call()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()

    def _infer(self, variant: Variant, call: Callable[[], Tensor]) -> None:
        with torch.no_grad(), autocast(variant, self.device):
            call()


def disagreement(variants: list[Variant]) -> float:
    """Largest relative difference of the published and the dense form, same weights, float64."""
    published = variants[0].network
    dense = next(variant.network for variant in variants if isinstance(variant.network, EGNN))
    sizes = [3, 9, 18]
    positions, charge = torch.randn(30, 3).double(), torch.rand(30, 1).double()
    molecule = torch.arange(3).repeat_interleave(torch.tensor(sizes))
    edges, t = fully_connected_edges(sizes), torch.rand(3).double()
    copies = [copy.deepcopy(network).cpu().double() for network in (published, dense)]
    mask = torch.arange(20) < torch.tensor(sizes)[:, None]
    padded = {
        "positions": torch.zeros(3, 20, 3).double(),
        "elements": torch.zeros(3, 20, 1).double(),
    }
    padded["positions"][mask], padded["elements"][mask] = positions, charge
    with torch.no_grad():
        batch = EdgeListBatch(positions, charge, t[molecule], edges, molecule, 3)
        x, h = copies[0](batch)
        output = copies[1](padded, {"positions": t}, mask)
    compared = ((output["positions"][mask], x), (output["elements"][mask], h))
    return max(
        ((ours - theirs).abs().max() / theirs.abs().max()).item() for ours, theirs in compared
    )


def run(options: argparse.Namespace) -> dict:
    """Measure everything and return the report (JSON types only)."""
    memory = measure_memory(options) if torch.device(options.device).type == "cpu" else []
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    store = MoleculeStore.open(resolve_dataset(options.data))
    histogram = store.size_histogram()
    widths = options.buckets or choose_buckets(store.sizes, _BUCKETS)
    buckets = make_buckets(histogram, widths, options.batch)
    variants = make_variants(options, histogram, buckets)
    # Before the first training step: both forms still hold the same weights.
    difference = disagreement(variants)
    clock = Clock(options.batch, options.device)
    conditions = describe_machine(options.device) | describe_work(options, store, buckets)
    warm_up = {}
    for variant in variants:
        start = time.perf_counter()
        for job in JOBS:
            for _ in range(2):
                clock.measure(job, variant)
        warm_up[f"{variant.name}, {variant.precision}"] = time.perf_counter() - start
        print(f"warm  {variant.name}, {variant.precision}", flush=True)
    seconds: dict[tuple[str, int], list[float]] = {}
    narrow: dict[str, list[float]] = {}
    peaks: dict[str, list[float]] = {}
    loops = SamplingLoops(options.batch, options.device)
    for index in range(options.rounds):
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            if any(variant.precision.startswith(name) for variant in variants):
                narrow.setdefault(name, []).append(gemm_gflops(dtype, options.device))
                square = gemm_gflops(dtype, options.device, rows=PEAK_SIZE, width=PEAK_SIZE)
                peaks.setdefault(name, []).append(square)
        order = list(enumerate(variants))
        for job in JOBS:
            for position, variant in order if index % 2 == 0 else reversed(order):
                taken = clock.measure(job, variant)
                seconds.setdefault((job, position), []).append(taken)
        loops.measure(backwards=index % 2 == 1)
        print(f"round {index + 1}/{options.rounds}", flush=True)
    rows = [
        make_row(job, variants[i], times, baseline=seconds[job, 0], peaks=peaks)
        for (job, i), times in seconds.items()
    ]
    rows.sort(key=lambda row: (JOBS.index(row.job), -row.seconds_per_molecule))
    return {
        "conditions": conditions,
        "gemm_gflops": {name: [round(p) for p in values] for name, values in narrow.items()},
        "peak_gflops": {name: [round(p) for p in values] for name, values in peaks.items()},
        "memory": memory,
        "samples": loops.seconds,
        "largest relative difference of the two EGNN forms (float64)": difference,
        "warm_up_seconds": warm_up,
        "rows": [asdict(row) for row in rows],
        "seconds_per_molecule_by_round": {
            f"{job} | {variants[i].name} | {variants[i].precision}": times
            for (job, i), times in seconds.items()
        },
    }


def measure_memory(options: argparse.Namespace) -> list[dict[str, object]]:
    """Return peak MiB a molecule of the mean size, of each network and job."""
    precision = choose_precision("auto", torch.device("cpu"))
    return [
        {"network": network, "job": job, "atoms": MEAN_ATOMS, "precision": precision}
        | bench_sizes.measure_apart(
            network,
            job,
            MEAN_ATOMS,
            repeats=1,
            threads=options.threads,
            precision=precision,
        )
        for network in bench_sizes.NETWORKS
        for job in bench_sizes.JOBS
    ]


def make_row(
    job: str,
    variant: Variant,
    times: list[float],
    *,
    baseline: list[float],
    peaks: Mapping[str, list[float]],
) -> Row:
    """Summarise the rounds of one variant.

    Args:
        job: one of ``JOBS``.
        variant: what was timed.
        times: seconds a molecule, by round.
        baseline: the published form's.
        peaks: precision -> GFLOP/s of a large product, by round.
    """
    ratios = [slow / fast for slow, fast in zip(baseline, times, strict=True)]
    gflop = variant.flops[job] / 1e9
    peak = peaks[variant.precision.split()[0]]
    shares = [gflop / taken / top for taken, top in zip(times, peak, strict=True)]
    return Row(
        job=job,
        variant=variant.name,
        precision=variant.precision,
        parameters=sum(p.numel() for p in variant.network.parameters()),
        seconds_per_molecule=statistics.median(times),
        molecules_per_second=1 / statistics.median(times),
        gflop_per_molecule=gflop,
        share_of_peak=statistics.median(shares),
        speedup=statistics.median(ratios),
        speedup_min=min(ratios),
        speedup_max=max(ratios),
    )


def describe_work(
    options: argparse.Namespace, store: MoleculeStore, buckets: list[Bucket]
) -> dict[str, object]:
    """What was computed: the sizes and how they were batched."""
    histogram = store.size_histogram()
    total = sum(histogram.values())
    pairs = sum(n * size * (size - 1) for size, n in histogram.items()) / total
    padded = sum(bucket.share * bucket.width**2 for bucket in buckets)
    return {
        "sizes from": store.name,
        "molecules": total,
        "mean atoms": round(sum(n * size for size, n in histogram.items()) / total, 2),
        "edges per molecule": round(pairs, 1),
        "padded pairs per molecule": round(padded, 1),
        "buckets": [bucket.width for bucket in buckets],
        "batch": options.batch,
        "rounds": options.rounds,
        "compile": options.compile,
    }


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(text)
    os.replace(partial, path)


def key_value(text: str) -> tuple[str, int]:
    """Parse ``width=192``."""
    name, _, value = text.partition("=")
    return name, int(value)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="'qm9', 'demo' or a file; default: qm9 where it is, or demo")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batch", type=int, default=64, help="molecules per batch")
    parser.add_argument(
        "--rounds", type=int, default=7, help="timed rounds (at least 5 to publish)"
    )
    parser.add_argument("--buckets", type=int, nargs="+", help="default: the best six")
    parser.add_argument("--hidden", type=int, default=256, help="width of the EGNN")
    parser.add_argument("--layers", type=int, default=9, help="layers of the EGNN")
    parser.add_argument("--elements", type=int, default=4, help="classes of the transformer")
    parser.add_argument(
        "--transformer", type=key_value, nargs="*", default=[], metavar="NAME=INT",
        help="sizes of the transformer, for example width=192 blocks=6",
    )  # fmt: skip
    parser.add_argument("--compile", choices=("whole", "blocks", "none"), default="whole")
    parser.add_argument("--output", type=Path, help="writes OUTPUT.json and OUTPUT.md")
    options = parser.parse_args(arguments)
    if min(options.threads, options.batch, options.rounds, *(options.buckets or [1])) < 1:
        parser.error("--threads, --batch, --rounds and --buckets must be at least 1")
    if options.data is None:
        options.data = "qm9" if "qm9" in available_datasets() else "demo"
    return options


def main() -> None:
    """Run the comparison, print it, and write it where asked."""
    options = parse()
    try:
        report = run(options)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    table = to_markdown(report)
    print(table)
    if options.output:
        write(options.output.with_name(options.output.name + ".json"), json.dumps(report, indent=1))
        write(options.output.with_name(options.output.name + ".md"), table)


if __name__ == "__main__":
    run_script(main)
