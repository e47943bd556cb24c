"""Molecules to look at: an HTML report, and grids of drawings."""

from __future__ import annotations

from molbfn.report.draw import draw_grid
from molbfn.report.page import write_report

__all__ = ["draw_grid", "write_report"]
