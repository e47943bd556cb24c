from __future__ import annotations

import pytest

from molbfn.chem.properties import as_number, parse_property, total_charge, with_total_charge


@pytest.mark.parametrize(
    ("text", "value"),
    [("12", 12), ("-3", -3), ("0.5", 0.5), ("1e-05", 1e-05), ("012", "012"), ("1.50", "1.50")]
    + [(t, t) for t in ("nan", "inf", "-0", "1_000", "", "١٢", "9" * 5000)],
)
def test_only_text_that_python_would_write_becomes_a_number(text: str, value: object) -> None:
    parsed = parse_property(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("value", "number"),
    [("-7.30", -7.3), ("1.0E+02", 100), ("+1.2", 1.2), ("012", 12), (".5", 0.5), ("3.", 3), (4, 4)],
)
def test_a_number_is_one_however_it_is_written(value, number) -> None:
    assert as_number(value) == number


@pytest.mark.parametrize(
    "value",
    ["", ".", "nan", "inf", "1e999", "1_000", "1 2", "0x10", "١٢", "1.2 kcal", "9" * 5000, True],
)
def test_what_is_no_number_is_none(value) -> None:
    assert as_number(value) is None


@pytest.mark.parametrize(
    ("properties", "charge"),
    [
        ({"charge": "+1"}, 1),
        ({"charge": "-1.00"}, -1),
        ({"Charge": -1}, -1),
        ({"total_charge": -2}, -2),
        ({"CHARGE": 1, "total_charge": "+1.0"}, 1),
        ({"charge": 1, "total_charge": 2}, None),
        ({"charge": 0.5}, None),
        ({"charge": "neutral"}, None),
        ({"charges": 1, "partial_charge": 1}, None),
        ({}, None),
    ],
)
def test_the_total_charge_is_read_however_it_is_written(properties, charge) -> None:
    assert total_charge(properties) == charge


def test_what_states_another_charge_is_replaced() -> None:
    assert with_total_charge({"a": 1}, 0) == {"a": 1}
    assert with_total_charge({"a": 1}, -1) == {"a": 1, "charge": -1}
    assert with_total_charge({"Total_Charge": "-1.0"}, -1) == {"Total_Charge": "-1.0"}
    assert with_total_charge({"Charge": 2}, -1) == {"charge": -1}
    assert with_total_charge({"charge": 2}, 0) == {}
