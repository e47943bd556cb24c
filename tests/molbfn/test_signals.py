"""Requests to stop: taken once, given back, and left alone where they are ignored."""

from __future__ import annotations

import os
import signal

import pytest

from molbfn.signals import StopSignals

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
ENDS = (signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _as_in_a_shell():
    before = {number: signal.signal(number, signal.SIG_DFL) for number in ENDS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_stop_signals_are_given_back():
    signals = StopSignals()
    signals.install()
    assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    signals.restore()
    signals.restore()
    assert [signal.getsignal(number) for number in ENDS] == [signal.SIG_DFL] * 2
    assert not signals.received


def test_another_signal_than_the_first_is_the_same_request():
    """A session that is closed sends SIGHUP right after SIGTERM."""
    signals = StopSignals()
    signals.install()
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGHUP)
    assert signals.received
    signals.restore()
    assert [signal.getsignal(number) for number in ENDS] == [signal.SIG_DFL] * 2


def test_what_nohup_ignores_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals = StopSignals()
    signals.install()
    os.kill(os.getpid(), signal.SIGHUP)
    assert not signals.received
    signals.restore()
    with StopSignals().as_ctrl_c():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_as_ctrl_c_interrupts_once():
    """What is tidied up after the first is not interrupted by the next."""
    done = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGHUP)
            done.append(True)

    with pytest.raises(KeyboardInterrupt), StopSignals().as_ctrl_c():
        work()
    assert done
    assert [signal.getsignal(number) for number in ENDS] == [signal.SIG_DFL] * 2


def test_handlers_of_the_caller_stay():
    heard = []
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    with StopSignals().as_ctrl_c():
        os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGTERM]
