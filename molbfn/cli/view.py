"""`molbfn view`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molbfn.cli.progress import ProgressBar


def view(
    file: Annotated[Path, typer.Argument(help="SDF, XYZ, npz or pickle file.")],
    n: Annotated[int, typer.Option("-n", "--number", help="Molecules shown one by one.")] = 1000,
) -> None:
    """Look at a file of molecules in the browser."""
    import tempfile
    import webbrowser

    from molbfn.report.page import ReportOptions, write_report

    # stays behind: the browser reads it after this command has ended
    folder = Path(tempfile.mkdtemp(prefix="molbfn-view-"))
    try:
        with ProgressBar("reading") as bar:
            page = write_report(
                [file],
                folder / f"{file.name}.html",
                options=ReportOptions(shown=n),
                progress=lambda label, done, total: bar.update(
                    done, f"{done:,} molecules", total=total, label=label
                ),
            )
    except BaseException:
        folder.rmdir()
        raise
    opened = webbrowser.open(page.as_uri())
    print(page if opened else f"{page}: no browser found here; open this file in one")
