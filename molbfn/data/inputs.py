"""The files that `molbfn data prepare` reads, and the molecules in them one by one."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from molbfn.atomic import check_replaceable
from molbfn.chem.files import READABLE, Problem, is_readable, once, read_molecules, unknown_kind
from molbfn.data.carried import Row
from molbfn.data.store import MoleculeStore
from molbfn.errors import UserError

if TYPE_CHECKING:
    from molbfn.chem.molecule import Molecule

UNREADABLE = "cannot be read"


@dataclass(frozen=True)
class Item:
    """One molecule of the input, or the reason why there is none."""

    file: Path
    place: str
    molecule: Molecule | None = None
    reason: str = ""
    smiles: str = ""
    split: int | None = None
    row: Row | None = None


def choose_files(
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


def read_items(
    path: Path, *, alone: bool, on_problem: Callable[[Problem], None] | None
) -> Iterator[Item]:
    """The records of one file; a file without any is an error if it is all there is."""
    try:
        if path.suffix.lower() == ".npz":
            yield from _store_items(path)
            return
        for count, record in enumerate(read_molecules(path, on_problem=on_problem), start=1):
            if record.molecule is None:  # the reason names the file, the record and the line
                yield Item(path, record.reason or f"{path}: record {count}", reason=UNREADABLE)
            else:
                yield Item(path, f"{path}: record {count}", record.molecule)
    except UserError as error:
        if alone:
            raise
        if on_problem:
            reason = str(error).removeprefix(f"{path}: ")
            on_problem(Problem(str(path), None, None, reason))
        yield Item(path, str(error), reason=UNREADABLE)


def _store_items(path: Path) -> Iterator[Item]:
    store = MoleculeStore.open(path)
    for index in range(len(store)):
        yield Item(
            path,
            f"{path}: record {index + 1}",
            store.molecule(index),
            smiles=store.smiles[index] if store.smiles is not None else "",
            split=None if store.split is None else int(store.split[index]),
            row=(store, index),
        )


def as_stated(item: Item) -> Item:
    """Return the item without bonds and charges where its file states none of both."""
    molecule = item.molecule
    if molecule is None or molecule.bonds is None or molecule.states_bonds:
        return item
    if molecule.formal_charges is not None and molecule.formal_charges.any():
        return item  # ions beside each other
    bare = dataclasses.replace(molecule, bonds=None, formal_charges=None)
    return dataclasses.replace(item, molecule=bare, smiles="")
