"""RDKit molecules in pickle files, as GEOM is published, without running what is in them.

Loading a pickle may run any code, and GEOM-Drugs' files of several gigabytes do not fit into the
memory of many machines.  So the file is only walked through, operation by operation: what RDKit
wrote of a molecule is a string of bytes that begins with its mark, wherever it stands (lists,
tuples, dictionaries).  RDKit reads that string, in a process of its own (`_pickle_worker`), for a
damaged one can end it.  Everything else is passed over.
"""

from __future__ import annotations

import os
import pickletools
import struct
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from molbfn.chem import _pickle_worker
from molbfn.chem._worker import frame
from molbfn.chem.molecule import Molecule
from molbfn.chem.records import (
    MAX_RECORD_BYTES,
    RecordError,
    check_coordinates,
    check_size,
    one_line,
)
from molbfn.chem.workers import WorkerPool

_MARK = b"\xef\xbe\xad\xde"  # 0xDEADBEEF, with which RDKit's own format begins
_WORKERS = 4  # about what one reader of the file keeps busy
_TIMEOUT = 30.0  # seconds for one molecule and all of its conformers


def read_pickled(path: Path) -> Iterator[Molecule | str]:
    """Yield each conformer of each molecule in the file, or the reason why there is none.

    A molecule without conformers is one such reason.  One that stands at several places in the
    file as the same object comes once.

    Raises:
        OSError: the file cannot be read.
    """
    command = _pickle_worker.command(alarm=2 * _TIMEOUT)
    workers = max(1, min(_WORKERS, (os.cpu_count() or 1) - 1))
    with (
        path.open("rb") as stream,
        WorkerPool(command, workers=workers, timeout=_TIMEOUT, name="RDKit") as pool,
    ):

        def read(data: bytes | str) -> list[Molecule | str]:
            return [data] if isinstance(data, str) else _conformers(pool, data)

        for found in pool.map(read, _marked(stream)):
            yield from found


def _marked(stream: BufferedReader) -> Iterator[bytes | str]:
    """Yield the byte strings that begin with RDKit's mark; at the end, what is wrong.

    A ``PropertyMol`` holds its string twice, as the argument of its making and in its state: of two
    equal ones in a row, in a pickle that names that class, the second is left out (also where a
    file mixes that class with others, and repeats one of those).
    """
    text_mark = _MARK.decode("latin-1")
    try:
        while stream.peek(1):  # a file may hold several pickles, one after the other
            twice, last = False, b""
            for _, argument, _ in pickletools.genops(stream):
                if isinstance(argument, str) and argument.startswith("rdkit.Chem.PropertyMol"):
                    twice = True
                # Python 3's older protocols, and Python 2, keep bytes as text of the same numbers.
                if isinstance(argument, str) and argument.startswith(text_mark):
                    argument = argument.encode("latin-1")
                if isinstance(argument, bytes | bytearray) and argument.startswith(_MARK):
                    if twice and argument == last:
                        last = b""
                        continue
                    last = bytes(argument)
                    yield last
    except (ValueError, OverflowError, MemoryError, struct.error) as error:
        yield f"not a pickle, or damaged from here on ({one_line(error)})"


def _conformers(pool: WorkerPool, data: bytes) -> list[Molecule | str]:
    if len(data) > MAX_RECORD_BYTES:
        return [f"larger than {MAX_RECORD_BYTES >> 20} MiB; not read"]
    answer = pool.ask(frame(data))
    if answer.status != "ok":
        return [f"RDKit cannot read it: {answer.reason}"]
    return [_molecule(fields) for fields in answer.record["conformers"]]


def _molecule(fields: dict[str, Any]) -> Molecule | str:
    if "error" in fields:
        return str(fields["error"])
    positions = np.array(fields["positions"], dtype=np.float64).reshape(-1, 3)
    try:
        check_size(len(positions), 0)
        check_coordinates(positions.ravel().tolist(), 0)
    except RecordError as error:
        return str(error)
    return Molecule(
        atomic_numbers=np.array(fields["atomic_numbers"], dtype=np.int64),
        positions=positions.astype(np.float32),
        formal_charges=np.array(fields["formal_charges"], dtype=np.int64),
        bonds=np.array(fields["bonds"], dtype=np.int64).reshape(-1, 3),
        title=fields["title"],
        properties=fields["properties"],
    )
