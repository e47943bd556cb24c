from __future__ import annotations

import numpy as np
import pytest

from molbfn.chem.formats import FORMATS, Csv, formula
from molbfn.chem.molecule import Molecule
from molbfn.errors import UserError


def of(*numbers: int) -> Molecule:
    return Molecule(np.array(numbers), np.zeros((len(numbers), 3)))


@pytest.mark.parametrize(
    ("molecule", "expected"),
    [
        (of(1, 6, 1, 1, 1), "CH4"),
        (of(17, 1, 6, 6, 8, 35), "C2HBrClO"),
        (of(8, 1, 1), "H2O"),
        (of(1, 35), "BrH"),
    ],
)
def test_hill_formula(molecule: Molecule, expected: str) -> None:
    assert formula(molecule) == expected


@pytest.mark.parametrize("suffix", [".sdf", ".xyz", ".smi", ".csv"])
def test_scan_finds_each_record_that_was_written(water: Molecule, suffix: str) -> None:
    given = [water.with_properties(index=5, molbfn_index=k, note="index=9 $$$$") for k in (7, 2)]
    writing = FORMATS[suffix]()
    text = writing.header(given[0]) + "".join(writing.record(m) for m in given)
    lines = iter(text.encode().splitlines(keepends=True))
    found = [index for is_record, index in FORMATS[suffix]().scan(lines) if is_record]
    assert found == ([None, None] if suffix == ".smi" else [7, 2])


def test_scan_refuses_another_csv() -> None:
    with pytest.raises(UserError, match="columns"):
        list(Csv().scan(iter([b"smiles,name\n", b"C,methane\n"])))


def test_scan_refuses_what_is_not_xyz() -> None:
    with pytest.raises(UserError, match="number of atoms"):
        list(FORMATS[".xyz"]().scan(iter([b"1\n", b"\n", b"He 0 0 0\n", b"oops\n"])))
