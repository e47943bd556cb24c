"""The command as a whole: usage errors, exit codes."""

import errno
import io
import sys

import pytest

from molbfn.cli import doctor, main
from molbfn.errors import UserError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "-n", "many"], r"Invalid value for '-n'.*see 'molbfn generate --help'"),
        (["generate", "--foo"], r"No such option: --foo.*see 'molbfn generate --help'"),
        (["generate", "--steps"], r"requires an argument"),
        (["generate", "extra"], r"unexpected extra argument.*\(extra\)"),
        (["data", "prepare"], r"Missing argument.*see 'molbfn data prepare --help'"),
        (["data", "prepare", "a.sdf"], r"Missing option '--output'"),
        (["evaluate"], r"Missing argument"),
        (["train"], r"Missing argument"),
        (["train", "a.yaml", "--devices", "0"], r"Invalid value for '--devices'"),
        (["generat"], r"No such command 'generat'. Did you mean 'generate'\? see 'molbfn --help'"),
        (["--foo"], r"No such option: --foo.*see 'molbfn --help'"),
    ],
)
def test_a_wrong_command_line_is_one_line(refused, arguments, message):
    import re

    assert re.search(message, refused(*arguments))


@pytest.mark.parametrize("arguments", [[], ["data"]])
def test_no_command_prints_the_help(molbfn, arguments):
    result = molbfn(*arguments)
    assert "Usage: molbfn" in result.out + result.err


def test_help_and_version(molbfn):
    result = molbfn("--help")
    assert result.code == 0
    assert all(name in result.out for name in ("generate", "train", "evaluate", "data", "doctor"))
    result = molbfn("--version")
    assert result.code == 0
    assert result.out.startswith("molbfn ")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("a.sdf: wrong;\n  mend it"), 2, "molbfn: a.sdf: wrong; mend it\n"),
        (OSError(errno.EACCES, "Permission denied", "a.json"), 2, "molbfn: a.json: Permission "),
        (KeyboardInterrupt(), 130, "molbfn: interrupted\n"),
    ],
)
def test_errors_become_one_line_and_a_code(molbfn, monkeypatch, error, code, message):
    def fail():
        raise error

    monkeypatch.setattr(doctor, "_versions", fail)
    result = molbfn("doctor")
    assert result.code == code
    assert result.err.startswith(message)
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("a bug"), OSError("a bug")])
def test_bugs_keep_their_traceback(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(doctor, "_versions", fail)
    with pytest.raises(type(error), match="a bug"):
        main(["doctor"])


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_signs_that_the_terminal_lacks_are_replaced(monkeypatch, errors):
    printed = io.BytesIO()
    stream = io.TextIOWrapper(printed, encoding="cp1252", errors=errors)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(doctor, "_versions", lambda: ["\u0394E \u00b1"])
    assert main(["doctor"]) == 0
    stream.flush()
    assert "?E \u00b1" in printed.getvalue().decode("cp1252")


def test_file_names_of_odd_bytes_are_printed_as_they_are(monkeypatch):
    printed = io.BytesIO()
    stream = io.TextIOWrapper(printed, encoding="utf-8", errors="surrogateescape")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(doctor, "_versions", lambda: [b"a\xff".decode(errors="surrogateescape")])
    assert main(["doctor"]) == 0
    stream.flush()
    assert b"a\xff" in printed.getvalue()
