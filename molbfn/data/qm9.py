"""QM9 from its raw files or from PyTorch Geometric, with EDM's split.

QM9 (Ramakrishnan et al., Sci. Data 1:140022) numbers its 133,885 molecules from 1 and lists 3,054
of them, by that number, as uncharacterised; 130,831 remain. PyTorch Geometric counts from 0. The
split of EDM (Hoogeboom et al., arXiv:2203.17003, appendix) permutes the molecules that remain.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import lzma
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from molbfn.atomic import check_replaceable
from molbfn.data.builder import StoreBuilder, smiles_of
from molbfn.data.download import (
    EXCLUDED,
    RAW_FILES,
    SDF,
    TABLE,
    Progress,
    download_qm9,
    make_folder,
)
from molbfn.data.locate import cache_dir
from molbfn.data.store import MoleculeStore
from molbfn.errors import UserError

TOTAL, UNCHARACTERISED = 133_885, 3_054
REMAINING = TOTAL - UNCHARACTERISED
_TRAIN = 100_000
_TEST_FRACTION = 0.1

PROPERTY_NAMES = (
    *("mu", "alpha", "homo", "lumo", "gap", "r2", "zpve"),
    *("U0", "U", "H", "G", "Cv"),
)
PROPERTY_UNITS = (
    *("Debye", "Bohr^3", "Hartree", "Hartree", "Hartree", "Bohr^2", "Hartree"),
    *("Hartree", "Hartree", "Hartree", "Hartree", "cal/(mol K)"),
)
_TABLE_COLUMNS = (
    *("mu", "alpha", "homo", "lumo", "gap", "r2", "zpve"),
    *("u0", "u298", "h298", "g298", "cv"),
)
# PyTorch Geometric keeps these twelve in the same order, energies in eV (its own constant).
_PYG_HARTREE = 27.211386246
_PYG_PROCESSED = ("data_v3.pt", "data_v2.pt")

# index, then three or more columns of SMILES and a distance: no line of header or footer fits
_EXCLUDED_LINE = re.compile(r"^\s*(\d+)\s+\S+\s+\S+\s+\S")


@dataclass(frozen=True)
class QM9Report:
    """What `prepare_qm9` did: the file, its molecules, and the molecules of each split."""

    output: Path
    molecules: int
    excluded: int
    splits: dict[str, int]


def prepare_qm9(
    output: Path | None = None,
    *,
    from_dir: Path | None = None,
    progress: Progress | None = None,
    on_molecule: Callable[[int], None] | None = None,
) -> QM9Report:
    """Make the QM9 npz: from a folder if one is given, else downloaded (resumes).

    Args:
        output: the npz; by default the place where `resolve_dataset("qm9")` looks for it.
        from_dir: a folder with `RAW_FILES`, or a root of PyTorch Geometric's QM9.
        progress: called with (bytes so far, bytes in all) while downloading.
        on_molecule: called with the number of records read so far.

    Raises:
        UserError: no network, an incomplete folder, files that are not QM9, or an output that
            cannot be written (found before anything is read).
    """
    output = output or cache_dir() / "qm9" / "qm9.npz"
    raw = None
    if from_dir is not None:
        raw = next((folder for folder in (from_dir, from_dir / "raw") if _has_raw(folder)), None)
        if raw is None and _processed_file(from_dir) is None:
            raise UserError(
                f"{from_dir} holds neither {', '.join(RAW_FILES)} nor a "
                f"processed/{_PYG_PROCESSED[0]}"
            )
    make_folder(output.parent)
    check_replaceable(output)
    if from_dir is not None and raw is None:
        store = store_from_pyg(from_dir)
    else:
        store = store_from_raw(raw or download_qm9(progress=progress), on_molecule=on_molecule)
    store.save(output)
    names = ("train", "valid", "test")
    counts = [] if store.split is None else np.bincount(store.split, minlength=3).tolist()
    return QM9Report(
        output=output,
        molecules=len(store),
        excluded=TOTAL - len(store),
        splits=dict(zip(names, counts, strict=False)),
    )


def read_uncharacterized(path: Path, *, expected: int = UNCHARACTERISED) -> np.ndarray:
    """Return the numbers, counted from 1, of the molecules to leave out; int64, ascending.

    The lines are known by their form, not by their place: copies of the file differ in the blank
    lines of the header, and cutting fixed numbers of lines is how molecules go missing.

    Raises:
        UserError: the file is missing or does not list ``expected`` molecules.
    """
    openers = {".xz": lzma.open, ".gz": gzip.open}
    try:
        with openers.get(path.suffix, open)(path, "rt") as stream:
            matches = [found for line in stream if (found := _EXCLUDED_LINE.match(line))]
    except (OSError, UnicodeDecodeError, lzma.LZMAError) as error:
        raise UserError(
            f"cannot read {path}: {getattr(error, 'strerror', None) or error}"
        ) from None
    numbers = np.unique(np.array([int(found[1]) for found in matches], dtype=np.int64))
    if len(numbers) != expected or len(matches) != expected:
        raise UserError(f"{path} lists {len(matches)} molecules, expected {expected}")
    return numbers


def remaining_numbers(excluded: np.ndarray, *, total: int = TOTAL) -> np.ndarray:
    """Return the numbers 1..total that are not excluded; int64, ascending.

    Raises:
        ValueError: an excluded number lies outside 1..total (numbers counted from 0?).
    """
    if len(excluded) and not 1 <= excluded.min() <= excluded.max() <= total:
        raise ValueError(f"excluded numbers must lie in 1..{total}")
    return np.setdiff1d(np.arange(1, total + 1, dtype=np.int64), excluded)


def edm_split(count: int = REMAINING) -> np.ndarray:
    """Return EDM's split of the molecules that remain, in their order: int8 [count].

    0 train, 1 valid, 2 test: of NumPy's legacy permutation with seed 0 the first 100,000 train,
    the last 10 % (rounded down) test, and those between validate: 100,000 / 17,748 / 13,083.
    Another ``count`` keeps the proportions.
    """
    train = round(count * _TRAIN / REMAINING)
    permutation = np.random.RandomState(0).permutation(count)
    split = np.ones(count, dtype=np.int8)
    split[permutation[:train]] = 0
    split[permutation[count - int(_TEST_FRACTION * count) :]] = 2
    return split


def store_from_raw(
    folder: Path,
    *,
    total: int = TOTAL,
    excluded: int = UNCHARACTERISED,
    on_molecule: Callable[[int], None] | None = None,
) -> MoleculeStore:
    """Read `RAW_FILES` into a store with EDM's split, properties and ``qm9_index`` (from 1).

    The SMILES are those of the SDF's bonds; "" where these make no sense to RDKit.

    Raises:
        UserError: a file is missing, damaged, or not of QM9.
    """
    from molbfn.chem.files import read_molecules

    numbers = remaining_numbers(
        read_uncharacterized(folder / EXCLUDED, expected=excluded), total=total
    )
    wanted = np.zeros(total + 1, dtype=bool)
    wanted[numbers] = True
    builder = StoreBuilder()
    count = 0
    for count, record in enumerate(read_molecules(folder / SDF), start=1):
        if on_molecule:
            on_molecule(count)
        if count > total or not wanted[count]:
            continue
        if record.molecule is None:
            raise UserError(f"{folder / SDF}: record {count} is unreadable: {record.reason}")
        _check_title(record.molecule.title, count, folder / SDF)
        builder.add(record.molecule, smiles_of(record.molecule))
    if count != total:
        raise UserError(f"{folder / SDF} has {count} records, expected {total}; download it again")
    return dataclasses.replace(
        builder.build("qm9"),
        properties=_read_table(folder / TABLE, total)[numbers - 1],
        property_names=PROPERTY_NAMES,
        property_units=PROPERTY_UNITS,
        split=edm_split(len(numbers)),
        extras={"qm9_index": numbers.astype(np.int32)},
    )


def store_from_pyg(source: Path | Iterable[Any]) -> MoleculeStore:
    """Turn PyTorch Geometric's QM9 into a store.

    Args:
        source: the data set's root (with ``processed/data_v3.pt``), or the data set itself, or
            any iterable of its ``Data`` (``z`` [N], ``pos`` [N, 3] angstrom; bonds, ``idx``
            counted from 0, ``smiles``, ``name``, ``y`` [1, 19] are taken along where present).

    EDM's split is added where all 130,831 molecules are there, else there is none.

    Raises:
        UserError: no processed file, or it cannot be read.
    """
    from molbfn.chem.molecule import Molecule

    items = list(_load_processed(source) if isinstance(source, Path) else source)
    if not items:
        raise UserError(f"{source if isinstance(source, Path) else 'the data set'} is empty")
    builder = StoreBuilder()
    for data in items:
        molecule = Molecule.from_pyg(data)
        builder.add(molecule, _canonical(data.get("smiles") or "") or smiles_of(molecule))
    numbers = _all_of(items, "idx", lambda data: int(data.idx) + 1)
    values = _all_of(items, "y", lambda data: data.y.reshape(-1)[: len(PROPERTY_NAMES)].numpy())
    complete = len(items) == REMAINING and (numbers is None or bool(np.all(np.diff(numbers) > 0)))
    return dataclasses.replace(
        builder.build("qm9"),
        split=edm_split() if complete else None,
        properties=None if values is None else _pyg_units(np.stack(values)),
        property_names=PROPERTY_NAMES if values is not None else (),
        property_units=PROPERTY_UNITS if values is not None else (),
        extras={} if numbers is None else {"qm9_index": np.array(numbers, dtype=np.int32)},
    )


def _check_title(title: str, number: int, path: Path) -> None:
    """The titles are gdb_1, gdb_2, ...: proof that records and exclusions count alike."""
    found = re.fullmatch(r"gdb[_ ](\d+)", title.strip())
    if found and int(found[1]) != number:
        raise UserError(f"{path}: record {number} is '{title.strip()}'; the file is not in order")


def _read_table(path: Path, total: int) -> np.ndarray:
    """The twelve properties of all molecules in the table's units; float32 [total, 12]."""
    try:
        with path.open(newline="") as stream:
            rows = csv.DictReader(stream)
            missing = [name for name in _TABLE_COLUMNS if name not in (rows.fieldnames or ())]
            if missing:
                raise UserError(f"{path} has no column '{missing[0]}'")
            values = [[float(row[name]) for name in _TABLE_COLUMNS] for row in rows]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} holds something that is not a number: {error}") from None
    if len(values) != total:
        raise UserError(f"{path} has {len(values)} rows, expected {total}")
    return np.array(values, dtype=np.float32)


def _pyg_units(values: np.ndarray) -> np.ndarray:
    """PyTorch Geometric's energies from eV back to Hartree; float32 [M, 12]."""
    scale = np.array([_PYG_HARTREE if unit == "Hartree" else 1.0 for unit in PROPERTY_UNITS])
    return (values / scale).astype(np.float32)


def _all_of(items: list[Any], key: str, read: Callable[[Any], Any]) -> list[Any] | None:
    if any(data.get(key) is None for data in items):
        return None
    return [read(data) for data in items]


def _canonical(smiles: str) -> str:
    """PyTorch Geometric's SMILES spell out each H; return the usual form, "" where RDKit fails."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles) if smiles else None
        return "" if molecule is None else Chem.MolToSmiles(molecule, isomericSmiles=False)


def _has_raw(folder: Path) -> bool:
    return all((folder / name).is_file() for name in RAW_FILES)


def _processed_file(root: Path) -> Path | None:
    candidates = (root / "processed" / name for name in _PYG_PROCESSED)
    return next((path for path in candidates if path.is_file()), None)


def _load_processed(root: Path) -> Iterable[Any]:
    """The data set of a root, without the download that its own class would start."""
    path = _processed_file(root)
    if path is None:
        raise UserError(f"{root} has no processed/{_PYG_PROCESSED[0]}")
    import torch
    from torch_geometric.data import Data, InMemoryDataset

    try:
        stored, slices = torch.load(path, weights_only=True)[:2]
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot read {path}: {reason}") from None
    dataset = InMemoryDataset()
    dataset.data = Data.from_dict(stored) if isinstance(stored, dict) else stored
    dataset.slices = slices
    return dataset
