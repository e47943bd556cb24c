"""Every word of the help texts reaches the reader."""

from __future__ import annotations

import typer
from typer.testing import CliRunner

from molbfn.cli import app


def commands(command, path=()):
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))
    else:
        yield path, command


def words(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


def test_help_shows_each_text_whole(monkeypatch):
    """Square brackets, the defaults in words among them, vanish in Rich's own markup."""
    monkeypatch.setenv("COLUMNS", "400")
    checked = 0
    for path, command in commands(typer.main.get_command(app)):
        shown = words(CliRunner().invoke(app, [*path, "--help"]).output)
        for parameter in command.params:
            text = getattr(parameter, "help", None)
            if text:
                assert words(text) in shown, (path, parameter.name)
                checked += "[default: " in text
    assert checked > 10
