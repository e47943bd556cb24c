"""Bonds and formal charges from coordinates, for files that must have them.

Three routes are tried in turn: RDKit's ``rdDetermineBonds`` ("rdkit"; after Kim & Kim, Bull. Korean
Chem. Soc. 36, 1769, 2015) with the total charge that the molecule states, if it does, then with 0,
+1 and -1; EDM's distance table ("table"); and single bonds by covalent radii ("single"). Every
molecule gets a result, with its route.

RDKit's search can hang or exhaust memory in C++, so it runs in worker processes that are killed and
replaced after a timeout. "rdkit" means that RDKit sanitises the result without adding hydrogens; it
may still consist of several fragments, or balance a missing hydrogen with a charge of +-1.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from molbfn.chem.bonds import bond_list, bond_orders, pairs_in_table
from molbfn.chem.molecule import Molecule
from molbfn.chem.workers import Status, WorkerPool

Route = Literal["rdkit", "table", "single"]
_RADIUS_FACTOR = 1.3  # bonded if closer than this times the sum of the covalent radii
_MIN_DISTANCE = 0.4  # angstrom; no bond is shorter, so closer atoms are a clash


@dataclasses.dataclass(frozen=True)
class PerceivedMolecule:
    """A molecule with bonds and charges, and where they come from."""

    molecule: Molecule
    """as given, with ``bonds`` and ``formal_charges`` set"""
    route: Route
    charge: int
    """total charge; 0 unless the route is "rdkit\""""
    status: Status
    """how RDKit's perception ended"""
    reason: str = ""
    """why the route is not "rdkit"; empty if it is"""


class BondPerceiver:
    """Perceive bonds with RDKit in worker processes; a context manager.

    Args:
        workers: number of processes; they start when first needed.
        timeout: seconds for one molecule; after that its worker is killed and replaced, and the
            molecule takes the next route. On a starved machine this can change a molecule's route.
        command: what to run as a worker, for tests; it must speak the protocol of ``_worker``.
    """

    def __init__(
        self, workers: int = 1, timeout: float = 5.0, *, command: Sequence[str] | None = None
    ) -> None:
        script = str(Path(__file__).with_name("_worker.py"))
        # -P keeps the script's folder, with its short module names, off the import path
        default = (sys.executable, "-P", script, str(2 * timeout + 1))
        self._pool = WorkerPool(command or default, workers=workers, timeout=timeout, name="RDKit")

    def __enter__(self) -> BondPerceiver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers at once; molecules still under way take the next route."""
        self._pool.close()

    def perceive(self, molecule: Molecule) -> PerceivedMolecule:
        """Return one molecule with bonds; never raises because of the molecule."""
        return self._pool.call(self._perceive, molecule)

    def perceive_many(self, molecules: Iterable[Molecule]) -> Iterator[PerceivedMolecule]:
        """Yield the molecules with bonds, in order; reads only a few ahead of what it yields."""
        return self._pool.map(self._perceive, molecules)

    def _perceive(self, molecule: Molecule) -> PerceivedMolecule:
        if len(molecule) == 0 or not np.isfinite(molecule.positions).all():
            return fall_back(molecule, "failed", "no atoms, or coordinates that are not finite")
        request = (
            struct.pack("<Ii", len(molecule), molecule.stated_charge or 0)
            + molecule.atomic_numbers.astype("<i4").tobytes()
            + molecule.positions.astype("<f8").tobytes()
        )
        answer = self._pool.ask(request)
        if answer.status != "ok":
            return fall_back(molecule, answer.status, answer.reason)
        perceived = dataclasses.replace(
            molecule,
            bonds=np.array(answer.record["bonds"], dtype=np.int64).reshape(-1, 3),
            formal_charges=np.array(answer.record["charges"], dtype=np.int64),
        )
        return PerceivedMolecule(perceived, "rdkit", perceived.charge, "ok")


def fall_back(molecule: Molecule, status: Status, reason: str) -> PerceivedMolecule:
    """Return bonds from distances alone: EDM's table, else single bonds by covalent radii.

    The table does not serve where two atoms are near enough to be bonded by their radii but the
    table knows no bond between their elements. Formal charges are all 0.
    """
    close = _covalent_contacts(molecule)
    unknown = close & ~pairs_in_table(molecule.atomic_numbers)
    route: Route = "single" if unknown.any() else "table"
    if route == "single":
        i, j = np.argwhere(unknown)[0]
        reason = f"{reason}; no bond table for atoms {i + 1} and {j + 1}"
        orders = close.astype(np.int8)
    else:
        orders = bond_orders(molecule.atomic_numbers, molecule.positions)
    result = dataclasses.replace(
        molecule,
        bonds=bond_list(orders),
        formal_charges=np.zeros(len(molecule), dtype=np.int64),
    )
    return PerceivedMolecule(result, route, 0, status, reason)


def _covalent_contacts(molecule: Molecule) -> NDArray[np.bool_]:
    """Return bool [N, N]: closer than 1.3 times the sum of the covalent radii, not on top."""
    points = molecule.positions.astype(np.float64)
    distances = np.linalg.norm(points[:, None] - points[None, :], axis=-1)
    radii = covalent_radii()[molecule.atomic_numbers]
    near = distances < _RADIUS_FACTOR * (radii[:, None] + radii[None, :])
    return near & (distances > _MIN_DISTANCE) & ~np.eye(len(points), dtype=bool)


@functools.cache
def covalent_radii() -> NDArray[np.float64]:
    """Return covalent radii in angstrom by atomic number (RDKit; Cordero et al. 2008)."""
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    return np.array([0.0] + [table.GetRcovalent(z) for z in range(1, 119)])
