"""Progress on stderr: a bar on a terminal, a few plain lines where there is none."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class ProgressBar:
    """A context manager that shows how much of something is done.

    Args:
        label: what is going on.
        total: of the counts given to :meth:`update`; None where it is not known.
        plain: without a terminal, print a line at each tenth of the total.
    """

    def __init__(self, label: str, *, total: float | None = None, plain: bool = False) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        from molbfn.console import stderr_console

        self._console = stderr_console()
        self._plain = plain and not self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(label, total=total, text="")
        self._tenths = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(
        self, done: float, text: str, *, total: float | None = None, label: str | None = None
    ) -> None:
        """Show ``done`` of ``total`` (the last one given), with a text beside the bar."""
        total = self._bar.tasks[self._task].total if total is None else total
        self._bar.update(self._task, completed=done, total=total, text=text, description=label)
        tenths = int(10 * done / total + 1e-9) if total else 0
        if self._plain and tenths > self._tenths:
            self._tenths = tenths
            self._console.print(f"{10 * tenths} %  {text}", soft_wrap=True, markup=False)
