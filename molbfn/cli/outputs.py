"""Output files: that they can be written, and replace nothing that a command reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from molbfn.errors import UserError


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path]) -> None:
    """See that no output is a folder, an input, another output, or the record of an input.

    Args:
        outputs: option -> file, as the user named both.
        inputs: files or folders that are read; a data set's name is no file.

    Raises:
        UserError: it names the option.
    """
    from molbfn.chem.files import is_readable

    read = list(inputs)
    places: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is not None and path.is_dir():
            raise UserError(f"{option} {path}: is a folder; give the name of a file")
        if path is None or (path.exists() and not path.is_file()):  # /dev/null, say
            continue
        other = places.setdefault(path.resolve(), option)
        if other != option:
            raise UserError(f"{option} {path}: is the file of {other} too; give another name")
    for option, path in outputs.items():
        if path is None or not path.exists():
            continue
        for source in read:
            if source.exists() and path.samefile(source):
                raise UserError(f"{option} {path}: is an input, which it would replace")
            inside = source.is_dir() and source.resolve() in path.resolve().parents
            if inside and is_readable(path):
                raise UserError(
                    f"{option} {path}: is one of the molecule files of {source}, an input, which "
                    f"it would replace"
                )
            if path.name == f"{source.name}.json" and _is_record(path):
                raise UserError(
                    f"{option} {path}: says how {source.name} was generated, which it would "
                    f"replace; give another name"
                )


def check_folders(*files: Path | None) -> None:
    """See that the folders of files to be written exist.

    Raises:
        UserError: one does not.
    """
    for path in files:
        if path is not None and not path.parent.is_dir():
            raise UserError(f"{path}: the folder {path.parent} does not exist; make it first")


def check_replaced(*files: Path | None) -> None:
    """See that files that are written whole, at the end of the work, can be.

    Raises:
        UserError: one cannot.
    """
    from molbfn.atomic import check_replaceable

    for path in files:
        if path is not None:
            check_replaceable(path)


def _is_record(path: Path) -> bool:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and {"settings", "runs", "wanted"} <= record.keys()
