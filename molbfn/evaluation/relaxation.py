"""How far a molecule is from the nearest minimum of GFN2-xTB, and of MMFF94s.

The energy that a molecule loses when its geometry is relaxed says how strained it was made; the
measure of "GEOM-Drugs Revisited" (Nikitin et al., Digital Discovery 4:3282, 2025). GFN2-xTB
(Bannwarth et al., J. Chem. Theory Comput. 15:1652, 2019) through tblite; total charge from the
formal charges, else the stated one (`Molecule.charge`), lowest spin that the number of electrons
allows, in vacuum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from molbfn.chem.bonds import bond_list, bond_orders
from molbfn.chem.perception import covalent_radii
from molbfn.evaluation.geometry import (
    angles,
    defined_torsions,
    internal_coordinates,
    lengths,
    torsions,
)

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

METHOD = "GFN2-xTB"
GRADIENT_TOLERANCE = 2e-4
"""hartree / bohr, largest component, where a geometry counts as relaxed (0.01 eV / angstrom)"""
MAX_EVALUATIONS = 1000
KCAL_PER_MOL = 627.5094740631  # in a hartree (CODATA 2018)
BOHR = 0.529177210903  # in angstrom (CODATA 2018)
_MMFF_STEPS = 2000
_CONTACT = 1.3  # bonded if closer than this times the sum of the covalent radii
_STIFFNESS = 0.45  # hartree / bohr^2 of a bond of the sum of the covalent radii; for the model only
_FLOOR = 0.05  # hartree / bohr^2, for what the pairs leave soft

Energy = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]
"""positions [N, 3] in bohr -> energy in hartree, gradient [N, 3] in hartree / bohr"""


@dataclasses.dataclass(frozen=True, eq=False)
class Relaxed:
    """A geometry at a minimum."""

    positions: NDArray[np.float64]
    """[N, 3], bohr"""
    drop: float
    """energy lost on the way, hartree"""
    evaluations: int


def relaxation_record(molecule: Molecule) -> dict[str, Any]:
    """Return what relaxing a molecule changes, as plain values; see `evaluation.physics`.

    Raises:
        ValueError: no atoms, or it does not converge.
        RuntimeError: tblite's own.
    """
    if len(molecule) == 0 or not np.isfinite(molecule.positions).all():
        raise ValueError("no atoms, or coordinates that are not finite")
    start = molecule.positions.astype(np.float64) / BOHR
    radii = covalent_radii()[molecule.atomic_numbers]
    found = relax(xtb_energy(molecule), start, radii)
    before, after = start * BOHR, found.positions * BOHR
    return {
        "drop": found.drop * KCAL_PER_MOL,
        "evaluations": found.evaluations,
        "rmsd": rmsd(before, after),
        "same_contacts": bool((_contacts(before, radii) == _contacts(after, radii)).all()),
        **_changes(molecule, before, after),
        "mmff_drop": mmff_drop(molecule),
    }


def xtb_energy(molecule: Molecule) -> Energy:
    """Return GFN2-xTB's energy and gradient of the molecule's atoms at any positions."""
    from tblite.interface import Calculator

    numbers = molecule.atomic_numbers
    unpaired = int(numbers.sum() - molecule.charge) % 2
    start = molecule.positions.astype(np.float64) / BOHR
    calculator = Calculator(METHOD, numbers, start, charge=molecule.charge, uhf=unpaired)
    calculator.set("verbosity", 0)
    last: Any = None

    def energy(points: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        nonlocal last
        calculator.update(points)
        try:
            found = calculator.singlepoint(last)  # begins with the last density
        except RuntimeError:
            found = calculator.singlepoint()
        last = found
        return float(found.get("energy")), np.asarray(found.get("gradient"))

    return energy


class _Converged(Exception):
    """Ends the optimiser where the gradient is small enough."""


def relax(energy: Energy, start: NDArray[np.float64], radii: NDArray[np.float64]) -> Relaxed:
    """Return the nearest minimum, by L-BFGS in coordinates that a model Hessian makes alike stiff.

    Args:
        energy: see `Energy`.
        start: [N, 3], bohr.
        radii: covalent radii [N], angstrom; of the model only, so they do not affect the result.

    Raises:
        ValueError: no convergence within `MAX_EVALUATIONS`, or the optimiser gave up.
    """
    from scipy.optimize import minimize

    # x = x0 + L^-T y with the Hessian's factor L L^T: y is alike stiff in all directions
    unscale = np.linalg.inv(np.linalg.cholesky(model_hessian(start, radii / BOHR)))
    points, first, last, count = start, None, 0.0, 0

    def scaled(y: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        nonlocal points, first, last, count
        points = start + (unscale.T @ y).reshape(-1, 3)
        last, gradient = energy(points)
        first, count = last if first is None else first, count + 1
        if np.abs(gradient).max() < GRADIENT_TOLERANCE:
            raise _Converged
        return last, unscale @ gradient.ravel()

    options = {"maxiter": MAX_EVALUATIONS, "maxfun": MAX_EVALUATIONS, "maxcor": 30}
    try:
        # tolerances of 0: only the largest component of the true gradient decides
        end = minimize(
            scaled,
            np.zeros(start.size),
            jac=True,
            method="L-BFGS-B",
            options={**options, "ftol": 0, "gtol": 0, "maxls": 40},
        )
    except _Converged:
        return Relaxed(points, float(first or 0.0) - last, count)
    raise ValueError(f"the relaxation does not converge ({count} steps; {end.message})")


def model_hessian(points: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a positive definite [3N, 3N] guess: springs that weaken with distance.

    In the spirit of Lindh et al., Chem. Phys. Lett. 241:423 (1995), with stretches only.

    Args:
        points: [N, 3], bohr.
        radii: covalent radii [N], bohr.
    """
    count = len(points)
    difference = points[:, None] - points[None, :]
    squared = (difference**2).sum(axis=-1) + np.eye(count)
    stiffness = _STIFFNESS * np.exp(1 - squared / (radii[:, None] + radii[None, :]) ** 2)
    np.fill_diagonal(stiffness, 0.0)
    blocks = -(stiffness / squared)[..., None, None] * (
        difference[..., :, None] * difference[..., None, :]
    )
    own = np.arange(count)
    blocks[own, own] = -blocks.sum(axis=1)
    return blocks.transpose(0, 2, 1, 3).reshape(3 * count, -1) + _FLOOR * np.eye(3 * count)


def rmsd(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the root mean square distance of all atoms [N, 3] after the best superposition.

    By rotation and translation, not reflection (Kabsch, Acta Cryst. A 32:922, 1976).
    """
    a, b = first - first.mean(axis=0), second - second.mean(axis=0)
    u, singular, v = np.linalg.svd(a.T @ b)
    singular[-1] *= np.sign(np.linalg.det(u) * np.linalg.det(v))
    squared = (a**2).sum() + (b**2).sum() - 2 * singular.sum()
    return float(np.sqrt(max(squared, 0.0) / len(a)))


def mmff_drop(molecule: Molecule) -> float | None:
    """Return the energy in kcal/mol lost on relaxing by MMFF94s.

    Of the structure with charges where five-valent nitrogen and the like are drawn. None where
    there are no bonds, RDKit cannot sanitise the molecule, the force field has no parameters for
    it, or the relaxation does not converge.
    """
    from rdkit.Chem import rdForceFieldHelpers as force_fields

    mol = molecule.sanitised() if molecule.states_bonds else None
    if mol is None:
        return None
    try:
        properties = force_fields.MMFFGetMoleculeProperties(mol, mmffVariant="MMFF94s")
        if properties is None:
            return None
        field = force_fields.MMFFGetMoleculeForceField(mol, properties)
        before = field.CalcEnergy()
        if field.Minimize(maxIts=_MMFF_STEPS) != 0:
            return None
        return float(before - field.CalcEnergy())
    except (RuntimeError, ValueError, AttributeError):  # of what the force field cannot treat
        return None


def _changes(
    molecule: Molecule, before: NDArray[np.float64], after: NDArray[np.float64]
) -> dict[str, float | None]:
    """Return the mean absolute changes of bond lengths, angles and torsions."""
    bonds = molecule.bonds
    if bonds is None or not molecule.states_bonds:
        bonds = bond_list(bond_orders(molecule.atomic_numbers, molecule.positions))
    internal = internal_coordinates(len(molecule), bonds)
    quads = internal.torsions
    quads = quads[defined_torsions(before, quads) & defined_torsions(after, quads)]
    turns = torsions(after, quads) - torsions(before, quads)
    return {
        "bond": _mean(lengths(after, internal.bonds) - lengths(before, internal.bonds)),
        "angle": _mean(angles(after, internal.angles) - angles(before, internal.angles)),
        "torsion": _mean((turns + 180) % 360 - 180),
    }


def _mean(changes: NDArray[np.float64]) -> float | None:
    return float(np.abs(changes).mean()) if len(changes) else None


def _contacts(points: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.bool_]:
    distances = np.linalg.norm(points[:, None] - points[None, :], axis=-1)
    return distances < _CONTACT * (radii[:, None] + radii[None, :])
