import os
import subprocess
import sys

import pytest

COUNT = """
import resource
from molbfn.allocator import keep_memory

import torch

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

kept = {call}
for k in range(40):
    if k == 20:
        before = faults()
    torch.ones(10 * 2**20)  # 40 MiB, above the largest size that glibc would keep by itself
print(kept, faults() - before)
"""


def count_faults(call: str, **settings: str) -> tuple[str, int]:
    """What the call returns, and the page faults of 20 tensors."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("MALLOC_", "GLIBC_"))}  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", COUNT.format(call=call)],
        env=environment | settings, capture_output=True, text=True, check=True,
    )  # fmt: skip
    kept, count = result.stdout.split()
    return kept, int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_memory_is_kept_for_the_next_tensor():
    kept, count = count_faults("keep_memory()")
    if kept == "False":
        pytest.skip("not glibc")
    assert count < 100
    assert count_faults("None")[1] > 1_000


def test_the_users_own_settings_stand():
    assert count_faults("keep_memory()", MALLOC_TOP_PAD_="4096")[0] == "False"
