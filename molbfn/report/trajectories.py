"""Trajectories of a file's molecules, for the player of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from molbfn.chem.bonds import bond_list, bond_orders, pairs_in_table
from molbfn.chem.molecule import Molecule
from molbfn.chem.perception import fall_back
from molbfn.chem.trajectory import Frame, read_trajectories, trajectory_path
from molbfn.errors import UserError
from molbfn.report.collect import Card
from molbfn.report.pack import whole

_ROUNDING = 2e-3  # angstrom; files hold 4 decimals or more


def pack_trajectories(
    path: Path, cards: Sequence[Card], file: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the trajectories that lie beside a file, and what to note of them.

    Only those of molecules on show whose last frame is the molecule in the file: a trajectory may
    be left over from an earlier file of the same name.
    """
    source = trajectory_path(path)
    if not source.is_file():
        return [], []
    try:
        found = read_trajectories(source)
    except UserError as error:
        return [], [f"Trajectories are not shown: {error}"]
    by_index = {
        card.numbers["index"]: card
        for card in cards
        if card.molecule is not None and "index" in card.numbers
    }
    packed, foreign = [], 0
    for index, frames in found.items():
        card = by_index.get(index)
        if card is None or card.molecule is None:
            continue
        if not _same(frames[-1].molecule, card.molecule):
            foreign += 1
            continue
        packed.append(_pack(frames, file, card))
    notes = [f"{foreign} trajectories of {source.name} end in other molecules than those of this "
             "file and are not shown"] if foreign else []  # fmt: skip
    return packed, notes


def _same(first: Molecule, second: Molecule) -> bool:
    return np.array_equal(first.atomic_numbers, second.atomic_numbers) and bool(
        np.allclose(first.positions, second.positions, atol=_ROUNDING)
    )


def _pack(frames: Sequence[Frame], file: int, card: Card) -> dict[str, Any]:
    """Return ``f`` file, ``i`` record, ``t`` title, ``calls`` and the frames.

    A frame is ``n`` call, ``t`` time, ``z``, ``x`` and ``b`` as in a card; bonds by distance.
    """
    assert card.molecule is not None
    return {
        "f": file,
        "i": card.record,
        "t": card.molecule.title,
        "calls": frames[-1].calls,
        "frames": [
            {
                "n": frame.call,
                "t": round(frame.t, 4),
                "z": frame.molecule.atomic_numbers.tolist(),
                "x": whole(frame.molecule.positions, 1000),
                "b": _bonds(frame.molecule),
            }
            for frame in frames
        ],
    }


def _bonds(molecule: Molecule) -> list[int]:
    if pairs_in_table(molecule.atomic_numbers).all():
        return bond_list(bond_orders(molecule.atomic_numbers, molecule.positions)).ravel().tolist()
    guessed = fall_back(molecule, "failed", "").molecule
    assert guessed.bonds is not None
    return guessed.bonds.ravel().tolist()
