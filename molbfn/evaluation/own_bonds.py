"""Whose bonds a molecule is judged by: its own where it states any, else those of EDM's table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from molbfn.evaluation import bonds, edm
from molbfn.evaluation.verdicts import Verdict

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule


def judge(molecules: Sequence[Molecule | None]) -> list[Verdict]:
    """Return the verdict on each molecule, by its own bonds or the table; None cannot be read."""
    stated = [molecule is not None and molecule.states_bonds for molecule in molecules]
    by_bonds, by_table = (
        iter(protocol.judge([m for m, own in zip(molecules, stated, strict=True) if own is wanted]))
        for protocol, wanted in ((bonds, True), (edm, False))
    )
    return [next(by_bonds if own else by_table) for own in stated]


def any_stated(molecules: Iterable[Molecule | None]) -> bool:
    """Whether molecules come with bonds; a single atom has none to state and does not tell."""
    return any(m is not None and len(m) > 1 and m.states_bonds for m in molecules)
