"""The protocol "agreement": whether three routes to the bonds give the same graph.

The file's own bonds, EDM's distance table, and RDKit's perception (at the total charge
that the file states, by formal charges or in all, then at 0, +1 and -1, as in
`molbfn.chem.perception`). Where they differ the geometry is ambiguous, whatever each
route says of its own graph. Two graphs are the same if the same pairs of atoms are bonded with the
same orders, where it does not matter which of several equivalent structures is drawn:

* five-valent nitrogen and the like are rewritten with charges first;
* bonds that RDKit's model calls aromatic have one order;
* so have the bonds of one atom to atoms that are alike but for the double bond, as in carboxylate,
  nitro, sulfonate, phosphate and amidinium groups (`_shared_orders`);
* charged molecules with the same canonical SMILES are the same, such as the two halves of a
  symmetric cyanine.

Which structure a route draws there depends on the order of the atoms. Charges as such are not
compared, since the table has none. A route that finds nothing agrees with none.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from molbfn.chem.bonds import bond_list, bond_orders, elements_in_table
from molbfn.evaluation.intervals import additive_ratio
from molbfn.evaluation.metrics import NamedRatio
from molbfn.evaluation.own_bonds import any_stated
from molbfn.evaluation.posebusters import perceived
from molbfn.evaluation.protocols import Context, Findings
from molbfn.evaluation.sampled import Outcome, SampledProtocol, measure_molecules, sample_note

if TYPE_CHECKING:
    from rdkit import Chem

    from molbfn.chem.molecule import Molecule

PROTOCOL = "agreement"
DEFAULT_SAMPLE = 500
ROUTES = {"file": "the file", "table": "EDM's table", "rdkit": "RDKit"}
_TASK = "molbfn.evaluation.agreement:graphs_record"
_FORM = 5  # of the records
_AROMATIC = 4
_SHARED = 10  # plus the orders of all bonds that share them

Graph = dict[str, Any]
"""Plain values: "bonds", rows (i, j, order), sorted, where 4 is aromatic and more than 10 a share;
"smiles", canonical, of a charged molecule, else None."""


def graphs_record(molecule: Molecule) -> dict[str, Any]:
    """Return route -> graph, None where the route finds none."""
    return {
        "file": _graph(molecule) if molecule.states_bonds else None,
        "table": _by_table(molecule),
        "rdkit": _by_rdkit(molecule),
    }


def _by_table(molecule: Molecule) -> Graph | None:
    if not elements_in_table(molecule.atomic_numbers).all():
        return None
    bonds = bond_list(bond_orders(molecule.atomic_numbers, molecule.positions))
    return _graph(dataclasses.replace(molecule, bonds=bonds, formal_charges=None))


def _by_rdkit(molecule: Molecule) -> Graph | None:
    try:
        return _graph(perceived(molecule))
    except ValueError:
        return None


def _graph(molecule: Molecule) -> Graph:
    mol = molecule.sanitised()
    mol = molecule.to_rdkit() if mol is None else mol
    shared, rows = _shared_orders(mol), []
    for bond in mol.GetBonds():
        i, j = sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
        order = _AROMATIC if bond.GetIsAromatic() else round(bond.GetBondTypeAsDouble())
        rows.append([i, j, shared.get(bond.GetIdx(), order)])
    charged = any(atom.GetFormalCharge() for atom in mol.GetAtoms())
    return {"bonds": sorted(rows), "smiles": molecule.smiles() if charged else None}


def _shared_orders(mol: Chem.Mol) -> dict[int, int]:
    """Return bond index -> one order for bonds whose orders could as well be exchanged.

    These are single and double bonds from one atom to atoms of one element that have as many
    neighbours and, these bonds aside, the same sum of bond orders: where all hydrogens are atoms,
    the electrons of the double bond are then shared, as in C(=O)[O-] and C(=[NH2+])N.
    """
    found: dict[int, int] = {}
    for atom in mol.GetAtoms():
        alike: dict[tuple[int, int, float], list[Chem.Bond]] = defaultdict(list)
        for bond in atom.GetBonds():
            other = bond.GetOtherAtom(atom)
            rest = sum(b.GetBondTypeAsDouble() for b in other.GetBonds())
            rest -= bond.GetBondTypeAsDouble()
            alike[other.GetAtomicNum(), other.GetDegree(), rest].append(bond)
        for bonds in alike.values():
            orders = [bond.GetBondTypeAsDouble() for bond in bonds]
            if set(orders) == {1, 2}:
                for bond in bonds:
                    order = _SHARED + round(sum(orders))
                    found[bond.GetIdx()] = max(order, found.get(bond.GetIdx(), 0))
    return found


class AgreementProtocol(SampledProtocol):
    """Takes a sample of molecules and compares the routes to their bonds."""

    def finish(self, context: Context) -> Findings:
        """Find the bonds of the sample by all routes and return how often they agree."""
        from rdkit import rdBase

        outcomes = measure_molecules(
            self._sample.molecules,
            _TASK,
            name=PROTOCOL,
            version=f"rdkit {rdBase.rdkitVersion} form {_FORM}",
            settings=context.settings,
            done=context.counter("comparing bonds"),
        )
        notes = [f"{PROTOCOL}: {sample_note(len(outcomes), self._sample.given)}"]
        if without := _without_bonds(outcomes):
            notes.append(
                f"{PROTOCOL}: {without:,} of {len(outcomes):,} molecules state no bonds and are no "
                f"part of what is compared with the file"
            )
        failed = [o for o in outcomes if not o.ok]
        if failed:
            notes.append(f"{PROTOCOL}: {len(failed):,} failed, e.g. {failed[0].reason}")
        return Findings(ratios=agreement_ratios(outcomes), notes=notes)


def agreement_ratios(outcomes: Sequence[Outcome]) -> list[NamedRatio]:
    """Return the shares in which two routes, and all of them, agree.

    Without bonds in any file, the file is not one of the routes; a molecule without is no part of
    what the file is compared with. A molecule that failed agrees by no route.
    """
    stated = any_stated(o.molecule for o in outcomes)
    routes = [route for route in ROUTES if stated or route != "file"]
    every = np.ones(len(outcomes), dtype=bool)
    # what cannot be read might have stated bonds, and fails
    with_bonds = [o.molecule is None or o.molecule.states_bonds for o in outcomes]

    def share(chosen: Sequence[str], *, orders: bool) -> NamedRatio:
        same = np.array([_same(o, chosen, orders=orders) for o in outcomes], dtype=bool)
        among = np.array(with_bonds, dtype=bool) if "file" in chosen else every
        missing = "" if among.all() else " that states bonds"
        words = " = ".join(ROUTES[route] for route in chosen)
        what = "the same bonds and orders" if orders else "the same bonds, whatever their orders"
        suffix = "" if orders else "_connectivity"
        return NamedRatio(
            f"{PROTOCOL}_{'_'.join(chosen)}{suffix}",
            words if orders else f"{words}, no orders",
            PROTOCOL,
            f"molecules with {what} by {words}, over all molecules of the sample{missing}",
            additive_ratio(same & among, among),
        )

    found = [share(pair, orders=True) for pair in combinations(routes, 2)]
    if len(routes) > 2:
        found.append(share(routes, orders=True))
    return [*found, share(routes, orders=False)]


def _without_bonds(outcomes: Sequence[Outcome]) -> int:
    """Return how many molecules state no bonds where others do."""
    molecules = [o.molecule for o in outcomes if o.molecule is not None]
    return sum(not m.states_bonds for m in molecules) if any_stated(molecules) else 0


def _same(outcome: Outcome, routes: Sequence[str], *, orders: bool) -> bool:
    if not outcome.ok:
        return False
    first, *others = (outcome.values[route] for route in routes)
    return all(_same_graph(first, other, orders=orders) for other in others)


def _same_graph(first: Graph | None, second: Graph | None, *, orders: bool) -> bool:
    if first is None or second is None:
        return False
    one, other = (np.array(g["bonds"], dtype=np.int64).reshape(-1, 3) for g in (first, second))
    if not np.array_equal(one[:, :2], other[:, :2]):
        return False
    drawn_otherwise = first["smiles"] is not None and first["smiles"] == second["smiles"]
    return not orders or drawn_otherwise or np.array_equal(one, other)
