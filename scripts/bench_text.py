"""The report of bench_networks.py as tables."""

from __future__ import annotations

import statistics

from bench_samples import MEAN_ATOMS, PUBLISHED_CALLS, SHORT_STEPS

from molbfn.benchmarks.hardware import GEMM_ROWS, GEMM_WIDTH, PEAK_SIZE


def to_markdown(report: dict) -> str:
    """Return the report as a table with its conditions below."""
    lines = [
        "| job | network | precision | parameters | molecules/s | ms/molecule "
        "| speed-up (min to max of the rounds) | GFLOP/molecule | share of the peak |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in report["rows"]:
        lines.append(
            f"| {row['job']} | {row['variant']} | {row['precision']} | {row['parameters']:,} "
            f"| {row['molecules_per_second']:.1f} | {1e3 * row['seconds_per_molecule']:.2f} "
            f"| **{row['speedup']:.1f}** ({row['speedup_min']:.1f} to {row['speedup_max']:.1f}) "
            f"| {row['gflop_per_molecule']:.3f} | {row['share_of_peak']:.0%} |"
        )
    lines += ["", *memory_lines(report), *sample_lines(report)]
    lines += ["", "Medians over interleaved rounds in one process. Conditions:", ""]
    lines += [f"- {name}: {value}" for name, value in report["conditions"].items()]
    for name, values in report["gemm_gflops"].items():
        lines.append(
            f"- {name} GEMM {GEMM_ROWS} x {GEMM_WIDTH} x {GEMM_WIDTH}, once per round: "
            f"median {statistics.median(values):.0f}, best {max(values)} GFLOP/s"
        )
    for name, values in report["peak_gflops"].items():
        lines.append(
            f"- {name} peak, GEMM of {PEAK_SIZE} cubed, once per round: "
            f"median {statistics.median(values):.0f}, best {max(values)} GFLOP/s"
        )
    key = "largest relative difference of the two EGNN forms (float64)"
    return "\n".join([*lines, f"- {key}: {report[key]:.1e}", ""])


def memory_lines(report: dict) -> list[str]:
    """Return the table of peak memory, or nothing where it was not measured."""
    if not report["memory"]:
        return []
    first = report["memory"][0]
    own = "" if first["precision"] == "fp32" else " (the published form: fp32)"
    lines = [
        f"Peak memory, each case a process of its own, molecules of {first['atoms']} atoms, "
        f"{first['precision']}{own}, eager:",
        "",
        "| network | job | batch | MiB a molecule |",
        "|---|---|---|---|",
    ]
    for row in report["memory"]:
        lines.append(
            f"| {row['network']} | {row['job']} | {row['batch']} | {row['mebibytes']:.1f} |"
        )
    return [*lines, ""]


def sample_lines(report: dict) -> list[str]:
    """Return what whole samples took."""
    published, ours = (report["samples"][name] for name in ("published", "ours"))
    ratios = [slow / fast for slow, fast in zip(published, ours, strict=True)]
    return [
        f"Whole samples (`molbfn.generation`, eager, {MEAN_ATOMS} atoms): `qm9` at its own steps "
        f"takes {statistics.median(ours):.3f} s a molecule; GeoBFN's form takes "
        f"{statistics.median(published):.1f} s, **{SHORT_STEPS + 1} calls scaled to "
        f"{PUBLISHED_CALLS:,}**: {statistics.median(ratios):.0f} times as long "
        f"({min(ratios):.0f} to {max(ratios):.0f} over the rounds).",
    ]
