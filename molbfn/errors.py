"""The one exception for a user's mistake."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable


class UserError(Exception):
    """A mistake the user can mend: the message is one line that names the thing and the fix.

    The command line prints the message without a traceback and exits with code 2.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` did you mean 'x'?`` for the closest known name, or an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" did you mean '{matches[0]}'?" if matches else ""


def run_script(main: Callable[[], None]) -> None:
    """Run the main function of a script; a user's mistake ends it with one line."""
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
