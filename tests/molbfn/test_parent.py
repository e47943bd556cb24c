"""Processes end with the one that started them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Starts a process that would go on for ever, and is killed itself.
PARENT = """
import os, signal, subprocess, sys
code = "import sys, time; from molbfn.parent import end_with_parent; end_with_parent(%d);" \\
       " print('up', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code % os.getpid()], stdout=subprocess.PIPE)
child.stdout.readline()
sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name == "nt", reason="a process keeps the id of its parent there")
def test_a_process_ends_with_the_one_that_started_it():
    """The child holds the other end of stderr, which closes when it is gone."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        _, said = parent.communicate(timeout=60)
    assert said == b""
