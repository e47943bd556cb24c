"""How many useful molecules a second a generator makes.

Useful is valid, in one piece, with every valence right (radicals are not), different from the
others, and less than 5 kcal/mol above the nearest minimum of GFN2-xTB. The last is known for the
sample of the protocol "physics" only, so the number is an estimate: the different molecules that
are all the rest, times the share of those of the sample that are below 5 kcal/mol. The time is that
of generation, where every file has molbfn's record of it (FILE.json) beside it and they speak of as
many molecules; it depends on the hardware, which the record names.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from molbfn.evaluation.metrics import Quantity
from molbfn.evaluation.own_bonds import judge
from molbfn.evaluation.sampled import Outcome

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

_DEFINITION = (
    "stable, valid, in one piece, different by SMILES (own bonds if stated, else EDM's table), "
    "times the share of such molecules of the sample that lose less than {limit:g} kcal/mol; "
)


class UsefulCounter:
    """Counts stable, valid molecules in one piece that differ."""

    def __init__(self) -> None:
        self._different: set[str] = set()
        self.given = 0

    def add(self, molecules: Sequence[Molecule | None]) -> None:
        """Count more molecules."""
        self.given += len(molecules)
        self._different.update(
            smiles for molecule in molecules if (smiles := stable_smiles(molecule)) is not None
        )

    def estimate(self, outcomes: Sequence[Outcome], *, limit: float) -> float | None:
        """Return the number of useful molecules; None where the sample cannot tell.

        Args:
            outcomes: of relaxation.
            limit: kcal/mol.
        """
        valid = [o for o in outcomes if stable_smiles(o.molecule) is not None]
        if not valid:
            return 0.0 if outcomes and not self._different else None
        low = sum(o.ok and o.values["drop"] < limit for o in valid)
        return len(self._different) * low / len(valid)


def stable_smiles(molecule: Molecule | None) -> str | None:
    """Return the SMILES of a stable, valid molecule in one piece, else None."""
    (verdict,) = judge([molecule])
    return verdict.smiles if verdict.stable and verdict.connected else None


def useful_quantities(
    useful: float | None, *, given: int, sampled: int, limit: float, seconds: float | None
) -> list[Quantity]:
    """Return the share of useful molecules and, where the time is known, their rate."""

    def quantity(name: str, label: str, value: float | None, unit: str, what: str) -> Quantity:
        return Quantity(
            name=name,
            label=label,
            value=value,
            low=None,
            high=None,
            unit=unit,
            count=sampled,
            given=given,
            protocol="physics",
            interval=None,
            definition=_DEFINITION.format(limit=limit) + what,
        )

    share = None if useful is None else 100 * useful / given
    found = [
        quantity("physics_useful", "Useful, estimated", share, "%", "over all molecules given")
    ]
    if useful is not None and seconds:
        what = f"over the {seconds:,.1f} s that the files' records give for making them"
        found.append(
            quantity("useful_per_second", "Useful molecules", useful / seconds, "/s", what)
        )
    return found


@dataclasses.dataclass(frozen=True)
class GenerationTime:
    """In what time molecules were made, by molbfn's records beside their files."""

    seconds: float | None = None
    """wall time; None: not known"""
    note: str | None = None
    """why it is not known although there are records"""


def generation_time(files: Sequence[Path], *, given: int) -> GenerationTime:
    """Return the wall time in which files were made.

    Not known without files, if one of them has no complete record, or if the records are of
    another number of molecules: then they are not of these files.

    Args:
        files: those that were read.
        given: molecules in them, unreadable ones included.
    """
    seconds, written = 0.0, 0
    for file in files:
        try:
            record = json.loads(file.with_name(f"{file.name}.json").read_bytes())
            if record["complete"] is not True:
                return GenerationTime()
            seconds += sum(float(run["seconds"]) for run in record["runs"])
            written += int(record["written"])
        except (OSError, ValueError, KeyError, TypeError):
            return GenerationTime()
    if files and written != given:
        which = f"{files[0].name}.json speaks" if len(files) == 1 else "the files' records speak"
        note = f"no useful molecules per second: {which} of {written:,} molecules, not {given:,}"
        return GenerationTime(note=note)
    return GenerationTime(seconds or None)
