"""What goes to the worker comes out of it."""

from __future__ import annotations

import io

import numpy as np
import pytest

from molbfn.chem.molecule import Molecule
from molbfn.evaluation._worker import command, decode, encode, warm_up
from molbfn.evaluation.sampled import content_hash


def test_molecules_survive_the_way():
    points = np.random.default_rng(0).normal(size=(3, 3))
    full = Molecule(np.array([8, 1, 1]), points, np.array([0, 0, 0]), np.array([[0, 1, 1]]))
    bare = Molecule(np.array([8, 1, 1]), points)
    anion = bare.with_properties(charge=-1)
    stream = io.BytesIO(encode(full) + encode(bare) + encode(anion))
    for molecule in (full, bare, anion):
        (found,) = decode(stream)
        assert content_hash(found) == content_hash(molecule)
        assert found.charge == molecule.charge
    assert decode(stream) is None
    assert decode(io.BytesIO(encode(full)[:-1])) is None


def test_packages_are_loaded_before_the_first_molecule():
    seen = []
    warm_up(seen.append)
    assert [m.atomic_numbers.tolist() for m in seen] == [[1, 1]]

    def refuse(_: Molecule) -> None:
        raise ValueError("no hydrogen, please")

    def lack(_: Molecule) -> None:
        raise ModuleNotFoundError("no such package")

    warm_up(refuse)
    with pytest.raises(ModuleNotFoundError, match="no such package"):
        warm_up(lack)


def test_command_names_task_and_alarm():
    assert command("a.b:c", alarm=3.0)[-2:] == ["a.b:c", "3.0"]
