from __future__ import annotations

import numpy as np
import pytest

from molbfn.chem.bonds import (
    BOND_LENGTHS_PM,
    VALENCES,
    bond_list,
    bond_orders,
    elements_in_table,
    pairs_in_table,
    stable_atoms,
)


def pair(first: int, second: int, pm: float) -> int:
    positions = np.array([[0.0, 0.0, 0.0], [0.0, pm / 100, 0.0]])
    return int(bond_orders(np.array([first, second]), positions)[0, 1])


# (Z, Z, longest single, double, triple in pm): standard length plus margin, from the papers' table
LIMITS = [
    (6, 6, 164, 139, 123),
    (6, 7, 157, 134, 119),
    (6, 8, 153, 125, 116),
    (7, 7, 155, 130, 113),
    (7, 8, 150, 126, None),
    (8, 8, 158, 126, None),
    (1, 1, 84, None, None),
    (1, 6, 119, None, None),
    (1, 7, 111, None, None),
    (1, 8, 106, None, None),
    (1, 9, 102, None, None),
    (6, 9, 145, None, None),
    (7, 9, 146, None, None),
    (8, 9, 152, None, None),
    (9, 9, 152, None, None),
    (1, 17, 137, None, None),
    (6, 16, 192, 165, None),
    (8, 15, 173, 155, None),
    (8, 16, 161, None, None),
    (15, 16, 220, 191, None),
    (16, 16, 214, None, None),
    (6, 53, 224, None, None),
    (1, 33, 162, None, None),
]


@pytest.mark.parametrize(("a", "b", "single", "double", "triple"), LIMITS)
def test_order_changes_at_the_table_limit(a, b, single, double, triple) -> None:
    for order, limit in ((1, single), (2, double), (3, triple)):
        if limit is not None:
            assert pair(a, b, limit - 0.01) == pair(b, a, limit - 0.01) == order
            assert pair(a, b, limit + 0.01) == order - 1


def test_limit_itself_is_not_bonded() -> None:
    # 1.25 is exact in binary: d = 125 pm is not < 120 + 5
    assert pair(6, 8, 125.0) == 1
    assert pair(6, 8, np.nextafter(125.0, 0) - 1e-9) == 2


def test_unknown_pairs_and_bad_numbers() -> None:
    assert pair(5, 6, 100) == 0
    assert pair(33, 33, 50) == 0
    assert pair(11, 17, 50) == 0
    assert bond_orders([6, 6], [[0, 0, 0], [np.nan, 0, 0]]).sum() == 0
    with pytest.raises(ValueError, match="118"):
        bond_orders([6, 119], np.zeros((2, 3)))
    with pytest.raises(ValueError, match="do not fit"):
        bond_orders([6, 6], np.zeros((3, 3)))


def slow_orders(numbers: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The rule once more, pair by pair."""
    limits = {frozenset((a, b)): (s, d, t) for a, b, s, d, t in LIMITS}
    n = len(numbers)
    orders = np.zeros((n, n), dtype=np.int8)
    for i in range(n):
        for j in range(n):
            if i == j or numbers[i] == 0 or numbers[j] == 0:
                continue
            found = limits.get(frozenset((int(numbers[i]), int(numbers[j]))), (None,) * 3)
            distance = 100 * np.linalg.norm(points[i].astype(float) - points[j].astype(float))
            for limit in found:
                if limit is None or distance >= limit:
                    break
                orders[i, j] += 1
    return orders


def test_batch_equals_the_rule_pair_by_pair() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.choice([0, 1, 6, 7, 8, 9, 11], size=(40, 12))
    points = rng.normal(scale=1.2, size=(40, 12, 3)).astype(np.float32)
    orders = bond_orders(numbers, points)
    assert orders.dtype == np.int8
    assert set(np.unique(orders)) == {0, 1, 2, 3}
    for k in range(40):
        np.testing.assert_array_equal(orders[k], slow_orders(numbers[k], points[k]))


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    numbers = rng.choice([1, 6, 7, 8], size=(7, 5))
    points = rng.normal(size=(7, 5, 3))
    whole = bond_orders(numbers, points)
    monkeypatch.setattr("molbfn.chem.bonds._PAIRS_PER_CHUNK", 50)
    np.testing.assert_array_equal(bond_orders(numbers, points), whole)


def test_mask_hides_atoms() -> None:
    numbers, points = np.array([[6, 6]]), np.array([[[0, 0, 0], [1.5, 0, 0]]])
    assert bond_orders(numbers, points).sum() == 2
    assert bond_orders(numbers, points, np.array([[True, False]])).sum() == 0


def test_stability_counts_the_sum_of_orders() -> None:
    methane = np.array([6, 1, 1, 1, 1, 0])
    orders = np.zeros((6, 6), dtype=np.int8)
    orders[0, 1:5] = orders[1:5, 0] = 1
    np.testing.assert_array_equal(stable_atoms(methane, orders), [True] * 5 + [False])
    radical = orders.copy()
    radical[0, 4] = radical[4, 0] = 0
    np.testing.assert_array_equal(
        stable_atoms(methane, radical), [False, True, True, True, False, False]
    )
    # phosphorus has two valences; helium has none in the table; a sum of 200 does not wrap around
    for number, total, expected in [(15, 3, 1), (15, 4, 0), (15, 5, 1), (2, 0, 0), (6, 260, 0)]:
        matrix = np.zeros((2, 2), dtype=np.int64)
        matrix[0, 1] = total
        assert stable_atoms([number, 1], matrix)[0] == bool(expected)


def test_bond_list_and_known_pairs() -> None:
    orders = np.array([[0, 2, 0], [2, 0, 1], [0, 1, 0]])
    assert bond_list(orders).tolist() == [[0, 1, 2], [1, 2, 1]]
    assert bond_list(np.zeros((2, 2))).shape == (0, 3)
    assert pairs_in_table([6, 5]).tolist() == [[True, False], [False, False]]
    # boron and arsenic have no length with themselves; aluminium none at all
    assert elements_in_table([6, 5, 33, 53, 13, 0]).tolist() == [True] * 4 + [False] * 2


def test_table_is_whole_and_has_each_pair_once() -> None:
    """15 pairs of QM9's elements and 49 with others; what has a double bond has a single one."""
    single, double, triple = ({frozenset(pair) for pair in table} for table in BOND_LENGTHS_PM)
    assert [len(table) for table in BOND_LENGTHS_PM] == [len(single), len(double), len(triple)]
    assert (len(single), len(double), len(triple)) == (64, 9, 4)
    assert triple < double < single
    assert set().union(*single) <= set(VALENCES)


def test_real_qm9_is_as_stable_as_the_notes_say(qm9: dict[str, np.ndarray]) -> None:
    """0.9942 and 0.955 were measured on 3,000 other random molecules of this file."""
    chosen = np.random.default_rng(5).choice(len(qm9["num_atoms"]), 3000, replace=False)
    numbers, points = np.zeros((3000, 29), np.int64), np.zeros((3000, 29, 3))
    for row, k in enumerate(chosen):
        own = slice(qm9["offsets"][k], qm9["offsets"][k + 1])
        count = own.stop - own.start
        numbers[row, :count] = qm9["atomic_numbers"][own]
        points[row, :count] = qm9["positions"][own]
    stable, mask = stable_atoms(numbers, bond_orders(numbers, points)), numbers > 0
    assert stable[mask].mean() == pytest.approx(0.9942, abs=0.002)
    # standard error of the molecule figure: sqrt(.955 * .045 / 3000) = 0.0038
    assert (stable | ~mask).all(axis=1).mean() == pytest.approx(0.955, abs=0.012)
