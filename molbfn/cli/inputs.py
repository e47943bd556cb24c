"""What a command reads, as the user named it: files, folders, data sets."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path


def located(names: Sequence[str | None]) -> list[Path]:
    """Return the files and folders of names; None, for an option not given, is left out.

    A data set's bare name is the data set, here as in training; where a file or folder has that
    name too, a line on stderr says that it is passed over.

    Raises:
        UserError: the data set is not on this machine.
    """
    from molbfn.data.locate import is_dataset_name, resolve_dataset

    found = []
    for name in names:
        if name is None:
            continue
        if not is_dataset_name(name):
            found.append(Path(name))
            continue
        found.append(resolve_dataset(name))
        if Path(name).exists():
            print(
                f"molbfn: {name} is the data set {found[-1]}; what has that name here is ./{name}",
                file=sys.stderr,
            )
    return found
