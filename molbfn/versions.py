"""Versions of installed packages."""

from __future__ import annotations

import importlib.metadata


def installed_version(package: str) -> str | None:
    """Return the version of an installed package, or None (also for a folder on the path)."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
