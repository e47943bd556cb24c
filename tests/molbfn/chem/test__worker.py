"""The worker's own function, without a process around it."""

from __future__ import annotations

import signal

import numpy as np
import pytest

from molbfn.chem._worker import _set_alarm, perceive


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
    stated = perceive(np.array([1, 1]), np.array([[0, 0, 0], [5.0, 0, 0]]), -1)
    assert "charges -1, 0, +1 (" in stated["error"]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such timers on this system")
@pytest.mark.parametrize(("asked", "within"), [(50.0, (49, 50)), (1e10, (1e7, 1e9))])
def test_alarms_are_set_however_far_off(asked: float, within: tuple[float, float]) -> None:
    before = signal.getitimer(signal.ITIMER_REAL)
    try:
        _set_alarm(asked)
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        _set_alarm(0.0)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
    assert within[0] < left <= within[1]
