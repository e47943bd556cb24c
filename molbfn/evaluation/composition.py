"""What a set of molecules is made of: sizes and elements."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from molbfn.chem.elements import symbol
from molbfn.chem.molecule import Molecule

#: Shown even where there are none, so that tables of different sets line up.
USUAL_ELEMENTS = (1, 6, 7, 8, 9)


@dataclasses.dataclass(frozen=True)
class Composition:
    """Counts of molecules by size, and of atoms by element."""

    sizes: Mapping[int, int]
    """number of atoms -> molecules"""
    elements: Mapping[int, int]
    """atomic number -> atoms"""

    @cached_property
    def molecules(self) -> int:
        """Number of molecules."""
        return sum(self.sizes.values())

    @cached_property
    def atoms(self) -> int:
        """Number of atoms."""
        return sum(self.elements.values())

    @property
    def mean_size(self) -> float | None:
        """Atoms per molecule; None without molecules."""
        return self.atoms / self.molecules if self.molecules else None

    def size_quantile(self, share: float) -> int | None:
        """Return the smallest size that at least this share of the molecules does not exceed."""
        seen = 0
        for size, count in sorted(self.sizes.items()):
            seen += count
            if seen >= share * self.molecules:
                return size
        return None

    def element_percent(self) -> dict[str, float]:
        """Return symbol -> percentage of all atoms: H, C, N, O, F, then others that occur."""
        others = sorted(z for z in self.elements if z not in USUAL_ELEMENTS)
        total = max(1, self.atoms)
        return {
            symbol(z): 100 * self.elements.get(z, 0) / total for z in (*USUAL_ELEMENTS, *others)
        }

    def size_distance(self, other: Composition) -> float | None:
        """Return the total variation distance of the sizes: 0 the same, 1 nothing in common."""
        if not self.molecules or not other.molecules:
            return None
        both = set(self.sizes) | set(other.sizes)
        return 0.5 * sum(
            abs(self.sizes.get(n, 0) / self.molecules - other.sizes.get(n, 0) / other.molecules)
            for n in both
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "molecules": self.molecules,
            "atoms": self.atoms,
            "size": {
                "smallest": min(self.sizes, default=None),
                "median": self.size_quantile(0.5),
                "mean": self.mean_size,
                "largest": max(self.sizes, default=None),
            },
            "size_histogram": {str(n): self.sizes[n] for n in sorted(self.sizes)},
            "element_percent": self.element_percent(),
        }


class CompositionCounter:
    """Counts molecules as they come."""

    def __init__(self) -> None:
        self._sizes: Counter[int] = Counter()
        self._elements: Counter[int] = Counter()

    def add(self, molecule: Molecule) -> None:
        """Count one more molecule."""
        self._sizes[len(molecule)] += 1
        self._elements.update(molecule.atomic_numbers.tolist())

    def composition(self) -> Composition:
        """Return the counts so far."""
        return Composition(dict(sorted(self._sizes.items())), dict(sorted(self._elements.items())))
