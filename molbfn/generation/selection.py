"""Only molecules that pass a test: generate until there are enough of them.

A selected molecule says so in its property :data:`~molbfn.chem.records.REQUIRED`, since figures of
selected molecules say nothing about the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

from molbfn.chem.molecule import Molecule
from molbfn.chem.records import PROBLEM, REQUIRED, REQUIREMENTS
from molbfn.errors import UserError, nearest
from molbfn.evaluation import bonds, edm
from molbfn.generation.sampling import agreement

Requirement = Literal["valid", "stable"]
"""What a molecule must be.  "valid": RDKit accepts its bonds, in one piece, and its coordinates are
finite.  "stable": also, every atom has a valence of its element, the formal charges add up to 0,
and the bonds are between the atoms that are bonded by EDM's distance rule (where that knows the
elements).  The bonds are the molecule's own, generated or perceived; those of EDM's distance rule
where it has none.

An ion has a valence at every atom too, also one that only lacks a hydrogen, and a model does not
know whether its training data had ions.  So no ion is "stable"; a model of ions can be asked for
"valid" ones."""

_FIRST_LOOK = 500  # molecules made before the share of those that pass is judged
_LEAST_SHARE = 0.01


def check_requirement(name: str | None) -> None:
    """Refuse an unknown requirement.

    Raises:
        UserError: neither a :data:`Requirement` nor None.
    """
    if name is not None and name not in REQUIREMENTS:
        hint = nearest(name, REQUIREMENTS)
        raise UserError(f"--require {name}: unknown;{hint} use {' or '.join(REQUIREMENTS)}")


def meets(molecule: Molecule, requirement: Requirement) -> bool:
    """Whether a molecule is what is required of it."""
    if PROBLEM in molecule.properties:
        return False
    judge = edm.judge if molecule.bonds is None else bonds.judge
    (verdict,) = judge([molecule])
    if requirement == "valid" or not verdict.connected:
        return verdict.connected
    if not verdict.stable or molecule.charge != 0:
        return False
    return molecule.bonds is None or agreement(molecule) != "different"


def select(
    make: Callable[[range], Iterator[Molecule]],
    requirement: Requirement,
    *,
    wanted: int,
    start: int,
    on_rejected: Callable[[], None] = lambda: None,
) -> Iterator[Molecule]:
    """Yield the first ``wanted`` molecules from index ``start`` on that pass.

    Which they are does not depend on how many are wanted, so a selection can be prolonged.

    Args:
        make: index range -> its molecules, in order.
        requirement: what they must be.
        wanted: how many.
        start: index of the first that is tried.
        on_rejected: called for each molecule that does not pass.

    Raises:
        UserError: hardly any molecule passes.
    """
    tried = passed = 0
    while passed < wanted:
        # Before the first has passed rounds double, for each takes time to begin.
        share = passed / tried if passed else 1 / (1 + tried)
        missing = wanted - passed
        # A little more than is missing on average, so that one round more is rarely needed.
        count = math.ceil(missing / share + math.sqrt(missing / share)) if tried else missing
        for molecule in make(range(start + tried, start + tried + min(count, 4 * wanted + 100))):
            tried += 1
            if meets(molecule, requirement):
                passed += 1
                yield molecule.with_properties(**{REQUIRED: requirement})
                if passed == wanted:
                    return
            else:
                on_rejected()
            if tried >= _FIRST_LOOK and passed < _LEAST_SHARE * tried:
                raise UserError(
                    f"--require {requirement}: only {passed} of {tried} molecules are; leave it "
                    f"out to see what the others are, or train the model further"
                )
