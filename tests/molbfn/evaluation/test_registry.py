"""Protocols by name, and those whose packages are missing."""

from __future__ import annotations

import importlib.util

import pytest

from molbfn.errors import UserError
from molbfn.evaluation.registry import (
    DEFAULT_SAMPLES,
    PROTOCOLS,
    chosen_protocols,
    open_protocol,
)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch):
    """Pretend that a package is not installed."""
    real = importlib.util.find_spec

    def hide(package: str) -> None:
        monkeypatch.setattr(
            "importlib.util.find_spec", lambda name, *a: None if name == package else real(name, *a)
        )

    return hide


def test_every_protocol_opens_empty():
    for name in PROTOCOLS:
        protocol = open_protocol(name, DEFAULT_SAMPLES, None, seed=0)
        assert hasattr(protocol, "add"), name


def test_names_once_each_in_the_order_given():
    assert chosen_protocols(["bonds", "edm", "bonds"]) == (["bonds", "edm"], {})
    assert set(DEFAULT_SAMPLES) < set(PROTOCOLS)


def test_all_skips_what_is_missing_and_says_why(without):
    without("tblite")
    names, skipped = chosen_protocols(["all"])
    assert names == [name for name in PROTOCOLS if name != "physics"]
    assert skipped == {"physics": "needs tblite: pip install 'molbfn[eval]'"}


def test_asked_for_by_name_is_refused(without):
    without("posebusters")
    for names in (["posebusters"], ["all", "posebusters"]):
        with pytest.raises(UserError, match=r"protocol posebusters needs posebusters: pip install"):
            chosen_protocols(names)


@pytest.mark.parametrize(
    ("names", "message"),
    [(["physic"], "unknown protocol 'physic'; did you mean 'physics'"), ([], "no protocol given")],
)
def test_wrong_names(names: list[str], message: str):
    with pytest.raises(UserError, match=message):
        chosen_protocols(names)
