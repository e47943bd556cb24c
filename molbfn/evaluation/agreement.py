"""The protocol "agreement": whether three routes to the bonds give the same graph.

The file's own bonds, EDM's distance table, and RDKit's perception (charges 0, +1, -1, as in
`molbfn.chem.perception`). Where they differ the geometry is ambiguous, whatever each route says of
its own graph. Two graphs are the same if the same pairs of atoms are bonded with the same orders;
bonds that RDKit's model calls aromatic have one order, so Kekule structures do not matter, and
charges are not compared. A route that finds nothing agrees with none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from molbfn.chem.bonds import bond_list, bond_orders, pairs_in_table
from molbfn.evaluation.intervals import additive_ratio
from molbfn.evaluation.metrics import NamedRatio
from molbfn.evaluation.posebusters import perceived
from molbfn.evaluation.protocols import Context, Findings
from molbfn.evaluation.sampled import Outcome, SampledProtocol, measure_molecules, sample_note

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

PROTOCOL = "agreement"
DEFAULT_SAMPLE = 500
ROUTES = {"file": "the file", "table": "EDM's table", "rdkit": "RDKit"}
_TASK = "molbfn.evaluation.agreement:graphs_record"
_FORM = 1  # of the records
_AROMATIC = 4

Graph = list[list[int]]
"""Rows (i, j, order), sorted; 4 is aromatic."""


def graphs_record(molecule: Molecule) -> dict[str, Any]:
    """Return route -> graph, None where the route finds none."""
    return {
        "file": _graph(molecule) if molecule.states_bonds else None,
        "table": _by_table(molecule),
        "rdkit": _by_rdkit(molecule),
    }


def _by_table(molecule: Molecule) -> Graph | None:
    if not np.diagonal(pairs_in_table(molecule.atomic_numbers)).all():
        return None
    bonds = bond_list(bond_orders(molecule.atomic_numbers, molecule.positions))
    return _graph(dataclasses.replace(molecule, bonds=bonds, formal_charges=None))


def _by_rdkit(molecule: Molecule) -> Graph | None:
    try:
        return _graph(perceived(molecule))
    except ValueError:
        return None


def _graph(molecule: Molecule) -> Graph:
    found = []
    for bond in molecule.to_rdkit().GetBonds():
        i, j = sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
        order = _AROMATIC if bond.GetIsAromatic() else round(bond.GetBondTypeAsDouble())
        found.append([i, j, order])
    return sorted(found)


class AgreementProtocol(SampledProtocol):
    """Takes a sample of molecules and compares the routes to their bonds."""

    def finish(self, context: Context) -> Findings:
        """Find the bonds of the sample by all routes and return how often they agree."""
        from rdkit import rdBase

        report = context.progress
        outcomes = measure_molecules(
            self._sample.molecules,
            _TASK,
            name=PROTOCOL,
            version=f"rdkit {rdBase.rdkitVersion} form {_FORM}",
            settings=context.settings,
            done=report and (lambda done, total: report("comparing bonds", done, total)),
        )
        note = sample_note(len(outcomes), self._sample.given)
        return Findings(ratios=agreement_ratios(outcomes), notes=[f"{PROTOCOL}: {note}"])


def agreement_ratios(outcomes: Sequence[Outcome]) -> list[NamedRatio]:
    """Return the shares in which two routes, and all of them, agree.

    Without bonds in any file, the file is not one of the routes.
    """
    stated = any(o.ok and o.values["file"] is not None for o in outcomes)
    routes = [route for route in ROUTES if stated or route != "file"]
    every = np.ones(len(outcomes), dtype=bool)

    def share(chosen: Sequence[str], *, orders: bool) -> NamedRatio:
        same = np.array([_same(o, chosen, orders=orders) for o in outcomes], dtype=bool)
        words = " = ".join(ROUTES[route] for route in chosen)
        what = "the same bonds and orders" if orders else "the same bonds, whatever their orders"
        suffix = "" if orders else "_connectivity"
        return NamedRatio(
            f"{PROTOCOL}_{'_'.join(chosen)}{suffix}",
            words if orders else f"{words}, no orders",
            PROTOCOL,
            f"molecules with {what} by {words}, over all molecules of the sample",
            additive_ratio(same, every),
        )

    found = [share(pair, orders=True) for pair in combinations(routes, 2)]
    if len(routes) > 2:
        found.append(share(routes, orders=True))
    return [*found, share(routes, orders=False)]


def _same(outcome: Outcome, routes: Sequence[str], *, orders: bool) -> bool:
    if not outcome.ok:
        return False
    graphs: list[NDArray[np.int64]] = []
    for route in routes:
        if outcome.values[route] is None:
            return False
        rows = np.array(outcome.values[route], dtype=np.int64).reshape(-1, 3)
        graphs.append(rows if orders else rows[:, :2])
    return all(np.array_equal(graphs[0], other) for other in graphs[1:])
