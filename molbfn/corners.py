"""Corners of a time grid as they are written on a command line."""

from __future__ import annotations

from bfn_core import piecewise_grid

Corners = tuple[tuple[float, float], ...]
"""(share of the steps, time), both rising strictly between 0 and 1; none: even steps."""


def read_corners(text: str) -> Corners:
    """Read ``SHARE:TIME+SHARE:TIME...``: ``0.85:0.6`` is 85 % of the steps up to t = 0.6.

    Raises:
        ValueError: not of that form, or corners that do not rise.
    """
    pairs = [corner.split(":") for corner in text.split("+")]
    corners = tuple((float(share), float(time)) for share, time in pairs)
    piecewise_grid(1, corners)
    return corners
