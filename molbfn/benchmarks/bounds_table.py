"""The likelihood bounds as tables: beside the papers', against them, and through the ODE."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from molbfn.benchmarks.results import Result, published


def bounds_section(results: Sequence[Result]) -> Iterator[str]:
    """Yield the lines of all that was measured of likelihoods, without an empty one at the end."""
    bounds = [result for result in results if result.kind == "bound"]
    yield "## Likelihood bounds"
    yield ""
    yield "Standard errors: of the draws of times and noise, and of the choice of samples (another"
    yield "test set of as many would differ by so much)."
    yield ""
    yield from _bounds(bounds)
    if bounds:
        yield ""
        yield from _against(bounds)
    flows = [result for result in results if result.kind == "flow"]
    if flows:
        yield ""
        yield from _flows(flows)


def _bounds(measured: Sequence[Result]) -> Iterator[str]:
    """Yield the papers' figures and ours, benchmark by benchmark."""
    yield (
        "| benchmark | n | bound | ± draws | ± samples | unit | samples | data | parameters | "
        "trained | hardware | seeds | date |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|---|---|---|"
    papers = published()["bounds"]
    bases = dict.fromkeys([row["benchmark"] for row in papers] + [r.base for r in measured])
    for base in bases:
        for row in papers:
            if row["benchmark"] == base:
                yield (
                    f"| {base} (paper: {row['source']}) | {_steps(row['n_steps'])} | "
                    f"**{row['value']}** | | | {row['unit']} | | {row['data']} | {row['note']} | "
                    f"| | | |"
                )
        own = [result for result in measured if result.base == base]
        for result in own:
            # Continuous time first, then n falling towards what costs least.
            for figure in sorted(result.figures, key=lambda row: -(row["n_steps"] or math.inf)):
                yield _bound_row(result, figure)
        if not own:
            yield f"| {base} (ours) | | not measured yet | | | | | | | | | | |"


def _bound_row(result: Result, figure: Mapping[str, Any]) -> str:
    unit, scale = result.unit(figure["dimensions"])
    digits = 2 if unit.startswith("nats") else 3
    spread = figure.get("spread")
    made = result.model["provenance"]
    training = made.get("training", {})
    trained = f"{made.get('steps', 0):,} steps, {_seen(result):,} samples"
    if "imported" in made:
        trained = f"published weights, {made['imported']}"
    cells = (
        _name(result),
        _steps(figure["n_steps"]),
        f"**{figure['nats'] * scale:.{digits}f}**",
        f"{figure['error'] * scale:.{digits + 1}f}",
        "" if spread is None else f"{spread * scale:.{digits + 1}f}",
        unit,
        f"{figure['samples']:,} × {figure['passes'] * figure['repeats']} times, "
        f"{result.settings['precision']}",
        _data(result),
        _size(result),
        trained,
        str(made.get("hardware") or made.get("platform", "")),
        f"{training.get('seed', '')} / {result.settings['seed']}",
        figure.get("date", result.date),
    )
    return f"| {' | '.join(cells)} |"


def _size(result: Result) -> str:
    counted = result.model.get("counted", 0)
    extra = f" and {counted:,} counted (n-grams)" if counted else ""
    return f"{result.model['parameters']:,}{extra}"


def _steps(n: int | None) -> str:
    return "∞" if n is None else str(n)


def _name(result: Result) -> str:
    imported = "imported" in result.model["provenance"]
    return f"{result.benchmark} ({'published weights' if imported else 'ours'})"


def _data(result: Result) -> str:
    note = f" ({result.data['note']})" if result.data["note"] else ""
    return f"{result.data['label']}, {result.data['split']}{note}"


def _seen(result: Result) -> int:
    """Return how many samples the training took, with repetitions, over all its processes."""
    made = result.model["provenance"]
    training = made.get("training", {})
    batch = training.get("batch_size", 0) * training.get("accumulate", 1)
    return made.get("steps", 0) * batch * made.get("processes", 1)


def _against(bounds: Sequence[Result]) -> Iterator[str]:
    """Yield what separates each of our models from the paper's."""
    yield "### Against the paper"
    yield ""
    yield "Ours minus the paper's (positive: we fall short), at the paper's n where that was"
    yield "measured, with the standard errors of draws and samples together, and how much less our"
    yield "model had to come there with. The paper's steps are the most that its code allows: it"
    yield "may have seen fewer samples than these ratios say."
    yield ""
    yield (
        "| benchmark | n, ours | n, paper | difference | unit | × fewer parameters | "
        "× fewer samples seen | data |"
    )
    yield f"|{'---|' * 8}"
    papers = {row["benchmark"]: row for row in published()["bounds"]}
    for result in bounds:
        row = papers.get(result.base)
        if row is None:
            unknown = "no figure of the paper known to us"
            yield f"| {_name(result)} | | | {unknown} | | | | {_data(result)} |"
        elif result.figures:
            yield _against_row(result, row)


def _against_row(result: Result, paper: Mapping[str, Any]) -> str:
    """Compare at the paper's n, or else at the largest that was measured."""
    order = sorted(result.figures, key=lambda row: -(row["n_steps"] or math.inf))
    same = (row for row in order if row["n_steps"] == paper["n_steps"])
    figure = next(same, order[0])
    unit, scale = result.unit(figure["dimensions"])
    error = math.hypot(figure["error"], figure.get("spread") or 0.0) * scale
    digits = 2 if unit.startswith("nats") else 3
    had, seen = paper["training"], _seen(result)
    size = had["parameters"] / result.model["parameters"]
    if "imported" in result.model["provenance"]:
        fewer = "its own weights"
    elif had["processes"] is None:
        fewer = f"not known: its {had['batch_size']} a batch are of each of its processes"
    elif seen:
        fewer = _times(had["max_steps"] * had["batch_size"] * had["processes"] / seen)
    else:
        fewer = ""
    if fewer and result.model.get("counted", 0):
        fewer += ", beside the text that its n-grams were counted in"
    same_data = f"{result.data['label']}, {result.data['split']}" == paper["data"]
    data = "the same" if same_data and not result.data["note"] else f"another: {_data(result)}"
    cells = (
        _name(result),
        _steps(figure["n_steps"]),
        _steps(paper["n_steps"]),
        f"**{figure['nats'] * scale - paper['value']:+.{digits}f}** ± {error:.{digits}f}",
        unit,
        _times(size),
        fewer,
        f"{data}, {figure['samples']:,} samples",
    )
    return f"| {' | '.join(cells)} |"


def _times(ratio: float) -> str:
    return f"{ratio:,.{1 if ratio < 100 else 0}f}"


def _flows(flows: Sequence[Result]) -> Iterator[str]:
    """Yield the bounds through the ODE beside the variational ones of the same samples."""
    yield "### Through the probability-flow ODE"
    yield ""
    yield "The same networks as density models of another kind: the ODE of the BFN-Solvers, its"
    yield "density by the change of variables (`bfn_core.flow_bound`), its trace by random probes."
    yield "The difference to n = ∞ is taken draw by draw on the same samples, which is why it is"
    yield "surer than either. Few samples: not to be compared with the figures above."
    yield ""
    yield (
        "| benchmark | steps | from t | probes | network calls | bound | ± draws | ± samples | "
        "n = ∞ | difference | ± draws | ± samples | unit | samples | data | hardware | seed | "
        "date |"
    )
    yield f"|{'---|' * 18}"
    for result in flows:
        for figure in sorted(result.figures, key=lambda row: -row["solver_steps"]):
            yield _flow_row(result, figure)


def _flow_row(result: Result, figure: Mapping[str, Any]) -> str:
    unit, scale = result.unit(figure["dimensions"])
    digits = 2 if unit.startswith("nats") else 3

    def shown(key: str, form: str = "") -> str:
        value = figure[key]
        return "" if value is None else f"{value * scale:{form}.{digits}f}"

    cells = (
        _name(result),
        str(figure["solver_steps"]),
        f"{figure['eta']:g}",
        str(figure["probes"]),
        str(figure["calls"]),
        f"**{shown('nats')}**",
        shown("error"),
        shown("spread"),
        shown("variational"),
        shown("excess", "+"),
        shown("excess_error"),
        shown("excess_spread"),
        unit,
        f"{figure['samples']:,} × {figure['passes']} times, {result.settings['precision']}",
        _data(result),
        str(figure.get("processor", result.machine["processor"])),
        str(result.settings["seed"]),
        figure.get("date", result.date),
    )
    return f"| {' | '.join(cells)} |"
