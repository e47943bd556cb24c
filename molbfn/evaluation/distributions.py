"""What molecules are made of and shaped like, as distributions beside those of a reference.

Categories (elements, bond orders, ring sizes, ...) are compared by the total variation distance,
half the sum of the absolute differences of the shares: 0 the same, 1 nothing in common. Numbers
(sizes, bond lengths, angles, torsions, properties) are compared by the Wasserstein-1 distance, the
mean shift that turns one set of values into the other, in their own unit. It comes from the
values, not from the bins that are shown: they are counted on a fine grid (0.0001 angstrom, 0.01
degrees, 0.0001 for properties), and the distance is the exact one of the gridded values, the
integral of |F - G| over their cumulative distributions. That takes bounded memory, does not depend
on any order, and differs from the distance of the plain values by at most one grid step.

Bonds are, for both sets alike, those that the molecules state or those of EDM's distance table.
Aromatic bonds (RDKit's model) are a kind of their own, so the choice of a Kekule structure does
not matter; nor does it whether the nitrogen of a nitro group is drawn five-valent or charged. A
molecule that RDKit cannot sanitise counts with its Kekule orders.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from molbfn.chem.elements import symbol
from molbfn.evaluation.geometry import (
    angles,
    defined_torsions,
    internal_coordinates,
    lengths,
    torsions,
)
from molbfn.evaluation.grid import GridCounter, Kind, total_variation, wasserstein
from molbfn.evaluation.properties import PROPERTIES, properties

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

BondRoute = Literal["own", "table"]

KINDS_KEPT = 12
"""bond lengths, angles and torsions each: the commonest kinds are shown, the others left out"""
FEWEST_VALUES = 10
"""of a kind of bond length, angle or torsion, to be shown"""
AROMATIC = 4
_ORDERS = {1: "1", 2: "2", 3: "3", AROMATIC: "ar"}
_ORDER_SIGNS = {1: "–", 2: "=", 3: "≡", AROMATIC: ":"}
_MOST_BINS = 500
_SPREAD = (0.001, 0.999)  # quantiles that the shown bins cover


@dataclasses.dataclass(frozen=True)
class Distribution:
    """One distribution, as shares of categories or of bins, and its distance to the reference."""

    name: str
    """for programs, such as "bond_length_C-C_1\""""
    label: str
    """for people"""
    unit: str | None
    kind: Literal["categories", "bins"]
    labels: tuple[str, ...]
    """of the K categories; empty for bins"""
    edges: tuple[float, ...]
    """K + 1 ends of the bins; empty for categories. Values beyond the ends count in the last"""
    shares: tuple[float, ...]
    """[K] of the molecules evaluated; they add up to 1, or are all 0 where there is no value"""
    reference_shares: tuple[float, ...] | None
    """[K], as ``shares``; None where there is nothing to compare with"""
    count: int
    """values that the shares are of"""
    reference_count: int | None
    """values that the reference's shares are of; None where those are"""
    distance: float | None
    """to the reference, see ``distance_kind``; in the unit where that is Wasserstein-1"""
    distance_kind: Literal["total variation", "Wasserstein-1"]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)


class DistributionCounter:
    """Counts what molecules are made of, one after the other.

    Args:
        bonds: "own" bonds of the molecules (those without count for elements and sizes only), or
            those of EDM's distance "table" for all.
    """

    def __init__(self, bonds: BondRoute = "own") -> None:
        self.bonds: BondRoute = bonds
        self.molecules = 0
        self.bonded = 0
        """of the molecules, those with bonds by the route (single atoms by the table included)"""
        self.unsound = 0
        """of those with bonds, how many RDKit does not sanitise"""
        self._categories: dict[str, Counter[Any]] = {name: Counter() for name in _CATEGORIES}
        self._numbers = {name: GridCounter(group.step) for name, group in _NUMBERS.items()}

    def add(self, molecule: Molecule) -> None:
        """Count one more molecule."""
        numbers = molecule.atomic_numbers
        self.molecules += 1
        self._categories["elements"].update(numbers.tolist())
        self._numbers["size"].add((), np.array([len(molecule)], dtype=np.float64))
        for number in _COUNTED_ELEMENTS:
            self._numbers["elements_per_molecule"].add(
                (number,), np.array([(numbers == number).sum()], dtype=np.float64)
            )
        if (bonded := _with_bonds(molecule, self.bonds)) is not None and len(molecule):
            self.bonded += 1
            self._add_graph(bonded)

    def values(self, family: str) -> int:
        """Return how many bond lengths ("bond_length"), angles or torsions were counted."""
        return sum(self._numbers[family].kinds().values())

    def _add_graph(self, molecule: Molecule) -> None:
        from rdkit import Chem

        sound = molecule.sanitised()
        mol = molecule.to_rdkit() if sound is None else sound
        self.unsound += sound is None
        bonds = _bonds_with_aromatic(mol)
        self._categories["bond_orders"].update(_ORDERS[order] for order in bonds[:, 2].tolist())
        rings = [len(ring) for ring in Chem.GetSymmSSSR(mol)]
        self._categories["ring_sizes"].update(rings)
        self._numbers["rings_per_molecule"].add((), np.array([len(rings)], dtype=np.float64))
        if sound is not None:
            for name, value in properties(mol).items():
                self._numbers[f"property_{name}"].add((), np.array([value]))
        if molecule.formal_charges is not None:
            self._categories["formal_charges"].update(a.GetFormalCharge() for a in mol.GetAtoms())
        self._add_geometry(molecule, bonds)

    def _add_geometry(self, molecule: Molecule, bonds: NDArray[np.int64]) -> None:
        points, z = molecule.positions, molecule.atomic_numbers
        ends = np.sort(z[bonds[:, :2]], axis=1)
        kinds = np.concatenate([ends, bonds[:, 2:]], axis=1)
        self._categories["bond_kinds"].update(map(tuple, kinds.tolist()))
        self._numbers["bond_length"].add(kinds, lengths(points, bonds[:, :2]))
        internal = internal_coordinates(len(molecule), bonds)
        kinds = _either_way(z[internal.angles])
        self._numbers["angle"].add(kinds, angles(points, internal.angles))
        heavy = internal.torsions[(z[internal.torsions] > 1).all(axis=1)]
        heavy = heavy[defined_torsions(points, heavy)]
        self._numbers["torsion"].add(_either_way(z[heavy]), np.abs(torsions(points, heavy)))

    def distributions(
        self, reference_counter: DistributionCounter | None = None
    ) -> tuple[Distribution, ...]:
        """Return the distributions, with those of a reference beside them.

        The kinds of bond lengths, angles and torsions that are shown are the reference's commonest
        (without one, the molecules' own).
        """
        return tuple(self._iterate(reference_counter))

    def _iterate(self, other: DistributionCounter | None) -> Iterator[Distribution]:
        for name, label in _CATEGORIES.items():
            own = self._categories[name]
            theirs = None
            if other is not None and self._tells(name) and other._tells(name):
                theirs = other._categories[name]
            if own or theirs:
                yield _categories(name, label, own, theirs)
        for name, group in _NUMBERS.items():
            own = self._numbers[name]
            theirs = None if other is None else other._numbers[name]
            for kind in _shown(own, theirs):
                yield _binned(name, group, kind, own, theirs)

    def _tells(self, category: str) -> bool:
        """Whether it is known what there is of a category, be it nothing, as of rings."""
        return self.bonded > 0 if category in _OF_BONDS else bool(self._categories[category])


@dataclasses.dataclass(frozen=True)
class _Group:
    """A family of numbers."""

    label: Callable[[Kind], str]
    suffix: Callable[[Kind], str]
    unit: str | None
    step: float
    """of the grid"""
    width: float
    """of the bins"""
    ends: tuple[float, float] | None = None
    """of the bins; None: from the values"""


def _symbols(kind: Kind) -> list[str]:
    return [symbol(z) for z in kind]


def _joined(kind: Kind) -> str:
    return "_" + "-".join(_symbols(kind))


def _bond_name(kind: Kind) -> str:
    return _ORDER_SIGNS[kind[2]].join(_symbols(kind[:2]))


_CATEGORIES = {
    "elements": "Elements, share of atoms",
    "formal_charges": "Formal charges, share of atoms",
    "bond_orders": "Bond orders, share of bonds",
    "bond_kinds": "Bonds by elements and order",
    "ring_sizes": "Ring sizes, share of rings",
}
_OF_BONDS = ("bond_orders", "bond_kinds", "ring_sizes")
_COUNTED_ELEMENTS = (6, 7, 8)
_WIDTHS = {"qed": 0.02, "sa": 0.2, "logp": 0.25, "weight": 5.0}
_NUMBERS: dict[str, _Group] = {
    "size": _Group(lambda _: "Atoms per molecule", lambda _: "", "atoms", 1.0, 1.0),
    "elements_per_molecule": _Group(
        lambda kind: f"{symbol(kind[0])} atoms per molecule", _joined, "atoms", 1.0, 1.0
    ),
    "rings_per_molecule": _Group(lambda _: "Rings per molecule", lambda _: "", "rings", 1.0, 1.0),
    **{
        f"property_{name}": _Group(
            lambda _, label=label: label, lambda _: "", unit, 0.0001, _WIDTHS[name]
        )
        for name, (label, unit) in PROPERTIES.items()
    },
    "bond_length": _Group(
        lambda kind: f"Bond length {_bond_name(kind)}",
        lambda kind: f"{_joined(kind[:2])}_{_ORDERS[kind[2]]}",
        "Å",
        0.0001,
        0.01,
    ),
    "angle": _Group(
        lambda kind: f"Angle {'–'.join(_symbols(kind))}", _joined, "°", 0.01, 3.0, (0.0, 180.0)
    ),
    "torsion": _Group(
        lambda kind: f"Torsion {'–'.join(_symbols(kind))}, unsigned",
        _joined, "°", 0.01, 5.0, (0.0, 180.0),
    ),
}  # fmt: skip


def _with_bonds(molecule: Molecule, route: BondRoute) -> Molecule | None:
    """Return the molecule with the bonds of the route; None where there are none."""
    if not np.isfinite(molecule.positions).all():
        return None
    if route == "own":
        return molecule if molecule.states_bonds else None
    from molbfn.chem.bonds import bond_list, bond_orders

    orders = bond_orders(molecule.atomic_numbers, molecule.positions)
    return dataclasses.replace(molecule, bonds=bond_list(orders), formal_charges=None)


def _bonds_with_aromatic(mol: Any) -> NDArray[np.int64]:
    rows = [
        (
            b.GetBeginAtomIdx(),
            b.GetEndAtomIdx(),
            AROMATIC if b.GetIsAromatic() else round(b.GetBondTypeAsDouble()),
        )
        for b in mol.GetBonds()
    ]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


def _either_way(kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return rows [V, K] so written that reading them backwards does not make another kind."""
    codes = np.zeros(len(kinds), dtype=np.int64)
    back = codes.copy()
    for column in range(kinds.shape[1]):
        codes = codes * 128 + kinds[:, column]
        back = back * 128 + kinds[:, -1 - column]
    return np.where((back < codes)[:, None], kinds[:, ::-1], kinds)


def _shown(own: GridCounter, theirs: GridCounter | None) -> list[Kind]:
    """Return the commonest kinds, the reference's where there is one, that both sets have."""
    counts = own.kinds()
    if counts and all(len(kind) <= 1 for kind in counts):
        return sorted(counts)
    ranking = theirs.kinds() if theirs is not None and theirs.kinds() else counts
    enough = [k for k in ranking if min(ranking[k], counts.get(k, 0)) >= FEWEST_VALUES]
    return sorted(enough, key=lambda k: (-ranking[k], k))[:KINDS_KEPT]


def _categories(
    name: str, label: str, own: Counter[Any], theirs: Counter[Any] | None
) -> Distribution:
    known = sorted(set(own) | set(theirs or ()))
    texts = [symbol(k) if name == "elements" else _category(name, k) for k in known]

    def shares(counter: Counter[Any]) -> tuple[float, ...]:
        return tuple(counter[k] / max(counter.total(), 1) for k in known)

    return Distribution(
        name=name,
        label=label,
        unit=None,
        kind="categories",
        labels=tuple(texts),
        edges=(),
        shares=shares(own),
        reference_shares=None if theirs is None else shares(theirs),
        count=own.total(),
        reference_count=None if theirs is None else theirs.total(),
        distance=None if theirs is None else total_variation(own, theirs),
        distance_kind="total variation",
    )


def _category(name: str, key: Any) -> str:
    if name == "bond_kinds":
        return _bond_name(key)
    return f"{key:+d}" if name == "formal_charges" and key else str(key)


def _binned(
    name: str, group: _Group, kind: Kind, own: GridCounter, theirs: GridCounter | None
) -> Distribution:
    cells = own.cells(kind)
    other = None if theirs is None else theirs.cells(kind)
    sets = [cells] if other is None or not len(other[0]) else [cells, other]
    edges = _edges(group, sets)
    distance = None if other is None else wasserstein(cells, other)
    return Distribution(
        name=name + group.suffix(kind),
        label=group.label(kind),
        unit=group.unit,
        kind="bins",
        labels=(),
        edges=tuple(edges.tolist()),
        shares=_shares(cells, group, edges),
        reference_shares=_shares(sets[1], group, edges) if len(sets) == 2 else None,
        count=int(cells[1].sum()),
        reference_count=int(sets[1][1].sum()) if len(sets) == 2 else None,
        distance=None if distance is None else distance * group.step,
        distance_kind="Wasserstein-1",
    )


def _edges(
    group: _Group, sets: list[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> NDArray[np.float64]:
    """Return the ends of equal bins that cover the bulk of all sets, whole multiples of width.

    There are no more than :data:`_MOST_BINS`, about the median of the last set (the reference where
    there is one): atoms that flew off would ask for millions.  What lies beyond is in the bins at
    the ends.
    """
    if group.ends is not None:
        low, high = group.ends
        return np.linspace(low, high, round((high - low) / group.width) + 1)
    ends = []
    for cells, counts in sets:
        cumulative = np.cumsum(counts) / counts.sum()
        ends += [cells[np.searchsorted(cumulative, q, side="left")] for q in _SPREAD]
    # whole numbers stand in the middle of their bins
    shift = 0.5 if group.step == group.width else 0.0
    low = np.floor(min(ends) * group.step / group.width + shift + 1e-9)
    high = np.ceil(max(ends) * group.step / group.width + shift + 1e-9)
    if high - low > _MOST_BINS:
        cells, counts = sets[-1]
        middle = cells[np.searchsorted(np.cumsum(counts), counts.sum() / 2)]
        centre = np.floor(middle * group.step / group.width + shift + 1e-9)
        low = max(low, centre - _MOST_BINS // 2)
        high = min(high, low + _MOST_BINS)
    bins = np.arange(low, max(high, low + 1) + 1) - shift
    return np.round(bins * group.width, 10)


def _shares(
    cells: tuple[NDArray[np.int64], NDArray[np.int64]], group: _Group, edges: NDArray[np.float64]
) -> tuple[float, ...]:
    values = np.clip(cells[0] * group.step, edges[0], edges[-1])
    # half a grid step keeps values on an edge from falling to either side by rounding
    places = np.searchsorted(edges, values + 0.25 * group.step, side="right") - 1
    places = np.clip(places, 0, len(edges) - 2)
    counts = np.bincount(places, cells[1], minlength=len(edges) - 1)
    return tuple((counts / counts.sum()).tolist())
