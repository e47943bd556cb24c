"""Bond lengths, bond angles and torsions of a molecule with known bonds."""

from __future__ import annotations

import dataclasses
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

STRAIGHT = 170.0
"""degrees; a torsion over a straighter angle is not defined"""


@dataclasses.dataclass(frozen=True, eq=False)
class InternalCoordinates:
    """Which atoms make up the bonds, angles and torsions of a graph."""

    bonds: NDArray[np.int64]
    """[E, 2] atoms i < j"""
    angles: NDArray[np.int64]
    """[A, 3] atoms i, centre, k with i < k"""
    torsions: NDArray[np.int64]
    """[T, 4] atoms i, j, k, l around the bond j-k, j < k; i != l"""


def internal_coordinates(atoms: int, bonds: NDArray[np.integer]) -> InternalCoordinates:
    """Return all bonds, angles and torsions (proper ones) of a graph.

    Args:
        atoms: their number.
        bonds: rows (i, j, ...) [E, 2 or more].
    """
    neighbours: list[list[int]] = [[] for _ in range(atoms)]
    pairs = sorted({(min(i, j), max(i, j)) for i, j in bonds[:, :2].tolist()})
    for i, j in pairs:
        neighbours[i].append(j)
        neighbours[j].append(i)
    angles = [
        (i, centre, k)
        for centre, around in enumerate(neighbours)
        for i, k in combinations(sorted(around), 2)
    ]
    torsions = [
        (i, j, k, last)
        for j, k in pairs
        for i in neighbours[j]
        if i != k
        for last in neighbours[k]
        if last not in (j, i)
    ]
    return InternalCoordinates(_rows(pairs, 2), _rows(angles, 3), _rows(torsions, 4))


def lengths(points: NDArray[np.floating], pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the distances [E] of pairs [E, 2], in the unit of the points [N, 3]."""
    x = points.astype(np.float64)
    return np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1)


def angles(points: NDArray[np.floating], triples: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the angles [A] at the middle atoms of triples [A, 3], degrees, 0 to 180."""
    x = points.astype(np.float64)
    a = x[triples[:, 0]] - x[triples[:, 1]]
    b = x[triples[:, 2]] - x[triples[:, 1]]
    # the two-argument arctangent is exact also near 0 and 180, where the arccosine is not
    cross = np.linalg.norm(np.cross(a, b), axis=1)
    return np.degrees(np.arctan2(cross, (a * b).sum(axis=1)))


def torsions(points: NDArray[np.floating], quads: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the signed torsions [T] of quads [T, 4], degrees, -180 to 180 (IUPAC sign)."""
    x = points.astype(np.float64)
    b1, b2, b3 = (x[quads[:, k + 1]] - x[quads[:, k]] for k in range(3))
    first, second = np.cross(b1, b2), np.cross(b2, b3)
    sine = (np.cross(first, second) * b2).sum(axis=1) / np.maximum(
        np.linalg.norm(b2, axis=1), 1e-12
    )
    return np.degrees(np.arctan2(sine, (first * second).sum(axis=1)))


def defined_torsions(points: NDArray[np.floating], quads: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return bool [T]: whether neither angle of quads [T, 4] is almost straight, or almost 0.

    Over such an angle a torsion says nothing: the smallest move turns it by any amount.
    """
    bent = np.ones(len(quads), dtype=bool)
    for part in (quads[:, :3], quads[:, 1:]):
        bent &= np.abs(angles(points, part) - 90) < STRAIGHT - 90
    return bent


def _rows(rows: list[tuple[int, ...]], width: int) -> NDArray[np.int64]:
    return np.array(rows, dtype=np.int64).reshape(-1, width)
