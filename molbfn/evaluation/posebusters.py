"""The protocol "posebusters": the tests of the PoseBusters package, its configuration "mol".

Buttenschoen et al., Chem. Sci. 15:3130 (2024). Figures depend on the version and on the
configuration, so both are stated, every test has its own row, and the whole is given with and
without the energy test. That one takes seconds for a strained cage, and often cannot be computed
there at all; PoseBusters then reports no number, which counts as passed for those who ask whether
all of a row is true. Here such molecules fail "all tests", and a row of its own has them pass. The
energy test is a request of its own, so that one that takes too long costs no other test.
Molecules without bonds get those of RDKit's perception first; where it fails, so does the molecule.
Where hydrogens were left out (`chem.hydrogens`), atoms take implicit ones, as in the package's own
reading of such a file.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from molbfn.chem.hydrogens import lacks_hydrogen
from molbfn.evaluation.intervals import additive_ratio
from molbfn.evaluation.metrics import NamedRatio
from molbfn.evaluation.protocols import Context, Findings
from molbfn.evaluation.sampled import Outcome, SampledProtocol, measure_molecules, sample_note
from molbfn.versions import installed_version

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

PROTOCOL = "posebusters"
PACKAGES = ("posebusters",)
CONFIG = "mol"
DEFAULT_SAMPLE = 100
ENERGY = "internal_energy"
_ENERGY_FUNCTION = "energy_ratio"  # the package's name of the module
_TASK = "molbfn.evaluation.posebusters:bust_record"
_ENERGY_TASK = "molbfn.evaluation.posebusters:energy_record"
_FORM = 4  # of the records


def bust_record(molecule: Molecule) -> dict[str, Any]:
    """Return test -> passed of all tests but `ENERGY`, in the order of PoseBusters' report.

    None: it could not be computed.

    Raises:
        ValueError: the molecule has no bonds and RDKit finds none.
    """
    return _passed(molecule, energy=False)


def energy_record(molecule: Molecule) -> dict[str, Any]:
    """Return whether `ENERGY` is passed; see `bust_record`."""
    return _passed(molecule, energy=True)


def _passed(molecule: Molecule, *, energy: bool) -> dict[str, Any]:
    if not molecule.states_bonds:
        molecule = perceived(molecule)
    mol = molecule.to_rdkit(implicit_hydrogens=lacks_hydrogen(molecule))
    report = _buster(energy=energy).bust([mol], None, None, full_report=False)
    return {
        str(test): None if isinstance(passed, float) and math.isnan(passed) else bool(passed)
        for test, passed in report.iloc[0].items()
    }


def perceived(molecule: Molecule) -> Molecule:
    """Return the molecule with bonds and charges by RDKit's perception, in this process.

    The total charge that the molecule states, by formal charges or in all, is tried first.

    Raises:
        ValueError: RDKit finds none.
    """
    from molbfn.chem._worker import perceive

    points = molecule.positions.astype(np.float64)
    answer = perceive(molecule.atomic_numbers, points, molecule.charge)
    if "error" in answer:
        raise ValueError(answer["error"])
    return dataclasses.replace(
        molecule,
        bonds=np.array(answer["bonds"], dtype=np.int64).reshape(-1, 3),
        formal_charges=np.array(answer["charges"], dtype=np.int64),
    )


@functools.cache
def _buster(*, energy: bool) -> Any:
    from posebusters import PoseBusters

    config = PoseBusters(config=CONFIG).config
    # "mol" has the energy test a second time, without a result in the report: half of all time
    reported = [m for m in config["modules"] if m.get("chosen_binary_test_output")]
    modules = [m for m in reported if (m["function"] == _ENERGY_FUNCTION) == energy]
    return PoseBusters(config={**config, "modules": modules}, max_workers=0)  # 0: in this process


class PoseBustersProtocol(SampledProtocol):
    """Takes a sample of molecules and puts it to PoseBusters' tests."""

    def finish(self, context: Context) -> Findings:
        """Test the sample and return what was found."""
        version = f"posebusters {installed_version('posebusters')}"
        measure = functools.partial(
            _measured, version=f"{version} config {CONFIG} form {_FORM}", context=context
        )
        tested = measure(self._sample.molecules, _TASK, name=PROTOCOL)
        treated = [o.molecule for o in tested if o.ok]
        energies = measure(treated, _ENERGY_TASK, name=f"{PROTOCOL}' energy test")
        outcomes = with_energies(tested, energies)
        note = sample_note(len(outcomes), self._sample.given)
        notes = [f'{PROTOCOL}: {version}, config "{CONFIG}", {note}']
        failed = [o for o in outcomes if not o.ok]
        if failed:
            notes.append(f"{PROTOCOL}: {len(failed):,} failed all, e.g. {failed[0].reason}")
        if late := [o for o in energies if not o.ok]:
            notes.append(
                f"{PROTOCOL}: the energy test of {len(late):,} was given up and counts as not "
                f"computed, e.g. {late[0].reason}"
            )
        return Findings(
            ratios=share_ratios(outcomes),
            notes=notes,
            packages=PACKAGES,
            outcomes=self._sample.by_place(outcomes),
        )


def with_energies(tested: Sequence[Outcome], energies: Sequence[Outcome]) -> list[Outcome]:
    """Return outcomes with all tests.

    Args:
        tested: without `ENERGY`.
        energies: with nothing else, of those molecules that have values, in the same order; one
            without a value gives None.
    """
    remaining = iter(energies)
    return [
        dataclasses.replace(o, values={**o.values, ENERGY: next(remaining).values.get(ENERGY)})
        if o.ok
        else o
        for o in tested
    ]


def _measured(
    molecules: Sequence[Molecule | None], task: str, *, name: str, version: str, context: Context
) -> list[Outcome]:
    return measure_molecules(
        molecules,
        task,
        name=name,
        version=version,
        settings=context.settings,
        done=context.counter(name),
    )


def share_ratios(outcomes: Sequence[Outcome]) -> list[NamedRatio]:
    """Return the share that passes each test, all of them, and all but the energy test."""
    tests = list(dict.fromkeys(test for o in outcomes if o.ok for test in o.values))
    every = np.ones(len(outcomes), dtype=bool)
    over = "over all molecules of the sample; one that PoseBusters cannot treat fails everything"

    def share(
        name: str, label: str, wanted: list[str], what: str, *, lenient: bool = False
    ) -> NamedRatio:
        passing = (True, None) if lenient else (True,)
        passed = [o.ok and all(o.values.get(test) in passing for test in wanted) for o in outcomes]
        ratio = additive_ratio(np.array(passed, dtype=bool), every)
        return NamedRatio(f"{PROTOCOL}_{name}", label, PROTOCOL, f"{what}, {over}", ratio)

    rest = [test for test in tests if test != ENERGY]
    failing_none = "molecules that fail no test; what could not be computed counts as passed"
    return [
        share("valid", "All tests", tests, "molecules that pass every test"),
        share("valid_lenient", "None failed", tests, failing_none, lenient=True),
        share("valid_no_energy", "All tests but the energy", rest, "molecules that pass the rest"),
        *(
            share(test, f"  {test.replace('_', ' ')}", [test], f"molecules that pass '{test}'")
            for test in tests
        ),
    ]
