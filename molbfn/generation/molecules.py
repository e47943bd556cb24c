"""Molecules as objects: made, their bonds perceived where the model makes none, and selected."""

from __future__ import annotations

import operator
from collections.abc import Iterator

from molbfn.chem.molecule import Molecule
from molbfn.chem.perception import BondPerceiver
from molbfn.errors import UserError
from molbfn.generation.plan import GenerationOptions, check_count, plan_sampling
from molbfn.generation.sampling import OnCall, generate_raw
from molbfn.generation.selection import Requirement, check_requirement, select
from molbfn.model import MoleculeModel


def generate(
    model: MoleculeModel,
    n: int,
    *,
    seed: int = 0,
    start: int = 0,
    bonds: bool = True,
    require: Requirement | None = None,
    options: GenerationOptions | None = None,
    on_call: OnCall | None = None,
    **overrides: object,
) -> Iterator[Molecule]:
    """Yield molecules ``start`` to ``start + n - 1`` in order.

    Args:
        model: a loaded model; it computes on the device it is on.
        n: how many.
        seed: of all random numbers.
        start: index of the first.
        bonds: where the model generates no bonds, perceive bonds and formal charges with RDKit in
            a worker process; otherwise such molecules carry coordinates only.  The property
            ``bond_route`` says where bonds come from.
        require: yield the first ``n`` molecules from ``start`` on that are "valid" or "stable"
            (:data:`~molbfn.generation.selection.Requirement`); their indices have gaps.
        options: how to sample; or give its fields as keywords (``steps=20``).
        on_call: see :data:`~molbfn.generation.sampling.OnCall`.

    Raises:
        UserError: n below 1, or unusable options; with ``require``, hardly any molecule passes.
    """
    plan = plan_sampling(model, GenerationOptions.of(options, overrides))
    n, seed, start = map(operator.index, (n, seed, start))
    check_count(n)
    check_requirement(require)
    if start < 0:
        raise UserError(f"start {start}: the index of a molecule is at least 0")

    def make(indices: range) -> Iterator[Molecule]:
        molecules = generate_raw(model, plan, indices, seed=seed, on_call=on_call)
        return with_bonds(molecules) if bonds and not model.makes_bonds else molecules

    if require is None:
        return make(range(start, start + n))
    return select(make, require, wanted=n, start=start)


def with_bonds(molecules: Iterator[Molecule]) -> Iterator[Molecule]:
    """Yield the molecules with perceived bonds, and the property ``bond_route``."""
    with BondPerceiver() as perceiver:
        for perceived in perceiver.perceive_many(molecules):
            yield perceived.molecule.with_properties(bond_route=perceived.route)
