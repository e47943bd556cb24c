"""The `molbfn` command: parse, call one function, print.

Commands import what they need when they run, so that `molbfn --help` answers at once.
"""

from __future__ import annotations

import sys

import typer

from molbfn.cli import data, doctor, evaluate, generate, train
from molbfn.errors import UserError

app = typer.Typer(
    name="molbfn",
    help="3D molecules from Bayesian Flow Networks: train, generate, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("generate")(generate.generate)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command line: a user's mistake is one line on stderr and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"molbfn: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("molbfn: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(141) from None
