"""Options of the slow protocols, the same for all commands that run them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molbfn.errors import UserError

if TYPE_CHECKING:
    from molbfn.evaluation import Settings

PhysicsSample = Annotated[
    int | None,
    typer.Option(help="Molecules that physics looks at, 0 for all [default: 200]."),
]
PoseBustersSample = Annotated[
    int | None,
    typer.Option(help="Molecules that posebusters looks at, 0 for all [default: 100]."),
]
AgreementSample = Annotated[
    int | None,
    typer.Option(help="Molecules that agreement looks at, 0 for all [default: 500]."),
]
SimilaritySample = Annotated[
    int | None,
    typer.Option(help="Molecules that similarity looks at, 0 for all [default: 1000]."),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        help="Keep the results of slow protocols (agreement, posebusters, physics) here, to go on "
        "with them."
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        help="Seconds for a molecule in a slow protocol; then it has failed [default: 60]."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(help="Processes of the slow protocols [default: one per core]."),
]


def samples(**sizes: int | None) -> dict[str, int | None]:
    """Return the samples that were asked for; 0 stands for all molecules.

    Raises:
        UserError: a negative one.
    """
    for name, size in sizes.items():
        if size is not None and size < 0:
            raise UserError(f"--{name}-sample {size}: must not be negative (0 is all molecules)")
    return {name: size or None for name, size in sizes.items() if size is not None}


def settings(
    timeout: float | None, workers: int | None, cache: Path | None, *, protocols: Sequence[str]
) -> Settings:
    """Return how the slow protocols are run.

    Args:
        timeout, workers, cache: as the user gave them; None: the default.
        protocols: those asked for.

    Raises:
        UserError: a number out of range, or an option that no protocol asked for heeds.
    """
    from molbfn.evaluation import Settings
    from molbfn.evaluation.registry import IN_PROCESSES, PROTOCOLS
    from molbfn.evaluation.sampled import usable_cores

    if timeout is not None and not 0 < timeout < math.inf:
        raise UserError(f"--timeout {timeout:g}: must be above 0 seconds, and finite")
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: must be at least 1")
    given = {"--timeout": timeout, "--workers": workers, "--cache": cache}
    known = set(protocols) <= set(PROTOCOLS)  # others are refused later, by name
    if known and not set(IN_PROCESSES) & set(protocols):
        for option, value in given.items():
            if value is not None:
                raise UserError(
                    f"{option}: counts with the protocols {', '.join(IN_PROCESSES)} only, and none "
                    f"of them runs; add one to --protocol or leave the option out"
                )
    found = Settings(workers=workers or usable_cores(), cache=cache)
    return found if timeout is None else replace(found, timeout=timeout)
