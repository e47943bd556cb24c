"""Measured figures as JSON files, one a benchmark and kind; tables and pictures are made of them.

Kinds: ``bound`` (likelihood bounds), ``quality`` (of samples, against calls and sampler),
``speed`` (of the network, against running it plainly) and ``training`` (losses against steps).
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from molbfn.benchmarks.hardware import describe_machine
from molbfn.benchmarks.model import BenchModel
from molbfn.data.npz import replacing
from molbfn.errors import UserError

KINDS = ("bound", "quality", "speed", "training")


@dataclass(frozen=True)
class Result:
    """One file.

    Attributes:
        benchmark: name of the config, such as ``mnist_small``.
        kind: one of :data:`KINDS`.
        model: fingerprint, parameters, and its provenance.
        data: label, split and note of what it was measured on.
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
        """The paper's benchmark that this one stands for."""
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

    def merged_into(self, folder: Path) -> Result:
        """Return this with the rows of the folder's file that it lacks.

        Only if weights, data and settings are the same.  A bound is known by its n, a row of a
        quality by its sampler and number of calls.
        """
        path = folder / f"{self.benchmark}_{self.kind}.json"
        if not path.is_file():
            return self
        old = read_result(path)
        same = old.model["fingerprint"] == self.model["fingerprint"]
        if not same or old.settings != self.settings or old.data != self.data:
            return self
        keys = {"bound": ("n_steps",), "quality": ("sampler", "calls")}[self.kind]
        own = {tuple(row[key] for key in keys) for row in self.figures}
        kept = [row for row in old.figures if tuple(row[key] for key in keys) not in own]
        return replace(self, figures=[*kept, *self.figures])

    def write(self, folder: Path) -> Path:
        """Write ``BENCHMARK_KIND.json`` into the folder, which is made if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.benchmark}_{self.kind}.json"
        with replacing(path) as stream:
            stream.write((json.dumps(asdict(self), indent=1) + "\n").encode())
        return path


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
    return Result(
        benchmark=model.info.config.name,
        kind=kind,
        model={
            "fingerprint": model.fingerprint(),
            "parameters": sum(p.numel() for p in model.network.parameters()),
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
        return Result(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: not a result of 'molbfn bench eval' ({error})") from None


def published() -> dict[str, Any]:
    """Return the papers' figures, with their sources."""
    path = Path(__file__).parent / "published.json"
    return json.loads(path.read_text(encoding="utf-8"))
