"""What `molbfn train` and `molbfn bench train` share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molbfn.errors import UserError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from molbfn.training.run import TrainingResult

Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on from the run folder's last checkpoint, if there is one."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key: --set training.steps=500 (repeatable)."),
]
PrintConfig = Annotated[
    bool,
    typer.Option(
        "--print-config",
        help="Print the config with all keys, explained, and stop: a file to start from.",
    ),
]
Devices = Annotated[int, typer.Option(min=1, help="Devices or processes per node.")]
Nodes = Annotated[int, typer.Option(min=1, help="Machines.")]
Profile = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Profile so many steps, after some to warm up: where their time goes, into the run "
        "folder.",
    ),
]

OUT_OF_TIME = 75
"""Exit code of a training that stopped at ``training.minutes``: that of a temporary failure."""


def show_config(config: BaseModel) -> None:
    """Print a config in full."""
    from molbfn.config_text import config_text

    print(config_text(config), end="")


def check_config_file(path: Path, *, devices: int) -> None:
    """Refuse a config that can be read once only where several processes will read it.

    Raises:
        UserError: a pipe, such as ``<(...)``.
    """
    if devices > 1 and path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(
            f"{path}: a pipe, which the other processes of --devices {devices} cannot read again; "
            f"give a file"
        )


def tell_result(result: TrainingResult, folder: Path, *, steps: int, unit: str) -> None:
    """Print how far a run came and what its losses are; exit where it was interrupted.

    Args:
        result: of the run; another process than its first says nothing.
        folder: run folder.
        steps: those that were to be taken.
        unit: of the losses.
    """
    code = OUT_OF_TIME if result.out_of_time else 130 if result.interrupted else 0
    if not result.first:
        raise typer.Exit(code)
    print(f"{folder}: {result.steps} of {steps} steps")
    older = result.validated is not None and result.validated != result.steps
    for name, when in (
        ("valid/loss", f" at step {result.validated}" if older else ""),
        ("train/loss", ""),
    ):
        if name in result.metrics:
            print(f"  {name}: {result.metrics[name]:.5f} {unit}{when}")
    if result.interrupted:
        print("molbfn: the same command with --resume goes on from here", file=sys.stderr)
        raise typer.Exit(code)
