"""One self-contained HTML file: figures, distributions, molecules, failures, trajectories.

Python gathers the data and puts it, the style, the scripts and 3Dmol.js into one file; the scripts
(`assets/*.js`) build the page from the data. Nothing is fetched when it is opened: the content
security policy allows no connection and only the scripts whose hashes it lists, so that nothing
that stands in a molecule file can run or phone home. The scripts write text, never markup.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import html
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from molbfn.atomic import check_replaceable, replacing
from molbfn.chem.files import read_molecules
from molbfn.errors import UserError
from molbfn.evaluation import Settings, evaluate
from molbfn.evaluation.distributed import PROTOCOL as DISTRIBUTIONS
from molbfn.evaluation.distributed import first_states_bonds
from molbfn.evaluation.source import file_of
from molbfn.report.collect import LABELS, Card, collect, with_measurements
from molbfn.report.pack import pack_card, pack_evaluation
from molbfn.report.reasons import STATUSES
from molbfn.report.trajectories import pack_trajectories
from molbfn.versions import installed_version

ALWAYS = ("edm", "bonds", DISTRIBUTIONS)
"""protocols that every report has"""
DEFAULT_SHOWN = 1000
"""molecules of each file"""
SCRIPTS = ("dom", "depict", "charts", "summary", "viewer", "gallery", "detail", "player", "report")

Progress = Callable[[str, int, "int | None"], None]


@dataclass(frozen=True)
class ReportOptions:
    """What a report shows.

    Attributes:
        reference: what novelty and distributions are compared with, as in `evaluate`.
        reference_split: part of the reference.
        protocols: of the evaluation, beside those in every report.
        shown: molecules of each file that are shown one by one; figures are of all.
        title: of the page.
        seed: of the intervals and the samples.
        samples, settings: of the slow protocols, as in `evaluate`.
    """

    reference: str | None = None
    reference_split: str | None = None
    protocols: tuple[str, ...] = ()
    shown: int = DEFAULT_SHOWN
    title: str | None = None
    seed: int = 0
    samples: Mapping[str, int | None] = field(default_factory=dict)
    settings: Settings | None = None


def write_report(
    files: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    options: ReportOptions | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the report on molecule files (or named data sets), each beside the others.

    Raises:
        UserError: a file cannot be read, an option is unusable, or the output cannot be written.
    """
    output, options = Path(output), options or ReportOptions()
    if not files:
        raise UserError("no files to report on")
    if output.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{output}: the report is an HTML page; give it a name that ends in .html")
    if options.shown < 1:
        raise UserError(f"-n {options.shown}: must be at least 1")
    check_replaceable(output)
    data = report_data([file_of(file) for file in files], options, progress)
    with replacing(output) as stream:
        stream.write(page(data).encode())
    return output


def report_data(
    paths: Sequence[Path], options: ReportOptions, progress: Progress | None = None
) -> dict[str, Any]:
    """Return everything the page shows, as plain values for JSON."""
    protocols = list(dict.fromkeys((*ALWAYS, *options.protocols)))
    if "all" in protocols:
        protocols = ["all"]
    for path in paths:  # what is wrong is found before hours of work, not after
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(
                f"{path}: a report reads its files more than once, which a pipe does not allow; "
                "write the molecules to a file first"
            )
        read_molecules(path)
    names = _names(paths)
    bare = _without_bonds(paths, names)
    files: list[dict[str, Any]] = []
    cards: list[tuple[int, Card]] = []
    trajectories: list[dict[str, Any]] = []
    for number, path in enumerate(paths):
        result = evaluate(
            path,
            reference=options.reference,
            reference_split=options.reference_split,
            protocols=protocols,
            samples=options.samples,
            settings=options.settings,
            distribution_bonds="table" if bare else None,
            seed=options.seed,
            progress=progress,
        )
        own = []
        for place, card in enumerate(collect(path, options.shown)):
            own.append(with_measurements(card, result.outcomes, place))
            if progress:
                progress("drawing", len(own), min(options.shown, result.given))
        frames, notes = pack_trajectories(path, own, number)
        notes = [*notes, *bare]
        trajectories += frames
        cards += [(number, card) for card in own]
        files.append(pack_evaluation(names[number], result, shown=len(own), notes=notes))
    columns = _columns([card for _, card in cards])
    for number, file in enumerate(files):
        own = [card for n, card in cards if n == number]
        file["constants"] = _constants(own, {column["key"] for column in columns})
    return {
        "title": options.title or _title(names),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "version": installed_version("molbfn") or "unknown",
        "reference": files[0]["reference"],
        "statuses": STATUSES,
        "columns": columns,
        "files": files,
        "cards": [pack_card(number, card, columns) for number, card in cards],
        "trajectories": trajectories,
    }


def _without_bonds(paths: Sequence[Path], names: Sequence[str]) -> list[str]:
    """Return a note where some files state bonds and others do not, else nothing.

    Distributions stand over each other, beside one reference: they must be of the same bonds.
    """
    stated = [first_states_bonds(r.molecule for r in read_molecules(path)) for path in paths]
    if all(stated) or not any(stated):
        return []
    bare = ", ".join(name for name, found in zip(names, stated, strict=True) if not found)
    return [
        f"{DISTRIBUTIONS}: no bonds are stated in {bare}, so those of all files are by distance"
    ]


def _names(paths: Sequence[Path]) -> list[str]:
    """Return short names, as much of each path as tells them apart."""
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({number})" for number, path in enumerate(paths, 1)]


def _title(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _columns(cards: Sequence[Card]) -> list[dict[str, str | None]]:
    """Return what molecules can be sorted by: numbers that differ between them."""
    values: dict[str, set[float | str]] = {name: set() for name in LABELS}
    missing: set[str] = set()
    for card in cards:
        missing.update(card.missing)
        for name, value in card.numbers.items():
            values.setdefault(name, set()).add(card.stated.get(name, value))
    found = []
    for name, seen in values.items():
        if len(seen) > 1 or name in missing or (seen and name in LABELS):
            label, unit = LABELS.get(name, (name, None))
            found.append({"key": name, "label": label, "unit": unit})
    return found


def _constants(cards: Sequence[Card], columns: set[str | None]) -> dict[str, str]:
    """Return the properties that all molecules of a file share, such as how they were made."""
    read = [card for card in cards if card.molecule is not None]
    if not read:
        return {}
    shared: dict[str, float | str] = {**read[0].numbers, **read[0].texts, **read[0].stated}
    for card in read[1:]:
        own = {**card.numbers, **card.texts, **card.stated}
        shared = {key: value for key, value in shared.items() if own.get(key) == value}
    return {
        key: str(value)
        for key, value in shared.items()
        if key not in columns and key not in LABELS and str(value)
    }


def page(data: dict[str, Any]) -> str:
    """Return the page for the data of a report."""
    scripts = [_asset("3Dmol-min.js"), _own_script()]
    parts = {
        "TITLE": html.escape(str(data["title"])),
        "POLICY": _policy(scripts),
        "STYLE": _asset("report.css"),
        "DATA": embedded_json(data),
        "LICENCE": html.escape(_asset("3Dmol-LICENSE.txt")),
        "LIBRARY": scripts[0],
        "SCRIPT": scripts[1],
    }
    # one pass over the template, so that what is put in is never looked at again
    pieces = _asset("report.html").split("%%")
    for k in range(1, len(pieces), 2):
        pieces[k] = parts[pieces[k]]
    return "".join(pieces)


def embedded_json(value: Any) -> str:
    """Return JSON that may stand inside a script element, whatever its texts hold."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # lone surrogates cannot be encoded
    return text.encode("utf-8", errors="replace").decode()


def _own_script() -> str:
    body = "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{body}\n}})();\n'


def _policy(scripts: Sequence[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    return (resources.files("molbfn.report") / "assets" / name).read_text(encoding="utf-8")
