"""The `molbfn` command: parse, call one function, print.

Commands import what they need when they run, so that `molbfn --help` answers at once.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from molbfn.cli import (
    bench,
    compare,
    data,
    doctor,
    draw,
    evaluate,
    generate,
    report,
    train,
    view,
)
from molbfn.errors import UserError


def _print_version(wanted: bool) -> None:
    if wanted:
        from molbfn.versions import installed_version

        print(f"molbfn {installed_version('molbfn') or '(not installed)'}")
        raise typer.Exit


app = typer.Typer(
    name="molbfn",
    help="3D molecules from Bayesian Flow Networks: train, generate, evaluate.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # in "rich" mode brackets vanish from the help texts
    pretty_exceptions_enable=False,
)
app.command("generate")(generate.generate)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("view")(view.view)
app.command("draw")(draw.draw)
app.add_typer(data.app, name="data")
app.add_typer(bench.app, name="bench")
app.command("doctor")(doctor.doctor)


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


_MISTAKE, _INTERRUPTED = 2, 130

# What a wrong command line raises.  typer carries its own click since 0.26 and imports another
# before, so the class is taken from what typer exports.
_CommandLineError = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    A user's mistake is one line on stderr and exit code 2; Ctrl-C is exit code 130. Records that
    could not be read make it 3 (`molbfn.cli.problems`), after the work is done.

    Args:
        arguments: those of the process by default.
    """
    _print_what_can_be()
    command = typer.main.get_command(app)
    try:
        code = command.main(
            args=None if arguments is None else list(arguments),
            prog_name="molbfn",
            standalone_mode=False,
        )
    except UserError as error:
        return _fail(str(error))
    except _CommandLineError as error:
        return _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except OSError as error:
        if error.filename is None:
            raise
        return _fail(f"{error.filename}: {error.strerror}")
    if code == _INTERRUPTED:
        print("molbfn: interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _print_what_can_be() -> None:
    """Let signs that a stream's encoding lacks become "?", in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        # With UTF-8 "surrogateescape" prints all, file names of odd bytes as they are.
        narrow = not stream.encoding.lower().startswith("utf")
        if stream.errors == "strict" or (stream.errors == "surrogateescape" and narrow):
            stream.reconfigure(errors="replace")


def _fail(message: str) -> int:
    print(f"molbfn: {' '.join(message.split())}", file=sys.stderr)
    return _MISTAKE


def _usage(error: Exception) -> int:
    """Print what is wrong with the command line, in one line that names the command's help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()  # type: ignore[attr-defined]  the help itself
        return _MISTAKE
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "molbfn"
    message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
    stop = "" if message.endswith("?") else ";"
    return _fail(f"{message}{stop} see '{command} --help'")
