"""The examples of the documents run, and what they assert holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("document", ["README.md", "docs/bfn_core.md", "docs/generate.md"])
def test_examples_run(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # they write files
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for block in blocks:
            exec(compile(block, document, "exec"), names)
