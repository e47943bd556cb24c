"""The protocol "physics": how much energy molecules lose when GFN2-xTB relaxes them.

After "GEOM-Drugs Revisited" (Nikitin et al., Digital Discovery 4:3282, 2025), with two additions
for honesty. Molecules that fail (unreadable, no self-consistent field, no convergence, out of
time) are counted beside every mean over the others, and a second median has them as the worst. And
whether the atoms in contact are still the same ones afterwards is counted too: a large drop is
often a molecule that falls apart. MMFF94s stands beside it because earlier papers use it; it ranks
methods differently, and its numbers are not comparable with those of xTB.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from molbfn.evaluation.intervals import additive_ratio
from molbfn.evaluation.metrics import NamedRatio, NamedStatistic
from molbfn.evaluation.protocols import Context, Findings
from molbfn.evaluation.relaxation import GRADIENT_TOLERANCE, METHOD
from molbfn.evaluation.sampled import Outcome, SampledProtocol, measure_molecules, sample_note
from molbfn.evaluation.useful import UsefulCounter, useful_quantities
from molbfn.versions import installed_version

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

PROTOCOL = "physics"
PACKAGES = ("tblite", "scipy")
DEFAULT_SAMPLE = 200
STRAINED = 20.0
"""kcal/mol; more is counted as strained"""
RELAXED = 5.0
"""kcal/mol; less is counted as relaxed, as in "useful molecules\""""
_TASK = "molbfn.evaluation.relaxation:relaxation_record"
_FORM = 3  # of the records; to be raised when `relaxation` changes what it returns


class PhysicsProtocol(SampledProtocol):
    """Takes a sample of molecules and relaxes it.

    Args:
        sample: how many molecules; None: all.
        seed: of the sample.
    """

    def __init__(self, sample: int | None, *, seed: int = 0) -> None:
        super().__init__(sample, seed=seed)
        self._useful = UsefulCounter()

    def add(self, molecules: Sequence[Molecule | None]) -> None:
        """Take more molecules; None is one that could not be read."""
        super().add(molecules)
        self._useful.add(molecules)

    def finish(self, context: Context) -> Findings:
        """Relax the sample and return what was found."""
        outcomes = measure_molecules(
            self._sample.molecules,
            _TASK,
            name=PROTOCOL,
            version=f"tblite {installed_version('tblite')} form {_FORM}",
            settings=context.settings,
            done=context.counter("relaxing by GFN2-xTB"),
        )
        useful = useful_quantities(
            self._useful.estimate(outcomes, limit=RELAXED),
            given=self._useful.given,
            sampled=len(outcomes),
            limit=RELAXED,
            seconds=context.seconds,
        )
        return Findings(
            ratios=_ratios(outcomes),
            statistics=_statistics(outcomes),
            quantities=useful,
            notes=_notes(outcomes, self._sample.given, context.no_seconds),
            packages=PACKAGES,
            outcomes=self._sample.by_place(outcomes),
        )


def _ratios(outcomes: list[Outcome]) -> list[NamedRatio]:
    every = np.ones(len(outcomes), dtype=bool)
    ok = np.array([o.ok for o in outcomes], dtype=bool)
    drop = np.array([o.values["drop"] if o.ok else math.nan for o in outcomes])
    kept = np.array([o.ok and o.values["same_contacts"] for o in outcomes], dtype=bool)
    sampled = "of the sample"

    def share(name: str, label: str, counted: NDArray[np.bool_], what: str) -> NamedRatio:
        definition = f"{what}, over all molecules {sampled}, failed ones included"
        ratio = additive_ratio(counted, every)
        return NamedRatio(f"{PROTOCOL}_{name}", label, PROTOCOL, definition, ratio)

    return [
        share(
            "relaxed", "Relaxation succeeds", ok, f"molecules that {METHOD} relaxes to a minimum"
        ),
        share(
            "below_5",
            "ΔE below 5 kcal/mol",
            ok & (drop < RELAXED),
            f"molecules that lose less than {RELAXED:g} kcal/mol on relaxation",
        ),
        share(
            "above_20",
            "ΔE above 20 kcal/mol",
            ok & (drop > STRAINED),
            f"molecules that lose more than {STRAINED:g} kcal/mol on relaxation",
        ),
        share(
            "same_contacts",
            "Same atoms in contact after",
            kept,
            "molecules in which the same pairs are closer than 1.3 times the sum of their covalent "
            "radii before and after relaxation",
        ),
    ]


@dataclasses.dataclass(frozen=True)
class _Row:
    key: str
    name: str
    label: str
    unit: str
    reduce: Callable[..., Any]
    definition: str


_DROP = (
    f"energy of {METHOD} as given minus after relaxation to a largest gradient component of "
    f"{GRADIENT_TOLERANCE:g} hartree/bohr, in vacuum, charge from the formal charges "
    "(where none are stated, the total charge that is, else 0), lowest spin"
)
_MMFF = "energy of MMFF94s as given minus after relaxation by MMFF94s, own bonds; comparable with "
_GRAPH = "over the molecule's own bonds (else those of EDM's table); mean of the molecules' means"
_ROWS = (
    _Row("drop", "energy_median", "ΔE, median", "kcal/mol", np.median, _DROP),
    _Row("drop", "energy_mean", "ΔE, mean", "kcal/mol", np.mean, _DROP),
    _Row(
        "rmsd", "rmsd", "RMSD, mean", "Å", np.mean, "all atoms, best superposition, no reflection"
    ),
    _Row("bond", "bond", "|Δ bond length|", "Å", np.mean, f"mean absolute change {_GRAPH}"),
    _Row("angle", "angle", "|Δ angle|", "°", np.mean, f"mean absolute change {_GRAPH}"),
    _Row(
        "torsion",
        "torsion",
        "|Δ torsion|",
        "°",
        np.mean,
        f"mean absolute change, all proper torsions but those over straight angles, {_GRAPH}",
    ),
    _Row("mmff_drop", "mmff_median", "MMFF94s ΔE, median", "kcal/mol", np.median, _MMFF + "MMFF"),
    _Row("mmff_drop", "mmff_mean", "MMFF94s ΔE, mean", "kcal/mol", np.mean, _MMFF + "MMFF only"),
)


def _statistics(outcomes: list[Outcome]) -> list[NamedStatistic]:
    def named(row: _Row, values: list[float]) -> NamedStatistic:
        return NamedStatistic(
            name=f"{PROTOCOL}_{row.name}",
            label=row.label,
            unit=row.unit,
            protocol=PROTOCOL,
            definition=row.definition,
            values=np.array(values, dtype=np.float64),
            reduce=row.reduce,
            given=len(outcomes),
        )

    found = []
    for row in _ROWS:
        values = [o.values[row.key] for o in outcomes if o.ok and o.values[row.key] is not None]
        found.append(named(row, values))
    worst = _Row(
        "drop",
        "energy_median_all",
        "ΔE, median, failed as worst",
        "kcal/mol",
        np.median,
        f"{_DROP}; molecules that failed count as more than any other",
    )
    drops = [o.values["drop"] if o.ok else math.inf for o in outcomes]
    return [found[0], named(worst, drops), *found[1:]]


def _notes(outcomes: list[Outcome], given: int, no_seconds: str | None) -> list[str]:
    notes = [f"{PROTOCOL}: {METHOD}, {sample_note(len(outcomes), given)}"]
    failed = [o for o in outcomes if not o.ok]
    if failed:
        reasons = sorted({o.reason for o in failed})
        notes.append(f"{PROTOCOL}: {len(failed):,} failed, e.g. {reasons[0]}")
    read = [o.molecule for o in outcomes if o.molecule is not None]
    odd = sum((int(m.atomic_numbers.sum()) - m.charge) % 2 for m in read)
    if odd:
        notes.append(
            f"{PROTOCOL}: {odd:,} of {len(read):,} have an odd number of electrons at their charge "
            f"and are relaxed as radicals; ions whose file states no charge are among these"
        )
    if no_seconds is not None:
        notes.append(f"{PROTOCOL}: {no_seconds}")
    return notes
