"""Writes a configuration in full: YAML with every key, its value, its range and what it is."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from molbfn.config_file import sections_of

_COLUMN = 36  # where comments begin
_WIDTH = 100
_BOUNDS = {
    "ge": "at least",
    "gt": "above",
    "le": "at most",
    "lt": "below",
    "multiple_of": "multiple of",
}


@dataclass(frozen=True)
class _Line:
    text: str
    remark: str = ""

    def after(self, prefix: str) -> _Line:
        return _Line(prefix + self.text, self.remark)

    def __str__(self) -> str:
        """Return the text and its comment, which goes on below where it is long."""
        if not self.remark:
            return self.text
        first = f"{self.text:<{_COLUMN}} # "
        rest = f"{'':<{_COLUMN}} # "
        wrapped = textwrap.wrap(
            self.remark,
            width=max(_WIDTH, len(first) + 40),
            initial_indent=first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        )
        return "\n".join(wrapped)


def config_text(config: BaseModel) -> str:
    """Return ``config`` as YAML that reads back as the same configuration.

    Every key of its class is there, those at their defaults too; sections that could be there, and
    the other kinds of those that are, stand as comments.
    """
    found: list[str] = []
    for name, field in type(config).model_fields.items():
        lines = [str(line) for line in _field(name, field, getattr(config, name))]
        found += ["", *lines] if len(lines) > 1 and found else lines
    return "\n".join(found) + "\n"


def _field(name: str, field: FieldInfo, value: Any) -> Iterator[_Line]:
    """Yield the lines of one key and of all below it."""
    if isinstance(value, Mapping):
        yield from _mapping(name, field, value)
        return
    if isinstance(value, BaseModel):
        yield from _section(name, value, field.description)
    else:
        yield _Line(f"{name}: {_plain(value)}", _remark(field, value))
    for kind in sections_of(field.annotation):
        if not isinstance(value, kind):
            yield from (line.after("# ") for line in _section(name, kind(), "or"))


def _section(name: str, section: BaseModel, note: str | None) -> Iterator[_Line]:
    about = (type(section).__doc__ or "").strip().split("\n")[0].replace("``", "")
    about = about.removesuffix(".")
    yield _Line(f"{name}:", f"or: {about}" if note == "or" else _joined(about, note))
    fields = type(section).model_fields
    for key in sorted(fields, key=lambda key: key != "kind"):
        yield from (line.after("  ") for line in _field(key, fields[key], getattr(section, key)))


def _mapping(name: str, field: FieldInfo, value: Mapping[Any, Any]) -> Iterator[_Line]:
    if not value:
        yield _Line(f"{name}: {{}}", _remark(field, value))
        return
    yield _Line(f"{name}:", field.description or "")
    for key, part in value.items():
        given = part.model_dump(exclude_defaults=True) if isinstance(part, BaseModel) else part
        yield _Line(f"  {key}: {_plain(given)}")


def _remark(field: FieldInfo, value: Any) -> str:
    """Say what a key is, what its value may be, and its default if the value is another."""
    names = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return _joined(
        field.description,
        " | ".join(map(str, names)) if len(names) > 1 else "",
        _range(field),
        "" if value == field.default else f"default {_plain(field.default)}",
    )


def _range(field: FieldInfo) -> str:
    limits = {
        name: getattr(limit, name)
        for limit in field.metadata
        for name in _BOUNDS
        if getattr(limit, name, None) is not None
    }
    return ", ".join(f"{_BOUNDS[name]} {_plain(limit)}" for name, limit in limits.items())


def _joined(*parts: str | None) -> str:
    return "; ".join(part for part in parts if part)


def _plain(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.safe_dump(_lists(value), default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def _lists(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _lists(part) for key, part in value.items()}
    return [_lists(part) for part in value] if isinstance(value, list | tuple) else value
