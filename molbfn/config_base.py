"""The parts that configuration classes are made of."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Discriminator, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's true and false would pass as 1 and 0."""
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and field.annotation is not bool:
            raise PydanticCustomError("switch", "expected a number or a name")
        return value


def wrong(message: str) -> PydanticCustomError:
    """An error that says it all: the offending value is not shown after it."""
    return PydanticCustomError("molbfn", "{message}", {"message": message})  # braces are kept


def rising(knots: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    """Return the corners of a grid from (0, 0) to (1, 1), or refuse them as :func:`wrong`."""
    for before, after in itertools.pairwise([(0.0, 0.0), *knots, (1.0, 1.0)]):
        if not (before[0] < after[0] and before[1] < after[1]):
            raise wrong("both numbers of the knots must rise strictly between 0 and 1")
    return knots


def kind(default: str) -> Discriminator:
    """Choose a section by its key ``kind``, which may be left out."""

    def choose(value: Any) -> str | None:
        if isinstance(value, Mapping):
            return str(value.get("kind", default))
        return getattr(value, "kind", None)

    return Discriminator(choose)


def form(forms: Mapping[type, str], otherwise: str) -> Discriminator:
    """Choose a member of a union by the type of the value."""

    def choose(value: Any) -> str:
        found = (tag for types, tag in forms.items() if isinstance(value, types))
        return next(found, otherwise)

    return Discriminator(choose)
