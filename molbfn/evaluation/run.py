"""Evaluate molecules from files or from memory."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from molbfn.chem.files import Problem
from molbfn.chem.hydrogens import hydrogen_note, lacks_hydrogen
from molbfn.chem.records import is_selected
from molbfn.data.store import MoleculeStore
from molbfn.errors import UserError, nearest
from molbfn.evaluation.composition import CompositionCounter
from molbfn.evaluation.distributions import BondRoute
from molbfn.evaluation.metrics import measure, summarise
from molbfn.evaluation.protocols import Context, SlowProtocol
from molbfn.evaluation.reference import (
    ROUTES,
    KnownSmiles,
    Progress,
    Reference,
    check_split,
    open_reference,
)
from molbfn.evaluation.registry import (
    DEFAULT_SAMPLES,
    check_samples,
    chosen_protocols,
    finish,
    open_protocol,
)
from molbfn.evaluation.result import EvaluationResult
from molbfn.evaluation.sampled import Settings, selection_note
from molbfn.evaluation.source import Entry, Evaluable, PathLike, Source
from molbfn.evaluation.useful import generation_time
from molbfn.evaluation.verdicts import Protocol, Unjudged
from molbfn.seeds import check_seed
from molbfn.versions import installed_version

#: What ``novelty`` may be.
NOVELTY = ("auto", *ROUTES, "both")
_CHUNK = 512
_PROBLEMS_KEPT = 10


def evaluate(
    molecules: Evaluable,
    *,
    reference: PathLike | MoleculeStore | None = None,
    reference_split: str | None = None,
    novelty: str = "auto",
    protocols: Sequence[str] = ("edm",),
    samples: Mapping[str, int | None] | None = None,
    settings: Settings | None = None,
    distribution_bonds: BondRoute | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    on_problem: Callable[[Problem], None] | None = None,
) -> EvaluationResult:
    """Return the metrics of molecules.

    Records that cannot be read and molecules that cannot be judged count in the denominators.
    Files are read as streams; memory grows by some bytes per molecule, and by the molecules of
    the samples that slow protocols take.

    Args:
        molecules: a file, a folder, a data set's name, several of them, a store, or molecules
            (None stands for one that failed).
        reference: what novelty and distributions are compared with: a data set's name ("qm9"), an
            npz, or any file or folder of molecules. Without it there is no novelty.
        reference_split: part of the reference, "train" where it has splits, else "all".
        novelty: "smiles", "distances" or "both" (see `molbfn.evaluation.reference`); "auto" takes
            the reference's own SMILES where it has them, else the distance rule.
        protocols: names in `PROTOCOLS`; ("all",) takes all whose packages are installed.
        samples: how many molecules a slow protocol looks at, by its name; None: all of them. The
            others take `DEFAULT_SAMPLES`.
        settings: timeout, processes and cache of the slow protocols.
        distribution_bonds: "own" or "table": whose bonds distributions count; None: the molecules'
            own where they and the reference state bonds.
        seed: of the bootstrap and of the samples.
        progress: called with a label, the molecules so far and their total or None.
        on_problem: called with each record of a file that cannot be read.

    Raises:
        UserError: a file is missing or unreadable, there are no molecules, an argument is
            not known, or a package that a protocol needs is not installed.
    """
    check_seed(seed)
    check_split(reference, reference_split)
    if reference is None and novelty in NOVELTY[1:]:
        raise UserError(f"--novelty {novelty}: against which --reference? none is given")
    names, skipped = chosen_protocols(protocols)
    check_samples(samples or {}, names)
    sizes = {**DEFAULT_SAMPLES, **(samples or {})}
    if novelty not in NOVELTY:
        hint = nearest(novelty, NOVELTY)
        raise UserError(f"unknown novelty '{novelty}';{hint} known: {', '.join(NOVELTY)}")
    source = Source.of(molecules, on_problem)
    compared = None if reference is None else open_reference(reference, split=reference_split)
    known = [] if compared is None else _known(compared, novelty, progress)
    running = {
        name: open_protocol(name, sizes, compared, seed=seed, bonds_of=distribution_bonds)
        for name in names
    }
    tally, counter = _Tally(), CompositionCounter()
    for chunk in source.chunks(_CHUNK):
        _add(chunk, running, tally, counter)
        if progress:
            progress("evaluating", tally.given, source.total)
    if not tally.given:
        raise UserError("there are no molecules to evaluate")
    time = generation_time(source.files, given=tally.given)
    context = Context(
        seed=seed,
        settings=settings or Settings(),
        known=tuple(known),
        seconds=time.seconds,
        no_seconds=time.note,
        progress=progress,
    )
    findings = [finish(protocol, context) for protocol in running.values()]
    return EvaluationResult(
        metrics=tuple(measure(r, seed=seed) for found in findings for r in found.ratios),
        sources=source.names,
        given=tally.given,
        unreadable=tally.unreadable,
        unjudged=tally.unjudged,
        problems=tuple(tally.problems),
        composition=counter.composition(),
        reference=None if compared is None else compared.name,
        reference_composition=known[0].composition if known else None,
        seed=seed,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=_versions([name for found in findings for name in found.packages]),
        quantities=tuple(
            quantity
            for found in findings
            for quantity in (
                *(summarise(s, seed=seed) for s in found.statistics),
                *found.quantities,
            )
        ),
        distributions=tuple(d for found in findings for d in found.distributions),
        notes=(
            *tally.notes(),
            *dict.fromkeys(note for one in known for note in one.notes),
            *(note for found in findings for note in found.notes),
        ),
        skipped=skipped,
        outcomes={
            name: found.outcomes
            for name, found in zip(running, findings, strict=True)
            if found.outcomes
        },
    )


def _add(
    chunk: list[Entry],
    running: Mapping[str, Protocol | SlowProtocol],
    tally: _Tally,
    counter: CompositionCounter,
) -> None:
    read = [molecule for molecule, _ in chunk]
    for molecule in read:
        if molecule is not None:
            counter.add(molecule)
    problems: list[str | None] | None = None
    for name, protocol in running.items():
        verdicts = protocol.add(read)
        if verdicts is not None:
            tally.unjudged_by.setdefault(name, Unjudged()).add(read, verdicts)
        # the problems told are those of the first protocol that judges single molecules
        if verdicts is not None and problems is None:
            problems = [verdict.problem for verdict in verdicts]
    tally.add(chunk, problems or [None if m is not None else "cannot be read" for m in read])


@dataclass
class _Tally:
    given: int = 0
    unreadable: int = 0
    unjudged: int = 0
    selected: int = 0
    bare: int = 0
    problems: list[str] = field(default_factory=list)
    unjudged_by: dict[str, Unjudged] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """Return what to know of the molecules as a whole."""
        notes = [selection_note(self.selected, self.given)] if self.selected else []
        if self.bare:
            notes.append(hydrogen_note(self.bare, self.given))
        if len(self.unjudged_by) > 1:  # of one alone the table says it
            notes += [
                f"{name}: {one.in_words()}; they fail all that it measures"
                for name, one in self.unjudged_by.items()
                if one.count
            ]
        return notes

    def add(self, chunk: list[Entry], problems: list[str | None]) -> None:
        self.given += len(chunk)
        for (molecule, where), problem in zip(chunk, problems, strict=True):
            if molecule is not None:
                self.selected += is_selected(molecule.properties)
                self.bare += lacks_hydrogen(molecule)
            if problem is None:
                continue
            self.unreadable += molecule is None
            self.unjudged += molecule is not None
            if len(self.problems) < _PROBLEMS_KEPT:
                self.problems.append(where if molecule is None else f"{where} {problem}")


def _known(reference: Reference, novelty: str, progress: Progress | None) -> list[KnownSmiles]:
    if novelty == "both":
        routes = list(ROUTES)
    elif novelty == "auto":
        routes = ["smiles" if reference.has_smiles() else "distances"]
    else:
        routes = [novelty]
    if "smiles" in routes and not reference.has_smiles():
        raise UserError(
            f"{reference.name}: states no SMILES or bonds; use the novelty by distances"
        )
    return [reference.known(route, progress=progress) for route in routes]


def _versions(packages: Sequence[str]) -> dict[str, str]:
    # "unknown": run from a folder, not installed
    names = dict.fromkeys(("molbfn", "rdkit", "numpy", *packages))
    return {name: installed_version(name) or "unknown" for name in names}
