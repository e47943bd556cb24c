"""The worker's own function, without a process around it."""

from __future__ import annotations

import numpy as np

from molbfn.chem._worker import perceive


def test_no_bonds_are_made_up_for_one_atom() -> None:
    assert "error" in perceive(np.array([8]), np.zeros((1, 3)))


def test_hydrogen_molecule_and_proton_transfer_charges() -> None:
    h2 = perceive(np.array([1, 1]), np.array([[0, 0, 0], [0.74, 0, 0]]))
    assert h2 == {"charge": 0, "bonds": [[0, 1, 1]], "charges": [0, 0]}
    hydroxide = perceive(np.array([8, 1]), np.array([[0, 0, 0], [0.97, 0, 0]]))
    assert hydroxide == {"charge": -1, "bonds": [[0, 1, 1]], "charges": [-1, 0]}


def test_answers_have_kekule_orders(embed) -> None:
    benzene = embed("c1ccccc1")
    answer = perceive(benzene.atomic_numbers, benzene.positions.astype(float))
    orders = sorted(order for _, _, order in answer["bonds"])
    assert orders == [1] * 9 + [2] * 3


def test_every_charge_that_fails_is_said() -> None:
    apart = perceive(np.array([1, 1]), np.array([[0, 0, 0], [5.0, 0, 0]]))
    assert "charges 0, +1, -1" in apart["error"]
