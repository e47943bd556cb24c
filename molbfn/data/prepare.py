"""Make a data set of the user's own molecules, and say what was left out and why."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from molbfn.chem.files import Problem
from molbfn.data.builder import StoreBuilder
from molbfn.data.carried import CarriedArrays
from molbfn.data.inputs import Item, as_stated, choose_files, read_items
from molbfn.data.prepare_report import PrepareReport, Tally, make_report, nothing_left
from molbfn.data.splits import SplitBy, check_fractions, choose_split, part_of
from molbfn.data.wanted import Wanted, remark_on
from molbfn.errors import UserError
from molbfn.seeds import check_seed

WITHOUT_BONDS = "no bonds stated, where nearly all others state them"
_FEW = 0.1  # share of molecules up to which those without bonds are left out


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
    wanted = Wanted(elements, max_atoms=max_atoms, conformers=conformers)
    files = choose_files(paths, output)
    if split_by is not None and split_by not in get_args(SplitBy):
        raise UserError(f"--split {split_by}: use {' or '.join(get_args(SplitBy))}")
    parts = {file: part_of(file) for file in files} if split_by == "files" else {}

    alone = len(files) == 1
    taken = _Taken(wanted)
    items = (
        item for file in files for item in read_items(file, alone=alone, on_problem=on_problem)
    )
    for item in items:
        taken.add(item, item.split if split_by is None else parts.get(item.file))
        if on_molecule:
            on_molecule(taken.read)
    if not taken.parts:
        raise UserError(nothing_left(files, taken.read, taken.skipped))
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

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._builder, self._carried = StoreBuilder(), CarriedArrays()
        self._warnings: dict[str, Tally] = {}
        self._lacking = {"bonds": Tally(), "formal charges": Tally()}
        self._uncharged = Tally()  # those of the molecules with bonds that lack formal charges
        self.read = 0
        self.parts: list[int | None] = []
        self.skipped: dict[str, Tally] = {}

    def add(self, item: Item, part: int | None) -> None:
        """Keep a molecule, or count why not."""
        self.read += 1
        item = as_stated(item)
        smiles, reason = self._wanted.judge(item, part)
        if reason:
            self.skipped.setdefault(reason, Tally()).add(item.place)
            return
        molecule = item.molecule
        remark = remark_on(molecule)
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
        return make_report(
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
