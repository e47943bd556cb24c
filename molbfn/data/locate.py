"""Where the data sets that have a name lie on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from molbfn.errors import UserError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]
_REPOSITORY = _PACKAGE.parent

#: name -> (path below a data folder, how a user gets it)
_KNOWN = {
    "demo": ("demo.npz", "run 'python scripts/make_demo_data.py' in a clone of the repository"),
    "qm9": ("qm9/qm9.npz", "run 'molbfn data qm9' or set MOLBFN_DATA to the folder above qm9/"),
}


def cache_dir() -> Path:
    """Return the user's cache folder of molbfn (not created)."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("molbfn"))


def data_dirs() -> Iterator[Path]:
    """Yield the folders that may hold named data sets, first one first.

    ``./data``, ``$MOLBFN_DATA``, the clone's ``data`` and ``../shared/data``, the folder shipped
    inside an installed wheel, and the user's cache, which ``molbfn data qm9`` fills.
    """
    yield Path.cwd() / "data"
    if os.environ.get("MOLBFN_DATA"):
        yield Path(os.environ["MOLBFN_DATA"])
    yield _REPOSITORY / "data"
    yield _REPOSITORY.parent / "shared" / "data"
    yield _PACKAGE / "demo"
    yield cache_dir()


def available_datasets() -> dict[str, Path]:
    """Return name -> file of the named data sets that exist here."""
    found: dict[str, Path] = {}
    for folder in data_dirs():
        for name, (below, _) in _KNOWN.items():
            if name not in found and (folder / below).is_file():
                found[name] = folder / below
    return found


def is_dataset_name(text: object) -> bool:
    """Whether it is the bare name of a data set; "./qm9" and any `Path` are paths."""
    return isinstance(text, str) and text in _KNOWN


def resolve_dataset(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the file of a named data set ("demo", "qm9") or of a path that exists.

    The bare name of a data set never means a file or folder here, "./qm9" does.

    Raises:
        UserError: there is no such file or name; names those that exist and the nearest.
    """
    path = Path(name_or_path)
    if path.is_file() and not is_dataset_name(name_or_path):
        return path
    name = os.fspath(name_or_path)
    found = available_datasets()
    if name in found:
        return found[name]
    if name in _KNOWN:
        here = f"; ./{name} would be what has this name here" if path.exists() else ""
        raise UserError(f"data set '{name}' is not on this machine: {_KNOWN[name][1]}{here}")
    if path.is_dir():
        raise UserError(
            f"{name} is a folder: make one file of it with 'molbfn data prepare {name}'"
        )
    if path.suffix or len(path.parts) > 1:
        hint = f"; 'molbfn data prepare FILES -o {name}' makes one" if path.suffix == ".npz" else ""
        raise UserError(f"no such data file: {name}{hint}")
    listed = ", ".join(found) if found else "none"
    raise UserError(
        f"no data set '{name}';{nearest(name, _KNOWN)} data sets here: {listed} (or give a path)"
    )
