"""Properties of molecules in files: numbers where a text is one, the total charge among them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

Property = str | int | float

_NUMBER = re.compile(r"[+-]?(?:\d{1,400}\.?\d{0,400}|\.\d{1,400})(?:[eE][+-]?\d{1,9})?", re.ASCII)
_CHARGE_KEYS = ("charge", "total_charge")  # in any case of letters


def parse_property(value: Property) -> Property:
    """Return the number that a text stands for if Python would write it like that, else the text.

    "12" becomes 12 and "0.5" 0.5, but "012", "1.50" and "nan" stay text: nothing is lost.
    """
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"-?\d{1,4000}", value) and str(int(value)) == value:
        return int(value)
    if re.fullmatch(r"-?\d+(\.\d+)?(e[+-]?\d+)?", value):
        number = float(value)
        if math.isfinite(number) and repr(number) == value:
            return number
    return value


def as_number(value: Property) -> int | float | None:
    """Return the finite number that a property is or that its text reads as, however written.

    So "-7.30", "+1.2" and "1.0E+02" are numbers too, which `parse_property` leaves as text.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value.strip()):
            return None
        value = float(value)
    return value if isinstance(value, int) or math.isfinite(value) else None


def total_charge(properties: Mapping[str, Property]) -> int | None:
    """Return the total charge that properties state, as ``charge`` or ``total_charge``.

    None where none does, it is no whole number, or several differ.
    """
    found = {as_number(v) for k, v in properties.items() if k.lower() in _CHARGE_KEYS}
    if len(found) != 1:
        return None
    (value,) = found
    return None if value is None or value != int(value) else int(value)


def with_total_charge(properties: Mapping[str, Property], charge: int) -> dict[str, Property]:
    """Return the properties, so that `total_charge` finds this one; 0 need not be stated."""
    if (total_charge(properties) or 0) == charge:
        return dict(properties)
    others = {k: v for k, v in properties.items() if k.lower() not in _CHARGE_KEYS}
    return {**others, "charge": charge} if charge else others
