"""Measured figures as JSON files, one a benchmark and kind; tables and pictures are made of them.

Kinds: ``bound`` (likelihood bounds), ``flow`` (those through the ODE), ``quality`` (of samples,
against calls and sampler), ``speed`` (of the network, against running it plainly) and ``training``
(losses against steps).
"""

from __future__ import annotations

import datetime
import itertools
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from molbfn.atomic import replacing
from molbfn.benchmarks.hardware import describe_machine
from molbfn.benchmarks.model import BenchModel
from molbfn.benchmarks.networks.ngram_prior import PriorNetwork
from molbfn.errors import UserError

_PAPERS = ("mnist", "cifar10_256", "cifar10_16", "cifar10_continuous", "text8")
KINDS = ("bound", "flow", "quality", "speed", "training")


@dataclass(frozen=True)
class _Needed:
    """Keys that a kind of result must have: in its parts, and in each row."""

    parts: tuple[tuple[str, tuple[str, ...]], ...]
    row: tuple[str, ...]


_NEEDED = {
    "bound": _Needed(
        (("data", ("label", "split", "note")), ("settings", ("seed", "precision"))),
        ("n_steps", "nats", "error", "samples", "passes", "repeats", "dimensions"),
    ),
    "flow": _Needed(
        (
            ("data", ("label", "split", "note")),
            ("settings", ("seed", "precision")),
            ("machine", ("processor",)),
        ),
        (
            *("solver_steps", "eta", "probes", "calls", "nats", "error", "spread", "variational"),
            *("excess", "excess_error", "excess_spread", "samples", "passes", "dimensions"),
        ),
    ),
    "quality": _Needed(
        (("settings", ("seed", "samples", "precision")), ("machine", ("processor",))),
        ("sampler", "calls", "samples"),
    ),
    "speed": _Needed(
        (("machine", ("device", "processor", "threads")),),
        ("job", "variant", "batch_size", "samples_per_second", "gain", "gain_min", "gain_max"),
    ),
    "training": _Needed((("settings", ("dimensions",)),), ("step",)),
}


_KEYS = {
    "bound": ("n_steps",),
    "flow": ("solver_steps", "eta", "probes"),
    "quality": ("sampler", "calls"),
}
"""by which a row of a kind is known, in the kinds that are filled in pieces"""


@dataclass(frozen=True)
class Result:
    """One file.

    Attributes:
        benchmark: name of the config, such as ``mnist_small``.
        kind: one of :data:`KINDS`.
        model: fingerprint, parameters, numbers that were counted in place of trained (those of
            n-grams), and its provenance.
        data: label, split, note and digest of what it was measured on.
        settings: of the measurement: seed, passes, precision, ...
        machine: see :func:`molbfn.benchmarks.hardware.describe_machine`.
        date: ISO, UTC.
        figures: the measured rows, each a mapping.
    """

    benchmark: str
    kind: str
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    date: str
    figures: list[Mapping[str, Any]]

    @property
    def base(self) -> str:
        """The paper's benchmark that this one stands for; a benchmark of one's own is its own."""
        for name in _PAPERS:
            if self.benchmark == name or self.benchmark.startswith(f"{name}_"):
                return name
        return self.benchmark.removesuffix("_small")

    def unit(self, dimensions: int) -> tuple[str, float]:
        """Return the unit that the papers use here, and what makes nats a sample into it.

        Args:
            dimensions: elements of a sample.
        """
        if self.base.startswith("mnist"):
            return "nats/image", 1.0
        unit = "bits/char" if self.base.startswith("text8") else "bits/dim"
        return unit, 1 / (dimensions * math.log(2))

    @property
    def file_name(self) -> str:
        """Name of its file."""
        return f"{self.benchmark}_{self.kind}.json"

    def fits(self, other: Result) -> bool:
        """Whether the other one is of the same weights, data and settings.

        Figures of older versions do not know the digest of their data: that of the other counts.
        """
        same = other.model["fingerprint"] == self.model["fingerprint"]
        ours, theirs = {**other.data, **self.data}, {**self.data, **other.data}
        return same and other.settings == self.settings and ours == theirs

    def filled_from(self, old: Result) -> Result:
        """Return this with the rows of an older one, which it fits, that it lacks.

        A bound is known by its n, one through the ODE by its solver and probes, a row of a quality
        by its sampler and number of calls.  Of two bounds, the one of more samples stays.  Rows of
        the older one keep their day and processor.
        """
        rows = {self._key(row): row for row in self.figures}
        kept = {}
        for row in old.figures:
            new = rows.get(self._key(row))
            if new is None or _weight(row) > _weight(new):
                origin = {"date": old.date, "processor": old.machine.get("processor", "")}
                kept[self._key(row)] = {**origin, **row}
        own = [row for key, row in rows.items() if key not in kept]
        return replace(self, figures=[*kept.values(), *own])

    def write(self, folder: Path) -> Path:
        """Write :attr:`file_name` into the folder, which is made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.file_name
        with replacing(path) as stream:
            stream.write((json.dumps(asdict(self), indent=1) + "\n").encode())
        return path

    def _key(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row[key] for key in _KEYS[self.kind])


@dataclass(frozen=True)
class Kept:
    """Where a result is now.

    Attributes:
        path: its file.
        notes: what became of figures that were there before, where that is not plain.
    """

    path: Path
    notes: list[str]


def check_results(folder: Path) -> None:
    """Make the folder of the figures and try it, before anything is measured.

    Raises:
        UserError: it cannot be made, or nothing can be written into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".partial"):
            pass
    except OSError as error:
        raise UserError(f"--results {folder}: {error.strerror or error}") from None


def keep(result: Result, folder: Path) -> Kept:
    """Write a bound or quality into the folder, beside the rows that it does not measure anew.

    Figures of other weights, data or settings, and a file that cannot be read, move to
    ``FILE.before``, or ``FILE.before1`` and so on: none is lost.
    """
    path = folder / result.file_name
    if not path.is_file():
        return Kept(result.write(folder), [])
    try:
        old = read_result(path)
    except UserError:
        old = None
    if old is None or not result.fits(old):
        before = set_aside(path)
        what = "of other weights, data or settings" if old else "that cannot be read"
        return Kept(result.write(folder), [f"figures {what} were there: now in {before}"])
    merged = result.filled_from(old)
    stayed = [row for row in result.figures if row not in merged.figures]
    notes = [
        f"{_label(row)}: an earlier figure of more samples stays in the file" for row in stayed
    ]
    return Kept(merged.write(folder), notes)


def keep_speed(result: Result, folder: Path) -> Kept:
    """Write speeds into the folder, in place of earlier ones of the same on the same machine.

    Others, and a file that cannot be read, move to ``FILE.before``, as :func:`keep` does it.  The
    weights are fresh ones, so that networks of one size count as the same.
    """
    path, notes = folder / result.file_name, []
    if path.is_file():
        try:
            old = read_result(path)
        except UserError:
            old = None
        if old is None or _timed(old) != _timed(result):
            what = "of other settings or another machine or network" if old else (
                "that cannot be read"
            )  # fmt: skip
            notes = [f"figures {what} were there: now in {set_aside(path)}"]
    return Kept(result.write(folder), notes)


def _timed(speed: Result) -> dict[str, Any]:
    """Return what speeds hang on."""
    machine = {k: v for k, v in speed.machine.items() if k != "load average before"}
    settings = dict(speed.settings)
    return {"machine": machine, "settings": settings, "parameters": speed.model["parameters"]}


def set_aside(path: Path) -> Path:
    """Move a file to ``FILE.before``, or ``FILE.before1`` and so on; return where it is now."""
    names = (f"{path.name}.before{number or ''}" for number in itertools.count())
    before = next(place for name in names if not (place := path.with_name(name)).exists())
    return path.replace(before)


def _label(row: Mapping[str, Any]) -> str:
    """Return what to call a bound's row."""
    if "solver_steps" in row:
        return f"{row['solver_steps']} steps"
    return f"n = {'inf' if row['n_steps'] is None else row['n_steps']}"


def _weight(row: Mapping[str, Any]) -> tuple[int, int]:
    """Return how much a bound says: its samples first, then draws of each; 0 for a quality."""
    if "passes" not in row:
        return 0, 0
    return row["samples"], row["passes"] * row.get("repeats", 1)


def make_result(
    model: BenchModel,
    *,
    kind: str,
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    figures: list[Mapping[str, Any]],
    machine: Mapping[str, Any] | None = None,
) -> Result:
    """Return a result with all that is known of model, machine and day.

    ``machine``, described before a measurement, says what else ran when it began.
    """
    network = model.network
    return Result(
        benchmark=model.info.config.name,
        kind=kind,
        model={
            "fingerprint": model.fingerprint(),
            "parameters": sum(p.numel() for p in network.parameters()),
            "counted": network.prior.logits.numel() if isinstance(network, PriorNetwork) else 0,
            "provenance": dict(model.info.provenance),
        },
        data=dict(data),
        settings=dict(settings),
        machine=dict(machine or describe_machine(str(model.device))),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        figures=figures,
    )


def read_results(folder: Path) -> list[Result]:
    """Return all results of a folder, by name.

    Raises:
        UserError: a file is not a result.
    """
    paths = sorted(path for kind in KINDS for path in folder.glob(f"*_{kind}.json"))
    return [read_result(path) for path in paths]


def read_result(path: Path) -> Result:
    """Return one result.

    Raises:
        UserError: it is not one.
    """
    try:
        result = Result(**json.loads(path.read_text(encoding="utf-8")))
        _check(result)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        wrong = f"lacks {error}" if isinstance(error, KeyError) else error
        raise UserError(f"{path}: not a result of 'molbfn bench eval' ({wrong})") from None
    return result


def _check(result: Result) -> None:
    """Look at all that the tables need; raise what Python raises where it is not there."""
    needed = _NEEDED[result.kind]
    for part, keys in (("model", ("fingerprint", "parameters", "provenance")), *needed.parts):
        for key in keys:
            getattr(result, part)[key]
    result.model["provenance"].get("steps")
    for row in result.figures:
        for key in needed.row:
            row[key]


def published() -> dict[str, Any]:
    """Return the papers' figures, with their sources."""
    path = Path(__file__).parent / "published.json"
    return json.loads(path.read_text(encoding="utf-8"))
