"""The record beside a generated file: ``out.sdf.json`` says how ``out.sdf`` was made.

While ``out.sdf.partial`` grows, its record is ``out.sdf.partial.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molbfn.atomic import replacing
from molbfn.chem.records import ResumePoint, system_errors
from molbfn.errors import UserError
from molbfn.versions import installed_version

Record = dict[str, Any]
"""Keys: "complete", "wanted", "written", "settings" (everything that the molecules depend on),
"runs" (what each run of the command made, in order) and "versions"."""

_PACKAGES = ("molbfn", "torch", "rdkit")


def record_path(output: Path, *, partial: bool = False) -> Path:
    """Return where the record of ``output`` is, or of what will become it."""
    return output.with_name(output.name + (".partial.json" if partial else ".json"))


def new_record(settings: Mapping[str, Any], *, wanted: int) -> Record:
    """Return the record of a file that holds nothing yet."""
    return {
        "complete": False,
        "wanted": wanted,
        "written": 0,
        "settings": dict(settings),
        "runs": [],
        "versions": {name: installed_version(name) for name in _PACKAGES},
    }


def write_record(path: Path, record: Record) -> None:
    """Write a record whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    with replacing(path) as stream:
        stream.write((json.dumps(record, indent=1) + "\n").encode())


def find_record(output: Path, found: ResumePoint) -> Record:
    """Return the record of the molecules found for ``output``.

    Raises:
        UserError: missing or unreadable.
    """
    own, growing = record_path(output), record_path(output, partial=True)
    candidates = (own, growing) if found.path == output else (growing, own)
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise UserError(
            f"{output}: cannot be resumed, {candidates[0].name} that says how it was made is "
            f"missing; give another --output"
        )
    with system_errors(path):
        text = path.read_bytes()
    try:
        record = json.loads(text)
        known = isinstance(record["settings"], dict) and isinstance(record["runs"], list)
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise UserError(
            f"{path}: not a record of molbfn, so {output.name} cannot be resumed; "
            f"give another --output"
        )
    return record


def check_resumable(
    output: Path, found: ResumePoint, record: Record, settings: Mapping[str, Any], *, indices: range
) -> int:
    """Return the index of the first molecule that is missing.

    Raises:
        UserError: other settings than before (names the first), more molecules than wanted, or
            molecules that are not the first ones of a generation: what is there would not be that
            of one uninterrupted run.
    """
    before = {"compile": False, **record["settings"]}  # older records do not have it
    for key, value in settings.items():
        if before.get(key) != value:
            raise UserError(
                f"{output}: was made with {key} = {before.get(key)}, now it is {value}; "
                f"resume with the same settings or give another --output"
            )
    if found.records > len(indices):
        raise UserError(
            f"{output}: holds {found.records} molecules already, more than -n {len(indices)}; "
            f"give a larger -n or another --output"
        )
    if settings.get("require") is not None:  # indices have gaps
        return _after_selection(output, found, record)
    if found.highest_index not in (None, indices.start + found.records - 1):
        raise UserError(
            f"{output}: its {found.records} molecules go up to index {found.highest_index}, so "
            f"some were removed or added; it cannot be resumed, give another --output"
        )
    if found.highest_index is None and found.path == output:
        written = record["written"]
        killed = record_path(output, partial=True).exists()  # while it went on in place
        if found.records < written or (found.records > written and not killed):
            raise UserError(
                f"{output}: holds {found.records} molecules where its record says {written}, so "
                f"some were removed or added; it cannot be resumed, give another --output"
            )
    return indices.start + found.records


def _after_selection(output: Path, found: ResumePoint, record: Record) -> int:
    """Return the index after the last molecule, from the file, or from the record of its end."""
    if found.highest_index is not None:
        return found.highest_index + 1
    last = record["runs"][-1].get("last_index") if record["runs"] else None
    if record.get("written") != found.records or last is None:
        raise UserError(
            f"{output}: does not say which molecules were selected, nor does its record, for it "
            f"was killed; it cannot be resumed, give another --output (.sdf and .csv keep indices)"
        )
    return int(last) + 1
