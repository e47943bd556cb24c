"""Several processes of a run: what is said when one dies."""

from __future__ import annotations

import logging
import os

import torch

from molbfn.training import processes


def test_errors_of_the_connection_are_told_from_others():
    closed = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer"
    assert processes.is_of_another(RuntimeError(closed))
    assert processes.is_of_another(torch.distributed.DistNetworkError("reset"))
    assert not processes.is_of_another(RuntimeError("shapes do not fit"))
    assert not processes.is_of_another(ValueError("gloo"))


def test_one_line_when_lightning_finds_a_process_dead(caplog):
    told = []
    observer = logging.getLogger(processes._OBSERVER)
    before = observer.level, observer.propagate, list(observer.handlers)
    with processes.starting(2, tell=told.append):
        observer.info("[rank: 1] Child process with PID 7 terminated with code -9. Forcefully ...")
        observer.info("something else")
    assert told == [processes.ended(2)]
    assert not caplog.records
    assert (observer.level, observer.propagate, list(observer.handlers)) == before


def test_processes_that_are_started_know_by_whom(monkeypatch):
    assert processes.parent_of_run() is None
    with processes.starting(2, tell=print):
        assert processes.parent_of_run() is None  # it is this one
        monkeypatch.setattr(os, "getpid", lambda: -1)  # as in another
        assert processes.parent_of_run() not in (None, -1)
        monkeypatch.undo()
    assert processes._STARTED_BY not in os.environ
    with processes.starting(1, tell=print):
        assert processes._STARTED_BY not in os.environ
