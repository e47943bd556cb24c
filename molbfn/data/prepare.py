"""Make a data set of the user's own molecules, and say what was left out and why."""

from __future__ import annotations

import dataclasses
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from molbfn.atomic import check_replaceable
from molbfn.chem.files import READABLE, Problem, is_readable, once, read_molecules, unknown_kind
from molbfn.chem.hydrogens import lacks_hydrogen
from molbfn.data.builder import StoreBuilder, smiles_of
from molbfn.data.carried import CarriedArrays, Row
from molbfn.data.splits import SplitBy, check_fractions, choose_split, part_of
from molbfn.data.store import LARGEST_CHARGE, SPLITS, MoleculeStore
from molbfn.errors import UserError
from molbfn.seeds import check_seed

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

UNREADABLE = "cannot be read"
WITHOUT_BONDS = "no bonds stated, where nearly all others state them"
_FEW = 0.1  # share of molecules up to which those without bonds are left out
_PLACES = 5  # examples kept for each reason
_TOO_CLOSE = 0.4  # angstrom; the shortest bond there is, in H2, has 0.74
_LARGEST_PAIRWISE = 2000  # atoms up to which all distances are looked at


@dataclass
class Tally:
    """How often something happened, and the first places where it did."""

    count: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, place: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.places) < _PLACES:
            self.places.append(place)


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` did.

    Attributes:
        output: the npz written.
        read: molecules found in the input; ``kept``: those in the output.
        skipped: reason -> how many were left out for it, and where the first of them stand.
        warnings: remark -> the same, for molecules that were kept.
        splits: molecules in train, valid and test; ``split_is_old``: as the input has them;
            ``elements``: atoms of each symbol.
        smallest, largest: atoms of the smallest and the largest molecule kept.
        with_bonds: whether bonds and formal charges are stored, which a model can then learn.
        with_smiles: molecules kept whose bonds, and so SMILES, are known; ``structures``:
            different ones among these; ``shared``: parts with a structure that another has too.
        carried: properties and other arrays of numbers that are kept beside the molecules;
            ``not_kept``: properties and arrays that are not.
    """

    output: Path
    read: int
    kept: int
    skipped: dict[str, Tally]
    warnings: dict[str, Tally]
    splits: dict[str, int]
    split_is_old: bool
    elements: dict[str, int]
    smallest: int
    largest: int
    with_bonds: bool
    with_smiles: int
    structures: int
    shared: list[str]
    carried: list[str]
    not_kept: list[str]


@dataclass(frozen=True)
class _Item:
    """One molecule of the input, or the reason why there is none."""

    file: Path
    place: str
    molecule: Molecule | None = None
    reason: str = ""
    smiles: str = ""
    split: int | None = None
    row: Row | None = None


def prepare(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    elements: Sequence[str] | None = None,
    max_atoms: int | None = None,
    conformers: int | None = None,
    split_by: SplitBy | None = None,
    seed: int = 0,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    on_molecule: Callable[[int], None] | None = None,
    on_problem: Callable[[Problem], None] | None = None,
) -> PrepareReport:
    """Read SDF, XYZ, npz and pickle files, or folders of them, into one npz data set.

    The input is read as a stream; only the flat arrays of the molecules kept are in memory.
    The molecules are permuted by ``seed`` and divided by ``fractions``, conformers of one structure
    together where bonds are known and structures are as many as parts; or a file's name says which
    part it is. Properties of npz files are kept; those of other files are not, but named. Bonds are
    stored where all molecules state them; a few that do not, a tenth at most, are left out.

    Args:
        paths: files or folders (searched below, in the order of the names).
        output: the ``.npz`` to write; an old one is replaced only when all went well.
        elements: symbols that a molecule may have; all by default.
        max_atoms: largest molecule to keep, H counted.
        conformers: molecules of one structure (SMILES with stereochemistry) to keep in each part
            that is given, the first; all by default.  Those whose bonds are not known are kept.
        split_by: "random", or "files": by "train", "val" or "test" in the name of a file, or of
            the folder it is in; by default as in the input where all of it has a split, else at
            random.
        seed: of the permutation behind the split.
        fractions: train, valid and test parts; they add up to 1.
        on_molecule: called with the number of molecules read so far.
        on_problem: called with each record that cannot be read.

    Raises:
        UserError: a file is missing or of an unknown kind, an argument is out of range, the
            output cannot be written (found before anything is read), or not one molecule could be
            used.
    """
    output = Path(output)
    check_fractions(fractions)
    check_seed(seed)
    wanted = _Wanted(_atomic_numbers(elements), max_atoms=max_atoms, conformers=conformers)
    files = _inputs(paths, output)
    if split_by is not None and split_by not in get_args(SplitBy):
        raise UserError(f"--split {split_by}: use {' or '.join(get_args(SplitBy))}")
    parts = {file: part_of(file) for file in files} if split_by == "files" else {}

    alone = len(files) == 1
    taken = _Taken(wanted)
    items = (item for file in files for item in _items(file, alone=alone, on_problem=on_problem))
    for item in items:
        taken.add(item, item.split if split_by is None else parts.get(item.file))
        if on_molecule:
            on_molecule(taken.read)
    if not taken.parts:
        raise UserError(_nothing_left(files, taken.read, taken.skipped))
    return taken.write(output, seed=seed, fractions=fractions, split_is_old=split_by is None)


class _Taken:
    """What of the input is kept, and what is left out or remarkable and why.

    Args:
        wanted: decides.

    Attributes:
        read: molecules seen so far, the ones that are none included.
        parts: of each molecule kept, the part of the split that its file says; None: none.
        skipped: reason -> molecules left out.
    """

    def __init__(self, wanted: _Wanted) -> None:
        self._wanted = wanted
        self._builder, self._carried = StoreBuilder(), CarriedArrays()
        self._warnings: dict[str, Tally] = {}
        self._lacking = {"bonds": Tally(), "formal charges": Tally()}
        self._uncharged = Tally()  # those of the molecules with bonds that lack formal charges
        self.read = 0
        self.parts: list[int | None] = []
        self.skipped: dict[str, Tally] = {}

    def add(self, item: _Item, part: int | None) -> None:
        """Keep a molecule, or count why not."""
        self.read += 1
        item = _stated(item)
        smiles, reason = self._wanted.judge(item, part)
        if reason:
            self.skipped.setdefault(reason, Tally()).add(item.place)
            return
        molecule = item.molecule
        remark = _remark(molecule)
        if remark:
            self._warnings.setdefault(remark, Tally()).add(item.place)
        if molecule.bonds is None:
            self._lacking["bonds"].add(item.place)
        if molecule.formal_charges is None:
            self._lacking["formal charges"].add(item.place)
            if molecule.bonds is not None:
                self._uncharged.add(item.place)
        self._builder.add(molecule, smiles)
        self._carried.add(molecule, item.row)
        self.parts.append(part)

    def write(
        self,
        output: Path,
        *,
        seed: int,
        fractions: tuple[float, float, float],
        split_is_old: bool,
    ) -> PrepareReport:
        """Divide what is kept and write it.

        Args:
            output: the npz file.
            seed, fractions: of the split, where it is not given for all molecules.
            split_is_old: whether the parts are those of the input.
        """
        spared = self._settle()
        store, not_kept = self._carried.into(self._builder.build(output.stem, spared=spared))
        given = self.parts
        if spared:
            staying = [k for k in range(len(store)) if k not in spared]
            store, given = store.subset(np.array(staying)), [given[k] for k in staying]
        split = choose_split(given, store.smiles, seed=seed, fractions=fractions)
        store = dataclasses.replace(store, split=split)
        store.save(output)
        return _report(
            store,
            output,
            read=self.read,
            skipped=self.skipped,
            warnings=self._warnings,
            split_is_old=split_is_old and None not in given,
            not_kept=not_kept,
        )

    def _settle(self) -> frozenset[int]:
        """Return the molecules to leave out after all for want of bonds, and say what lacks."""
        spared = _spared(self._builder)
        lacking = dict(self._lacking)
        if spared:
            self.skipped[WITHOUT_BONDS] = lacking.pop("bonds")
            lacking["formal charges"] = self._uncharged
        for name, tally in lacking.items():
            if 0 < tally.count < len(self._builder):
                warning = f"no {name} stated, so those of all others are left out as well"
                self._warnings[warning] = tally
        return spared


def _spared(builder: StoreBuilder) -> frozenset[int]:
    """Return the molecules to leave out, lest the bonds of all others were left out.

    Those without bonds where they are few; where they are many, none: the bonds go.
    """
    without = builder.without_bonds
    return without if len(without) <= _FEW * len(builder) else frozenset()


def _inputs(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], output: Path
) -> list[Path]:
    """Return the files to read, once it is clear that the output can be written."""
    if output.suffix != ".npz":
        raise UserError(f"the output must end in .npz, not {output.name}")
    named = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if any(Path(path).is_file() and Path(path).resolve() == output.resolve() for path in named):
        raise UserError(f"{output}: is an input, which it would replace; give another output")
    check_replaceable(output)
    # What an earlier run wrote into the folder that is read now would double the data.
    files = [file for file in find_files(named) if file.resolve() != output.resolve()]
    if not files:
        raise UserError(f"{output}: is the only input and the output; give another output")
    return files


def _stated(item: _Item) -> _Item:
    """Return the item without bonds and charges where its file states none of both."""
    molecule = item.molecule
    if molecule is None or molecule.bonds is None or molecule.states_bonds:
        return item
    if molecule.formal_charges is not None and molecule.formal_charges.any():
        return item  # ions beside each other
    bare = dataclasses.replace(molecule, bonds=None, formal_charges=None)
    return dataclasses.replace(item, molecule=bare, smiles="")


class _Wanted:
    """Which molecules are kept.

    Args:
        elements: atomic numbers that they may have; None: any.
        max_atoms: of the largest; None: any.
        conformers: the first so many of one structure in one part; None: all.

    Raises:
        UserError: a limit below 1.
    """

    def __init__(
        self, elements: frozenset[int] | None, *, max_atoms: int | None, conformers: int | None
    ) -> None:
        for name, limit in (("max_atoms", max_atoms), ("conformers", conformers)):
            if limit is not None and limit < 1:
                raise UserError(f"{name} must be at least 1, not {limit}")
        self._elements, self._max_atoms, self._conformers = elements, max_atoms, conformers
        self._met: Counter[tuple[int | None, str]] = Counter()
        self._last: tuple[Molecule, str] | None = None

    def judge(self, item: _Item, part: int | None) -> tuple[str, str | None]:
        """Return the SMILES of a molecule, "" where not known, and why it is left out, if it is."""
        reason = item.reason or _unusable(item.molecule, self._elements, self._max_atoms)
        if reason:
            return "", reason
        smiles = item.smiles or self._smiles(item.molecule)
        if self._conformers is not None and item.molecule.bonds is not None:
            key = part, item.molecule.smiles(stereo=True) or smiles
            self._met[key] += 1
            if key[1] and self._met[key] > self._conformers:
                return smiles, f"more than {self._conformers} conformers of one structure"
        return smiles, None

    def _smiles(self, molecule: Molecule) -> str:
        # Conformers follow each other, and a SMILES takes longer than the rest.
        if self._last is None or not _same_graph(molecule, self._last[0]):
            self._last = molecule, smiles_of(molecule)
        return self._last[1]


def _same_graph(one: Molecule, two: Molecule) -> bool:
    """Whether two molecules are the same, atom by atom, but for their coordinates."""
    pairs = (
        (one.atomic_numbers, two.atomic_numbers),
        (one.bonds, two.bonds),
        (one.formal_charges, two.formal_charges),
    )
    return all(a is None if b is None else a is not None and np.array_equal(a, b) for a, b in pairs)


def find_files(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the files named, and those of a known kind below the folders named, each once.

    Raises:
        UserError: a path does not exist, is of an unknown kind, or a folder holds no such file.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            below = sorted(file for file in _below(path) if file.is_file() and is_readable(file))
            if not below:
                raise UserError(f"folder {path} holds no {', '.join(READABLE)} file")
            found += below
        elif not path.exists():
            raise UserError(f"no such file: {path}")
        elif not is_readable(path):
            raise UserError(f"{path}: {unknown_kind(path)}")
        else:
            found.append(path)
    if not found:
        raise UserError("no input: name at least one file or folder")
    return once(found)[0]


def _below(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder and in those below it, where links lead to included.

    Each folder comes once, so that links in a circle end; under its own name if it has one here.

    Raises:
        UserError: one of them cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror}); allow it, or name the other "
            f"files and folders one by one"
        )

    seen: set[tuple[int, int]] = set()
    tops = [folder]
    for top in tops:  # grows: what links lead to comes after all else
        for place, folders, files in os.walk(top, onerror=refuse):
            state = os.stat(place)
            if (state.st_dev, state.st_ino) in seen:
                folders.clear()
                continue
            seen.add((state.st_dev, state.st_ino))
            folders.sort()
            below = [Path(place, name) for name in folders]
            tops += [path for path in below if path.is_symlink()]
            yield from (Path(place, name) for name in files)


def _atomic_numbers(elements: Sequence[str] | None) -> frozenset[int] | None:
    from molbfn.chem.elements import atomic_number

    return None if elements is None else frozenset(map(atomic_number, elements))


def _items(
    path: Path, *, alone: bool, on_problem: Callable[[Problem], None] | None
) -> Iterator[_Item]:
    """The records of one file; a file without any is an error if it is all there is."""
    try:
        if path.suffix.lower() == ".npz":
            yield from _store_items(path)
            return
        for count, record in enumerate(read_molecules(path, on_problem=on_problem), start=1):
            if record.molecule is None:  # the reason names the file, the record and the line
                yield _Item(path, record.reason or f"{path}: record {count}", reason=UNREADABLE)
            else:
                yield _Item(path, f"{path}: record {count}", record.molecule)
    except UserError as error:
        if alone:
            raise
        if on_problem:
            reason = str(error).removeprefix(f"{path}: ")
            on_problem(Problem(str(path), None, None, reason))
        yield _Item(path, str(error), reason=UNREADABLE)


def _store_items(path: Path) -> Iterator[_Item]:
    store = MoleculeStore.open(path)
    for index in range(len(store)):
        yield _Item(
            path,
            f"{path}: record {index + 1}",
            store.molecule(index),
            smiles=store.smiles[index] if store.smiles is not None else "",
            split=None if store.split is None else int(store.split[index]),
            row=(store, index),
        )


def _unusable(
    molecule: Molecule, allowed: frozenset[int] | None, max_atoms: int | None
) -> str | None:
    """Why a molecule cannot be used, in words that do not name the single molecule."""
    from molbfn.chem.elements import symbol

    numbers, positions = molecule.atomic_numbers, molecule.positions
    if not len(numbers):
        return "no atoms"
    if max_atoms is not None and len(numbers) > max_atoms:
        return f"more than {max_atoms} atoms"
    if allowed is not None:
        others = sorted(set(numbers.tolist()) - allowed)
        if others:
            return f"element {symbol(others[0])} not asked for"
    if not np.isfinite(positions).all():
        return "a position that is not a number"
    charges = molecule.formal_charges
    if charges is not None and np.abs(charges).max() > LARGEST_CHARGE:
        return f"a formal charge beyond {LARGEST_CHARGE}"
    if _closest(positions) < _TOO_CLOSE:
        return f"two atoms closer than {_TOO_CLOSE} angstrom (no 3D coordinates?)"
    return None


def _closest(positions: np.ndarray) -> float:
    """The shortest distance; infinity for one atom, and for molecules too large to look."""
    if not 1 < len(positions) <= _LARGEST_PAIRWISE:
        return math.inf
    points = positions.astype(np.float64)
    squares = ((points[:, None] - points[None]) ** 2).sum(-1)
    np.fill_diagonal(squares, np.inf)
    return float(np.sqrt(squares.min()))


def _remark(molecule: Molecule) -> str | None:
    """What the user should know of a molecule that is kept."""
    if lacks_hydrogen(molecule):
        return "H atoms are missing, all or those of C (models here expect explicit H)"
    if len(molecule.positions) > 4 and not molecule.positions[:, 2].any():
        return "all z are 0: a flat molecule, or a 2D drawing"
    return None


def _nothing_left(files: Sequence[Path], read: int, skipped: dict[str, Tally]) -> str:
    where = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more files"
    if not read:
        return f"{where}: there are no molecules in it"
    reasons = "; ".join(
        f"{tally.count} {reason} (first: {tally.places[0]})" for reason, tally in skipped.items()
    )
    return f"{where}: not one of {read} molecules can be used: {reasons}"


def _report(
    store: MoleculeStore,
    output: Path,
    *,
    read: int,
    skipped: dict[str, Tally],
    warnings: dict[str, Tally],
    split_is_old: bool,
    not_kept: list[str],
) -> PrepareReport:
    from molbfn.chem.elements import symbol

    def by_count(tallies: dict[str, Tally]) -> dict[str, Tally]:
        return dict(sorted(tallies.items(), key=lambda entry: -entry[1].count))

    return PrepareReport(
        output=output,
        read=read,
        kept=len(store),
        skipped=by_count(skipped),
        warnings=by_count(warnings),
        splits=dict(zip(SPLITS, np.bincount(store.split, minlength=3).tolist(), strict=True)),
        split_is_old=split_is_old,
        elements={symbol(number): count for number, count in store.element_counts().items()},
        smallest=int(store.sizes.min()),
        largest=int(store.sizes.max()),
        with_bonds=store.bonds is not None and store.formal_charges is not None,
        with_smiles=sum(map(bool, store.smiles or [])),
        structures=len(set(store.smiles or []) - {""}),
        shared=_shared(store),
        carried=[
            *store.property_names,
            *store.extras,
            *(["smiles_consistent"] if store.consistent is not None else []),
        ],
        not_kept=not_kept,
    )


def _shared(store: MoleculeStore) -> list[str]:
    """Return the names of the parts in which there is a structure that another part has too."""
    assert store.split is not None
    places: dict[str, set[int]] = {}
    for smiles, part in zip(store.smiles or [], store.split.tolist(), strict=False):
        places.setdefault(smiles, set()).add(part)
    several = [parts for smiles, parts in places.items() if smiles and len(parts) > 1]
    return [SPLITS[part] for part in sorted(set().union(*several))]
