from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from molbfn.chem.molecule import Molecule
from molbfn.chem.npz_records import read_records
from molbfn.errors import UserError


def arrays(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    """Two hydrogen molecules, with changes; None leaves an array out."""
    whole = {
        "num_atoms": np.array([2, 2]),
        "atomic_numbers": np.array([1, 1, 1, 1]),
        "positions": np.array([[0, 0, 0], [0, 0, 0.74]] * 2),
        "num_bonds": np.array([1, 1]),
        "bonds": np.array([[0, 1, 1], [1, 0, 1]]),
    } | changes
    return {name: value for name, value in whole.items() if value is not None}


def read(tmp_path: Path, **changes: np.ndarray | None) -> list[Molecule | str]:
    np.savez(tmp_path / "a.npz", **arrays(**changes))
    return list(read_records(tmp_path / "a.npz"))


def test_bonds_in_either_direction(tmp_path: Path) -> None:
    for molecule in read(tmp_path):
        assert molecule.bonds.tolist() == [[0, 1, 1]]
    assert all(m.bonds is None for m in read(tmp_path, bonds=None))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bonds": np.array([[0, 1, 1], [0, 2, 1]])}, "an atom that the molecule lacks"),
        ({"bonds": np.array([[0, 1, 1], [0, 0, 1]])}, "an atom with itself"),
        ({"bonds": np.array([[0, 1, 1], [0, 1, 5]])}, "order outside 1 to 4"),
        ({"bonds": np.array([[0, 1, 1], [0, 1, 4]])}, "Kekule"),
        ({"positions": np.array([[0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 1e300]])}, "finite"),
        ({"atomic_numbers": np.array([1, 1, 1, 0])}, "between 1 and 118"),
        ({"records_json": np.frombuffer(b"{}\n[[", np.uint8)}, "not JSON"),
        ({"records_json": np.frombuffer(b"{}\n[]", np.uint8)}, "not a record"),
        ({"formal_charges": np.array([0, 0, 0, 10**9])}, "formal charge"),
    ],
)
def test_a_bad_molecule_costs_only_itself(tmp_path: Path, changes, reason: str) -> None:
    first, second = read(tmp_path, **changes)
    assert isinstance(first, Molecule)
    assert isinstance(second, str)
    assert reason in second


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_atoms": None}, "no array 'num_atoms'"),
        ({"num_atoms": np.array([-2, 6])}, "cannot be counts"),
        ({"num_atoms": np.array([2.0, 2.0])}, "whole numbers"),
        ({"num_atoms": np.array([2, 3])}, "add up to"),
        ({"positions": np.zeros((4, 2))}, "positions"),
        ({"positions": np.full((4, 3), "a")}, "no such numbers"),
        ({"num_bonds": np.array([2])}, "one entry per molecule"),
        ({"num_atoms": np.array([2**62, 2**62, 2**62, 2**62 + 4])}, "cannot be counts"),
    ],
)
def test_a_file_that_does_not_fit_itself(tmp_path: Path, changes, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        read(tmp_path, **changes)


def test_a_file_of_smiles_and_no_bonds_has_those_of_the_smiles(tmp_path: Path) -> None:
    changes = {
        "atomic_numbers": np.array([7, 7, 7, 7]),
        "positions": np.array([[0, 0, 0], [0, 0, 1.1]] * 2),
        "smiles": np.frombuffer(b"N#N\nCO", np.uint8),
        "num_bonds": None,
        "bonds": None,
        "formal_charges": None,
        "records_json": None,
    }
    first, second = read(tmp_path, **changes)
    assert first.bonds.tolist() == [[0, 1, 3]]
    assert first.formal_charges.tolist() == [0, 0]
    assert second.bonds is None  # its SMILES is that of another molecule
    stated = {"num_bonds": np.array([1, 1]), "bonds": np.array([[0, 1, 1]] * 2)}
    assert [m.bonds.tolist() for m in read(tmp_path, **{**changes, **stated})] == [[[0, 1, 1]]] * 2
