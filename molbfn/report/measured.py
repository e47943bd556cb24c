"""What the slow protocols found of a single molecule, for its card.

They look at a sample. A molecule outside of it has no number, and the page says so: "not computed"
is neither a failure nor a zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from molbfn.evaluation import physics, posebusters
from molbfn.evaluation.relaxation import METHOD
from molbfn.evaluation.sampled import Outcome

#: Numbers measured for some molecules: name -> label and unit.
MEASURED: dict[str, tuple[str, str | None]] = {
    "relaxation_energy": (f"ΔE, {METHOD}", "kcal/mol"),
    "relaxation_rmsd": ("RMSD on relaxation", "Å"),
    "posebusters_not_passed": ("PoseBusters tests not passed", None),
}
NOT_COMPUTED = "not computed"
FAILED = "failed"

Outcomes = Mapping[str, Mapping[int, Outcome]]
"""Protocol -> place in the file, from 0 -> what was found."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """Numbers by the names of `MEASURED`, and words."""

    numbers: dict[str, float] = dataclasses.field(default_factory=dict)
    missing: dict[str, str] = dataclasses.field(default_factory=dict)
    """why a number that was asked for is not there"""
    words: dict[str, str] = dataclasses.field(default_factory=dict)
    """label -> what else was found"""


def measured(outcomes: Outcomes, place: int) -> Measured:
    """Return what is known of the molecule at a place; nothing of protocols that did not run."""
    found = Measured()
    for protocol, (names, read) in _READERS.items():
        if protocol not in outcomes:
            continue
        outcome = outcomes[protocol].get(place)
        if outcome is None:
            found.missing.update(dict.fromkeys(names, NOT_COMPUTED))
        elif not outcome.ok:
            found.missing.update(dict.fromkeys(names, f"{FAILED}: {outcome.reason}"))
        else:
            numbers, words = read(outcome.values)
            found.numbers.update(zip(names, numbers, strict=True))
            found.words.update(words)
    return found


Reader = Callable[[dict[str, Any]], tuple[tuple[float, ...], dict[str, str]]]


def _relaxation(values: dict[str, Any]) -> tuple[tuple[float, ...], dict[str, str]]:
    same = "the same atoms in contact" if values["same_contacts"] else "other atoms in contact"
    return (round(values["drop"], 3), round(values["rmsd"], 3)), {"After relaxation": same}


def _tests(values: dict[str, bool | None]) -> tuple[tuple[float, ...], dict[str, str]]:
    failed = [_words(test) for test, passed in values.items() if passed is False]
    unknown = [_words(test) for test, passed in values.items() if passed is None]
    parts = [f"fails {', '.join(failed)}"] if failed else []
    parts += [f"cannot compute {', '.join(unknown)}"] if unknown else []
    text = "; ".join(parts) or f"passes all {len(values)} tests"
    return (len(failed) + len(unknown),), {"PoseBusters": text}


def _words(test: str) -> str:
    return test.replace("_", " ")


_READERS: dict[str, tuple[tuple[str, ...], Reader]] = {
    physics.PROTOCOL: (("relaxation_energy", "relaxation_rmsd"), _relaxation),
    posebusters.PROTOCOL: (("posebusters_not_passed",), _tests),
}
