"""Grids of drawings as a PNG image."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from molbfn.atomic import replacing
from molbfn.errors import UserError
from molbfn.report.collect import Card, collect

if TYPE_CHECKING:
    from rdkit import Chem

DEFAULT_MOLECULES = 30
DEFAULT_COLUMNS = 6
MAX_MOLECULES = 1000
_PANEL = (300, 260)  # pixels
_LEGEND_WIDTH = 42  # characters
_LEGEND_LINES = 3
_BAD = (0.96, 0.73, 0.68)


def draw_grid(
    file: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    n: int = DEFAULT_MOLECULES,
    columns: int = DEFAULT_COLUMNS,
) -> int:
    """Draw the first records of a file into a PNG, also those that fail, with the reason.

    Returns:
        how many were drawn.

    Raises:
        UserError: the file cannot be read, a number is out of range, or the output cannot be
            written.
    """
    output = Path(output)
    if not 1 <= n <= MAX_MOLECULES:
        raise UserError(f"-n {n}: must lie between 1 and {MAX_MOLECULES}")
    if not 1 <= columns <= 50:
        raise UserError(f"--columns {columns}: must lie between 1 and 50")
    if output.suffix.lower() != ".png":
        raise UserError(f"{output}: draws PNG images; the name must end in .png")
    if not output.parent.is_dir():
        raise UserError(f"{output}: the folder {output.parent} does not exist; make it first")
    cards = list(collect(Path(file), n))
    with replacing(output) as stream:
        stream.write(_png(cards, min(columns, len(cards))))
    return len(cards)


def _png(cards: list[Card], columns: int) -> bytes:
    from rdkit.Chem.Draw import rdMolDraw2D

    width, height = _PANEL
    rows = -(-len(cards) // columns)
    drawer = rdMolDraw2D.MolDraw2DCairo(columns * width, rows * height, width, height)
    options = drawer.drawOptions()
    options.prepareMolsBeforeDrawing = False
    options.legendFontSize = 15
    options.legendFraction = 0.24
    options.addAtomIndices = False
    options.setHighlightColour(_BAD)
    molecules, highlights = [], []
    for card in cards:
        drawing = card.depiction
        molecules.append(_words(card) if drawing is None else drawing.mol)
        marked = tuple(a for reason in card.main.reasons for a in reason.atoms)
        highlights.append([] if drawing is None else drawing.shown(marked))
    drawer.DrawMolecules(
        molecules, legends=[_legend(card) for card in cards], highlightAtoms=highlights
    )
    drawer.FinishDrawing()
    return drawer.GetDrawingText()


def _words(card: Card) -> Chem.Mol:
    """Return an atom whose label says why there is no drawing."""
    from rdkit import Chem

    mol = Chem.MolFromSmiles("*")
    mol.GetAtomWithIdx(0).SetProp(
        "atomLabel", "no molecule" if card.molecule is None else "too large to draw"
    )
    return mol


def _legend(card: Card) -> str:
    """Return title and formula, and for one that fails the first reason."""
    name = f"record {card.record}"
    if card.molecule is not None:
        name = f"{card.molecule.title or name}  {card.formula}".strip()
    lines = textwrap.wrap(name, _LEGEND_WIDTH)[:1]
    if card.main.reasons:
        first = card.main.reasons[0]
        text = first.text if card.molecule is not None else first.kind
        lines += textwrap.wrap(text, _LEGEND_WIDTH)
    return "\n".join(lines[:_LEGEND_LINES])
