"""A pool of killable processes: order, hangs, deaths, and what does not start."""

from __future__ import annotations

import json
import struct
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from molbfn.chem.workers import Answer, WorkerPool

ROOT = Path(__file__).resolve().parents[3]


def command(folder: Path, body: str) -> list[str]:
    """A worker that answers with what ``body`` makes of the number in the request."""
    text = f"""
        import os, struct, sys, time
        sys.path.insert(0, {str(ROOT)!r})
        from molbfn.chem._worker import serve

        def read(stream):
            data = stream.read(4)
            return struct.unpack("<i", data) if data else None

        def answer(number):
            {body}

        serve(answer, read=read)
        """
    script = folder / "worker.py"
    script.write_text(textwrap.dedent(text))
    return [sys.executable, str(script)]


def number(value: int) -> bytes:
    return struct.pack("<i", value)


def test_answers_keep_their_order_and_errors_their_text(tmp_path: Path) -> None:
    body = "time.sleep(0.01 * (number % 3)); return {'half': 6 // number}"
    with WorkerPool(command(tmp_path, body), workers=2) as pool:
        answers = list(pool.map(lambda k: pool.ask(number(k)), [1, 2, 3, 0, 6]))
    assert [a.record.get("half") for a in answers] == [6, 3, 2, None, 1]
    assert answers[3].status == "failed"
    assert "ZeroDivisionError" in answers[3].reason


def test_a_hang_and_a_death_cost_one_answer_each(tmp_path: Path) -> None:
    body = "time.sleep(60 * (number == 1)); os._exit(3) if number == 2 else None; return {}"
    pool = WorkerPool(command(tmp_path, body), timeout=0.5, name="Bob")
    with pool:
        pool.ask(number(0))
        start = time.monotonic()
        statuses = [pool.ask(number(k)) for k in (0, 1, 0, 2, 0)]
    assert [a.status for a in statuses] == ["ok", "timeout", "ok", "died", "ok"]
    assert statuses[1].reason == "Bob took longer than 0.5 s"
    assert statuses[3].reason == "Bob's worker process ended (exit status 3)"
    assert time.monotonic() - start < 20


def test_what_does_not_start_is_unavailable() -> None:
    with WorkerPool([sys.executable, "-c", "raise SystemExit(1)"], name="Bob") as pool:
        answer = pool.ask(b"")
    assert (answer.status, answer.reason) == ("unavailable", "Bob's worker process does not start")
    with WorkerPool(["/no/such/program"]) as pool:
        assert pool.ask(b"").status == "unavailable"


def test_environment_reaches_the_workers(tmp_path: Path) -> None:
    body = "return {'seen': os.environ.get('OF_THE_POOL')}"
    with WorkerPool(command(tmp_path, body), environment={"OF_THE_POOL": "yes"}) as pool:
        assert json.dumps(pool.ask(number(0)).record) == '{"seen": "yes"}'


def test_wrong_numbers_are_refused() -> None:
    for wrong in ({"workers": 0}, {"timeout": 0.0}):
        with pytest.raises(ValueError, match="must be positive"):
            WorkerPool(["x"], **wrong)


def test_what_is_done_does_not_wait_for_the_next_item(tmp_path: Path) -> None:
    given: list[int] = []
    answered = threading.Event()

    def items():
        for k in range(1, 4):
            given.append(k)
            yield k
            answered.wait(30)
            time.sleep(0.1)  # and has come through

    with WorkerPool(command(tmp_path, "return {'k': number}")) as pool:

        def ask(k: int) -> Answer:
            answer = pool.ask(number(k))
            answered.set()
            return answer

        answers = pool.map(ask, items())
        assert next(answers).record == {"k": 1}
        assert given in ([1], [1, 2])
        assert [answer.record["k"] for answer in answers] == [2, 3]


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("inf"), float("nan")])
def test_a_timeout_is_a_finite_time(timeout: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        WorkerPool(["true"], timeout=timeout)
