"""Evaluate molecules from files or from memory."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from molbfn.chem.files import Problem, read_molecules
from molbfn.chem.molecule import Molecule
from molbfn.data.locate import resolve_dataset
from molbfn.data.store import MoleculeStore
from molbfn.errors import UserError, nearest
from molbfn.evaluation import bonds, edm
from molbfn.evaluation.composition import CompositionCounter
from molbfn.evaluation.metrics import measure
from molbfn.evaluation.reference import ROUTES, KnownSmiles, Progress, Reference, open_reference
from molbfn.evaluation.result import EvaluationResult

PathLike = str | os.PathLike[str]
Evaluable = PathLike | MoleculeStore | Iterable[Molecule | None] | Sequence[PathLike]

#: Protocols by name.
PROTOCOLS = {edm.PROTOCOL: edm.edm_protocol, bonds.PROTOCOL: bonds.bonds_protocol}
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
    protocols: Sequence[str] = (edm.PROTOCOL,),
    seed: int = 0,
    progress: Progress | None = None,
    on_problem: Callable[[Problem], None] | None = None,
) -> EvaluationResult:
    """Return the metrics of molecules.

    Records that cannot be read and molecules that cannot be judged count in the denominators.
    Files are read as streams; memory grows by some bytes per molecule.

    Args:
        molecules: a file, a folder, a data set's name, several of them, a store, or molecules
            (None stands for one that failed).
        reference: what novelty and composition are compared with: a data set's name ("qm9"), an
            npz, or any file or folder of molecules. Without it there is no novelty.
        reference_split: part of the reference, "train" where it has splits, else "all".
        novelty: "smiles", "distances" or "both" (see `molbfn.evaluation.reference`); "auto" takes
            the reference's own SMILES where it has them, else the distance rule.
        protocols: names in `PROTOCOLS`.
        seed: of the bootstrap.
        progress: called with a label, the molecules so far and their total or None.
        on_problem: called with each record of a file that cannot be read.

    Raises:
        UserError: a file is missing or unreadable, there are no molecules, or an argument is
            not known.
    """
    _check("protocol", protocols, tuple(PROTOCOLS))
    _check("novelty", (novelty,), NOVELTY)
    source = _Source.of(molecules, on_problem)
    compared = None if reference is None else open_reference(reference, split=reference_split)
    known = [] if compared is None else _known(compared, novelty, progress)
    running = [PROTOCOLS[name]() for name in dict.fromkeys(protocols)]
    tally, counter = _Tally(), CompositionCounter()
    for chunk in source.chunks():
        read = [molecule for molecule, _ in chunk]
        for molecule in read:
            if molecule is not None:
                counter.add(molecule)
        verdicts = [protocol.add(read) for protocol in running]
        tally.add(chunk, [v.problem for v in verdicts[0]])
        if progress:
            progress("evaluating", tally.given, source.total)
    if not tally.given:
        raise UserError("there are no molecules to evaluate")
    return EvaluationResult(
        metrics=tuple(
            measure(named, seed=seed) for protocol in running for named in protocol.ratios(known)
        ),
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
        versions=_versions(),
    )


#: A molecule and where it stands, or None and what is wrong there.
_Entry = tuple[Molecule | None, str]


@dataclass(frozen=True)
class _Source:
    """Molecules one after the other, and where they come from."""

    names: tuple[str, ...]
    total: int | None
    entries: Iterator[_Entry]

    @classmethod
    def of(
        cls, molecules: Evaluable, on_problem: Callable[[Problem], None] | None = None
    ) -> _Source:
        if isinstance(molecules, str | os.PathLike):
            molecules = [molecules]
        if isinstance(molecules, MoleculeStore):
            store = molecules
            entries = ((store.molecule(k), f"molecule {k + 1}") for k in range(len(store)))
            return cls((store.name,), len(store), entries)
        if isinstance(molecules, Sequence) and molecules and _is_path(molecules[0]):
            if not all(_is_path(item) for item in molecules):
                raise TypeError("paths and molecules cannot be mixed")
            return cls._of_files([_file(item) for item in molecules], on_problem)
        total = len(molecules) if isinstance(molecules, Sequence) else None
        entries = (
            (m, f"molecule {k + 1}" + (" is None" if m is None else ""))
            for k, m in enumerate(molecules)
        )
        return cls(("molecules in memory",), total, entries)

    @classmethod
    def _of_files(cls, files: list[Path], on_problem: Callable[[Problem], None] | None) -> _Source:
        # opening them all first finds a wrong name before hours of work, not after
        readers = [read_molecules(file, on_problem=on_problem) for file in files]
        entries = (
            (record.molecule, record.reason or f"{file}: record {record.index + 1}")
            for file, reader in zip(files, readers, strict=True)
            for record in reader
        )
        return cls(tuple(str(file) for file in files), None, entries)

    def chunks(self) -> Iterator[list[_Entry]]:
        while chunk := list(islice(self.entries, _CHUNK)):
            yield chunk


@dataclass
class _Tally:
    given: int = 0
    unreadable: int = 0
    unjudged: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, chunk: list[_Entry], problems: list[str | None]) -> None:
        self.given += len(chunk)
        for (molecule, where), problem in zip(chunk, problems, strict=True):
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


def _check(what: str, chosen: Sequence[str], allowed: Sequence[str]) -> None:
    for name in chosen:
        if name not in allowed:
            raise UserError(
                f"unknown {what} '{name}';{nearest(name, allowed)} known: {', '.join(allowed)}"
            )
    if not chosen:
        raise UserError(f"no {what} given; known: {', '.join(allowed)}")


def _is_path(item: object) -> bool:
    return isinstance(item, str | os.PathLike)


def _file(path: PathLike) -> Path:
    """Return a path that exists as it is, and the file of a data set's name."""
    plain = Path(path)
    is_name = not plain.exists() and not plain.suffix and len(plain.parts) == 1
    return resolve_dataset(plain) if is_name else plain


def _versions() -> dict[str, str]:
    found = {}
    for package in ("molbfn", "rdkit", "numpy"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a folder, not installed
            found[package] = "unknown"
    return found
