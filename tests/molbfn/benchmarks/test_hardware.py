"""The description of the machine is complete and can be written as JSON."""

from __future__ import annotations

import json

import torch

from molbfn.benchmarks.hardware import describe_machine, gemm_gflops
from molbfn.hardware import processor_name


def test_description_is_json_and_names_what_matters(monkeypatch) -> None:
    monkeypatch.setenv("MALLOC_TOP_PAD_", "64")
    found = json.loads(json.dumps(describe_machine()))
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["allocator"]["MALLOC_TOP_PAD_"] == "64"
    assert found["device"] == "cpu"
    assert found["processor"] == processor_name() != ""


def test_gemm_rate_is_physical() -> None:
    assert 0.01 < gemm_gflops(torch.float32) < 1e6
    assert 0.01 < gemm_gflops(torch.float32, rows=256, width=256) < 1e6
