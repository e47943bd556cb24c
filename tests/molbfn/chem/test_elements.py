from __future__ import annotations

import pytest

from molbfn.chem.elements import SYMBOLS, atomic_number, symbol
from molbfn.errors import UserError


def test_agrees_with_rdkit_for_every_element() -> None:
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    assert len(SYMBOLS) == 119
    for number in range(1, 119):
        assert symbol(number) == table.GetElementSymbol(number)
        assert atomic_number(symbol(number)) == number
        assert atomic_number(symbol(number).upper()) == number


@pytest.mark.parametrize("text", ["cl", " CL ", "Cl"])
def test_letter_case_and_spaces_do_not_matter(text: str) -> None:
    assert atomic_number(text) == 17


def test_hydrogen_isotopes() -> None:
    assert atomic_number("D") == atomic_number("T") == 1


@pytest.mark.parametrize("number", [0, -1, 119])
def test_no_such_number(number: int) -> None:
    with pytest.raises(UserError, match=str(number)):
        symbol(number)


@pytest.mark.parametrize("text", ["Xx", "*", "R#", "", "6"])
def test_no_such_symbol(text: str) -> None:
    with pytest.raises(UserError, match="unknown element"):
        atomic_number(text)
