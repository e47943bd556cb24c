"""Reads configurations: YAML with line numbers, overrides, and one-line errors that name a key."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from molbfn.config import Config
from molbfn.errors import UserError, nearest

Key = tuple[str, ...]
Section = TypeVar("Section", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """PyYAML follows YAML 1.1, in which ``1e-3`` is text; here it is a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read the configuration of a model of molecules; see :func:`read_config`."""
    return read_config(Config, path, overrides, bundled=bundled_configs())


def read_config(
    kind: type[Section],
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    bundled: Mapping[str, Path],
) -> Section:
    """Read a YAML configuration, with overrides like ``training.steps=100``.

    ``path`` may be the bare name of a config that comes with the package, such as ``demo``; these
    are ``bundled``.

    Sections and keys that are left out (or empty sections) take their defaults.

    Raises:
        UserError: file missing or not YAML; unknown key, wrong type or range.  Names the file and
            line, or the override, and the key.
    """
    path = _find(Path(path), bundled)
    values, lines = _read(path)
    places = {key: f"{path}:{line}" for key, line in lines.items()}
    for override in overrides:
        places[_override(values, override)] = f"--set {override}"
    values = {key: value for key, value in values.items() if value is not None}
    return parse_config(kind, values, where=str(path), places=places)


def parse_config(
    kind: type[Section],
    values: Any,
    *,
    where: str,
    places: Mapping[Key, str] | None = None,
) -> Section:
    """Build ``kind`` from plain values; problems become one UserError that names the key.

    Args:
        kind: the section's class.
        values: what YAML or JSON gave.
        where: what the error names.
        places: names in place of ``where`` for single keys (and all below them).
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = _written(first["loc"], values)
        if first["type"] == "union_tag_invalid":
            key += ("kind",)
        known = places or {}
        prefixes = (key[:end] for end in range(len(key), 0, -1))
        above = (known[prefix] for prefix in prefixes if prefix in known)
        below = (named for longer, named in known.items() if key and longer[: len(key)] == key)
        place = next(itertools.chain(above, below), where)
        raise UserError(f"{place}: {_problem(kind, key, first)}") from None


def _written(location: Sequence[str | int], values: Any) -> Key:
    """Return the part of a pydantic location that the user wrote.

    Pydantic puts the chosen member of a union into its locations as well.
    """
    key: list[str] = []
    for part in location:
        keyed = isinstance(values, Mapping) and part in values
        listed = isinstance(values, list | tuple) and isinstance(part, int) and part < len(values)
        if keyed or listed:
            values = values[part]
            key.append(str(part))
    return tuple(key)


def _problem(kind: type[BaseModel], key: Key, error: Mapping[str, Any]) -> str:
    name, message, given = ".".join(key), error["msg"], error["input"]
    quoted = f"'{name}': " if name else ""
    match error["type"]:
        case "extra_forbidden":
            known = _known_keys(kind, error["loc"])
            hint = nearest(key[-1], known) or f" known here: {', '.join(known)}"
            return f"unknown key '{name}';{hint}"
        case "union_tag_invalid":
            known = re.findall(r"'(\w+)'", error["ctx"]["expected_tags"])
            tag = error["ctx"]["tag"]
            return f"'{name}': unknown '{tag}';{nearest(tag, known)} known: {', '.join(known)}"
        case "union_tag_not_found" | "model_type" | "model_attributes_type":
            return f"{quoted}expected a section of 'key: value' lines, got {given!r}"
        case "molbfn":
            return quoted + message
    return f"{quoted}{message[0].lower()}{message[1:]}, got {given!r}"


def _known_keys(kind: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Return the field names at the level of a pydantic location's last part."""
    kinds = [kind]
    for part in location[:-1]:
        chosen = [one for one in kinds if _tag(one) == part]
        below = [
            section
            for one in kinds
            if part in one.model_fields
            for section in sections_of(one.model_fields[str(part)].annotation)
        ]
        kinds = chosen or below or kinds
    return sorted({name for one in kinds for name in one.model_fields})


def _tag(kind: type[BaseModel]) -> Any:
    field = kind.model_fields.get("kind")
    return field.default if field else None


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections that an annotation names, those of unions and mappings too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for part in getattr(annotation, "__args__", ()) for kind in sections_of(part)]


def bundled_configs(below: str = "") -> dict[str, Path]:
    """Return name -> file of the configs that come with the package.

    Args:
        below: folder of them inside ``configs``; the experiments on molecules by default.
    """
    folder = Path(__file__).parent / "configs" / below
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _find(path: Path, bundled: Mapping[str, Path]) -> Path:
    """Return the path, or the bundled config of that name."""
    if path.is_file():
        return path
    if str(path) in bundled:
        return bundled[str(path)]
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a config file")
    if path.exists():  # a pipe, such as <(…)
        return path
    raise UserError(
        f"{path}: no such config file;{nearest(str(path), bundled)} bundled configs: "
        f"{', '.join(bundled)}"
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[Key, int]]:
    """Return the values of a YAML file and the line of each key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a config file ({error})") from None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        lines = _lines(root, path)
        values = loader.construct_document(root) if root else {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise UserError(f"{path}{line}: {problem}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected 'key: value' lines at the top level")
    return values, lines


def _lines(node: yaml.Node | None, path: Path, prefix: Key = ()) -> dict[Key, int]:
    """Return the line of every key, by its place in the tree; refuse keys given twice."""
    lines: dict[Key, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            place, line = (*prefix, str(key.value)), key.start_mark.line + 1
            if place in lines:
                raise UserError(f"{path}:{line}: key '{'.'.join(place)}' is given twice")
            lines[place] = line
            lines.update(_lines(value, path, place))
    return lines


def _override(values: dict[str, Any], override: str) -> Key:
    name, equals, text = override.partition("=")
    key = tuple(name.strip().split("."))
    if not equals or not all(key):
        raise UserError(f"--set {override}: expected key=value, such as training.steps=100")
    for parent in key[:-1]:
        known = _existing(values, parent)
        if values.get(known) is None:
            values[known] = {}
        values = values[known]
        if not isinstance(values, dict):
            raise UserError(f"--set {override}: '{parent}' is a value, not a section")
    try:
        values[_existing(values, key[-1])] = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f"--set {override}: the value is not valid YAML") from None
    return key


def _existing(values: dict[Any, Any], name: str) -> Any:
    """Return the key that is written so: the number 20 of a file for the text 20."""
    return next((key for key in values if str(key) == name), name)
