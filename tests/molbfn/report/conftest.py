"""Molecules that are right and wrong in known ways; coordinates in angstrom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from molbfn.chem.files import open_writer
from molbfn.chem.molecule import Molecule
from molbfn.chem.perception import fall_back
from molbfn.data.store import MoleculeStore
from molbfn.evaluation.sampled import Outcome

EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'


def water(**changes: object) -> Molecule:
    values = {
        "atomic_numbers": [8, 1, 1],
        "positions": [[0, 0, 0.1173], [0, 0.7572, -0.4692], [0, -0.7572, -0.4692]],
        "bonds": [[0, 1, 1], [0, 2, 1]],
        "formal_charges": [0, 0, 0],
        "title": "water",
    }
    return Molecule(**{**values, **changes})  # type: ignore[arg-type]


def ammonium(charge: int) -> Molecule:
    """NH4 with the given charge on nitrogen."""
    arms = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 1.02 / 3**0.5
    return Molecule(
        [7, 1, 1, 1, 1],
        np.concatenate([np.zeros((1, 3)), arms]),
        [charge, 0, 0, 0, 0],
        [[0, k, 1] for k in range(1, 5)],
        title=f"NH4 {charge:+d}",
    )


def two_waters() -> Molecule:
    first = water()
    return Molecule(
        np.tile(first.atomic_numbers, 2),
        np.concatenate([first.positions, first.positions + np.float32(6)]),
        np.zeros(6),
        np.concatenate([first.bonds, first.bonds + np.array([3, 3, 0])]),
        title="two waters",
    )


@pytest.fixture(scope="session")
def example() -> Callable[[str], Molecule]:
    """A molecule by its name."""
    known = {
        "water": water(),
        "hydroxyl": water(
            atomic_numbers=[8, 1], positions=[[0, 0, 0], [0, 0, 0.97]], bonds=[[0, 1, 1]],
            formal_charges=[0, 0], title="hydroxyl",
        ),
        "ammonium": ammonium(1),
        "neutral NH4": ammonium(0),
        "two waters": two_waters(),
        "water without bonds": water(bonds=None, formal_charges=None, title="bare"),
    }  # fmt: skip
    return known.__getitem__


@pytest.fixture(scope="session")
def write() -> Callable[[Path, list[Molecule]], Path]:
    """Write molecules to a file."""

    def writer(path: Path, molecules: list[Molecule]) -> Path:
        with open_writer(path) as stream:
            for molecule in molecules:
                stream.write(molecule)
        return path

    return writer


@pytest.fixture(scope="session")
def demo() -> list[Molecule]:
    """Real molecules of the bundled data set, with bonds by distance and an energy that falls."""
    store = MoleculeStore.open("demo")
    bonded = [fall_back(store.molecule(k), "failed", "").molecule for k in range(24)]
    return [molecule.with_properties(energy=-1.5 * k) for k, molecule in enumerate(bonded)]


@pytest.fixture(scope="session")
def relax() -> Callable[..., list[Outcome]]:
    """Stands for relaxation: each atom costs 0.5 kcal/mol, and fluorine cannot be relaxed."""

    def relaxed(molecule: Molecule | None) -> Outcome:
        if molecule is None:
            return Outcome(None, "unreadable", {}, "cannot be read")
        if (molecule.atomic_numbers == 9).any():
            return Outcome(molecule, "failed", {}, "fluorine is not liked")
        values = {"drop": 0.5 * len(molecule), "rmsd": 0.1, "bond": 0.01, "angle": 1.0}
        more = {"torsion": None, "same_contacts": True, "mmff_drop": None}
        return Outcome(molecule, "ok", {**values, **more})

    return lambda molecules, *_, **__: [relaxed(molecule) for molecule in molecules]


@pytest.fixture(scope="session")
def evil() -> str:
    """What must never run."""
    return EVIL
