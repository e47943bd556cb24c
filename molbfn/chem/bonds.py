"""Bond orders from distances alone, by the rule of EDM, and its atom stability.

Hoogeboom et al., "Equivariant Diffusion for Molecule Generation in 3D" (EDM), ICML 2022,
appendix on the stability metric; GeoBFN (arXiv 2403.15441) evaluates with the same tables.
A pair at distance d (pm) is a single bond if d < L1 + 10, a double bond if also d < L2 + 5 and a
triple bond if also d < L3 + 3, all strict, with the standard lengths L of the pair of elements.
There are no aromatic bonds and no charges. A pair that is not in the table is not bonded, which is
how EDM judges GEOM-Drugs. The lengths and valences are those that its authors published
(github.com/ehoogeboom/e3_diffusion_for_molecules, qm9/bond_analyze.py); they took the lengths from
wiredchemist.com and chemistry-reference.com and tuned the margins on QM9.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from molbfn.chem.elements import MAX_ATOMIC_NUMBER, atomic_number

#: Standard bond lengths in pm for order 1, 2 and 3; the pairs of QM9's elements come first.
BOND_LENGTHS_PM: tuple[dict[tuple[str, str], float], ...] = (
    {
        ("H", "H"): 74, ("H", "C"): 109, ("H", "N"): 101, ("H", "O"): 96, ("H", "F"): 92,
        ("C", "C"): 154, ("C", "N"): 147, ("C", "O"): 143, ("C", "F"): 135,
        ("N", "N"): 145, ("N", "O"): 140, ("N", "F"): 136,
        ("O", "O"): 148, ("O", "F"): 142, ("F", "F"): 142,
        ("H", "B"): 119, ("H", "Si"): 148, ("H", "P"): 144, ("H", "S"): 134, ("H", "Cl"): 127,
        ("H", "As"): 152, ("H", "Br"): 141, ("H", "I"): 161,
        ("B", "Cl"): 175,
        ("C", "Si"): 185, ("C", "P"): 184, ("C", "S"): 182, ("C", "Cl"): 177, ("C", "Br"): 194,
        ("C", "I"): 214,
        ("N", "P"): 177, ("N", "S"): 168, ("N", "Cl"): 175, ("N", "Br"): 214, ("N", "I"): 222,
        ("O", "Si"): 163, ("O", "P"): 163, ("O", "S"): 151, ("O", "Cl"): 164, ("O", "Br"): 172,
        ("O", "I"): 194,
        ("F", "Si"): 160, ("F", "P"): 156, ("F", "S"): 158, ("F", "Cl"): 166, ("F", "Br"): 178,
        ("F", "I"): 187,
        ("Si", "Si"): 233, ("Si", "S"): 200, ("Si", "Cl"): 202, ("Si", "Br"): 215,
        ("Si", "I"): 243,
        ("P", "P"): 221, ("P", "S"): 210, ("P", "Cl"): 203, ("P", "Br"): 222,
        ("S", "S"): 204, ("S", "Cl"): 207, ("S", "Br"): 225, ("S", "I"): 234,
        ("Cl", "Cl"): 199, ("Cl", "Br"): 214, ("Br", "Br"): 228, ("I", "I"): 266,
    },
    {
        ("C", "C"): 134, ("C", "N"): 129, ("C", "O"): 120,
        ("N", "N"): 125, ("N", "O"): 121, ("O", "O"): 121,
        ("C", "S"): 160, ("O", "P"): 150, ("P", "S"): 186,
    },
    {("C", "C"): 120, ("C", "N"): 116, ("C", "O"): 113, ("N", "N"): 110},
)  # fmt: skip

#: Tolerance in pm added to the standard length of order 1, 2 and 3.
MARGINS_PM = (10.0, 5.0, 3.0)

#: Sums of bond orders that EDM calls stable, by element. Al, Hg and Bi have no bond lengths.
VALENCES: dict[str, tuple[int, ...]] = {
    "H": (1,), "B": (3,), "C": (4,), "N": (3,), "O": (2,), "F": (1,), "Al": (3,), "Si": (4,),
    "P": (3, 5), "S": (4,), "Cl": (1,), "As": (3,), "Br": (1,), "I": (1,), "Hg": (1, 2),
    "Bi": (3, 5),
}  # fmt: skip

_PAIRS_PER_CHUNK = 1_000_000  # bounds the float64 scratch to some tens of MB
_MAX_VALENCE = 15


def _limits() -> NDArray[np.float64]:
    """Return the upper distance in pm by [order - 1, Z, Z]; -inf where there is no such bond."""
    size = MAX_ATOMIC_NUMBER + 1
    limits = np.full((3, size, size), -np.inf)
    for order, (lengths, margin) in enumerate(zip(BOND_LENGTHS_PM, MARGINS_PM, strict=True)):
        for (first, second), length in lengths.items():
            i, j = atomic_number(first), atomic_number(second)
            limits[order, i, j] = limits[order, j, i] = length + margin
    # "if also": an order needs all the lower ones, so the limits may not grow with the order
    return np.minimum.accumulate(limits, axis=0)


def _stable_sums() -> NDArray[np.bool_]:
    """Return whether a sum of bond orders is stable, by [Z, sum]."""
    stable = np.zeros((MAX_ATOMIC_NUMBER + 1, _MAX_VALENCE + 1), dtype=bool)
    for name, sums in VALENCES.items():
        stable[atomic_number(name), list(sums)] = True
    return stable


_LIMITS = _limits()
_STABLE_SUMS = _stable_sums()


def bond_orders(
    atomic_numbers: ArrayLike, positions: ArrayLike, mask: ArrayLike | None = None
) -> NDArray[np.int8]:
    """Return bond orders 0 to 3 by EDM's distance rule.

    Args:
        atomic_numbers: integers [..., N]; 0 on padding.
        positions: coordinates [..., N, 3] in angstrom. A pair with a NaN is not bonded.
        mask: bool [..., N], true on atoms; by default where the atomic number is not 0.

    Returns:
        int8 [..., N, N], symmetric, zero on the diagonal, on padding and on unknown pairs.

    Raises:
        ValueError: shapes that do not fit, or atomic numbers outside 0 to 118.
    """
    numbers, mask_array = _checked(atomic_numbers, mask)
    points = np.asarray(positions)
    if points.shape != (*numbers.shape, 3):
        raise ValueError(f"positions {points.shape} do not fit atomic numbers {numbers.shape}")
    n = numbers.shape[-1]
    flat_numbers = np.where(mask_array, numbers, 0).reshape(-1, n)
    flat_points = points.reshape(-1, n, 3)
    orders = np.zeros((flat_numbers.shape[0], n, n), dtype=np.int8)
    step = max(1, _PAIRS_PER_CHUNK // max(1, n * n))
    rows = max(1, _PAIRS_PER_CHUNK // max(1, n))  # fewer than n where one molecule is too large
    for start in range(0, len(orders), step):
        part = slice(start, start + step)
        points_64 = flat_points[part].astype(np.float64)
        for row in range(0, n, rows):
            own = slice(row, row + rows)
            orders[part, own] = _orders(flat_numbers[part], points_64, own)
    return orders.reshape(*numbers.shape, n)


def _orders(
    numbers: NDArray[np.int64], points: NDArray[np.float64], rows: slice
) -> NDArray[np.int8]:
    """Return the bond orders of some rows of atoms with all."""
    squared = np.zeros((len(numbers), numbers[:, rows].shape[1], numbers.shape[1]))
    for axis in range(3):
        x = points[..., axis]
        squared += (x[:, rows, None] - x[:, None, :]) ** 2
    distances = 100.0 * np.sqrt(squared)
    row = np.arange(squared.shape[1])
    distances[:, row, rows.start + row] = np.inf
    pairs = numbers[:, rows, None] * (MAX_ATOMIC_NUMBER + 1) + numbers[:, None, :]
    orders = np.zeros(pairs.shape, dtype=np.int8)
    for limits in _LIMITS:
        orders += distances < limits.ravel()[pairs]
    return orders


def stable_atoms(
    atomic_numbers: ArrayLike, orders: ArrayLike, mask: ArrayLike | None = None
) -> NDArray[np.bool_]:
    """Return whether each atom's bond orders add up to one of its `VALENCES`.

    Args:
        atomic_numbers: integers [..., N]; 0 on padding.
        orders: integers [..., N, N].
        mask: bool [..., N]; by default where the atomic number is not 0.

    Returns:
        bool [..., N]; false on padding and for elements without an entry.
    """
    numbers, mask_array = _checked(atomic_numbers, mask)
    sums = np.asarray(orders).sum(axis=-1, dtype=np.int64)
    if sums.shape != numbers.shape:
        raise ValueError(f"bond orders do not fit atomic numbers {numbers.shape}")
    return (
        _STABLE_SUMS[numbers, np.clip(sums, 0, _MAX_VALENCE)] & (sums <= _MAX_VALENCE) & mask_array
    )


def pairs_in_table(atomic_numbers: ArrayLike) -> NDArray[np.bool_]:
    """Return bool [N, N]: whether the table has a bond length for the pair of elements."""
    numbers, _ = _checked(atomic_numbers, None)
    return np.isfinite(_LIMITS[0][numbers[:, None], numbers[None, :]])


def elements_in_table(atomic_numbers: ArrayLike) -> NDArray[np.bool_]:
    """Return bool [N]: whether the table has the element's bond length with any other."""
    numbers, _ = _checked(atomic_numbers, None)
    return np.isfinite(_LIMITS[0]).any(axis=1)[numbers]


def bond_list(orders: ArrayLike) -> NDArray[np.int64]:
    """Return the bonds of one molecule as int64 [E, 3] rows (i, j, order), i < j, sorted.

    Args:
        orders: symmetric integer matrix [N, N].
    """
    matrix = np.triu(np.asarray(orders), 1)
    first, second = np.nonzero(matrix)
    return np.stack([first, second, matrix[first, second]], axis=1).astype(np.int64)


def _checked(
    atomic_numbers: ArrayLike, mask: ArrayLike | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    numbers = np.asarray(atomic_numbers).astype(np.int64)
    if numbers.size and (numbers.min() < 0 or numbers.max() > MAX_ATOMIC_NUMBER):
        raise ValueError("atomic numbers must lie between 0 and 118")
    mask_array = numbers > 0 if mask is None else np.asarray(mask, dtype=bool)
    if mask_array.shape != numbers.shape:
        raise ValueError(f"mask {mask_array.shape} does not fit atomic numbers {numbers.shape}")
    return numbers, mask_array
