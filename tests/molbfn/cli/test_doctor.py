import re
import tomllib
from pathlib import Path

import torch

from molbfn import model
from molbfn.cli.doctor import OPTIONAL
from molbfn.data import locate

ROOT = Path(__file__).parents[3]


def test_doctor_shows_versions_devices_models_and_data(molbfn, monkeypatch, tmp_path):
    monkeypatch.setattr(model, "bundled_models", lambda: {"small": tmp_path / "small"})
    monkeypatch.setattr(locate, "available_datasets", lambda: {"demo": tmp_path / "demo.npz"})
    result = molbfn("doctor")
    assert result.code == 0
    lines = [line.strip() for line in result.out.splitlines()]
    assert f"torch {torch.__version__}" in lines
    assert any(line.startswith("cpu: ") for line in lines)
    assert any(line.startswith("--device auto takes: ") for line in lines)
    assert f"small: {tmp_path / 'small'}" in lines
    assert f"demo: {tmp_path / 'demo.npz'}" in lines
    assert "qm9: not found; `molbfn data qm9` downloads it" in lines


def test_optional_packages_are_there_or_come_with_an_extra(molbfn, monkeypatch):
    known = {"tblite": "0.8.0"}
    monkeypatch.setattr("molbfn.versions.installed_version", known.get)
    lines = [line.strip() for line in molbfn("doctor").out.splitlines()]
    assert "tblite 0.8.0 (molbfn[eval])" in lines
    assert "posebusters not installed: pip install 'molbfn[eval]'" in lines
    assert "spylls not installed: pip install 'molbfn[bench]'" in lines


def test_optional_packages_are_those_of_the_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    seen = set()
    for extra, wanted in project["optional-dependencies"].items():
        names = {re.split(r"[^\w-]", requirement)[0] for requirement in wanted}
        assert set(OPTIONAL[extra]) == names - seen
        seen |= names


def test_doctor_says_what_to_do_where_there_is_nothing(molbfn, monkeypatch):
    monkeypatch.setattr(model, "bundled_models", dict)
    monkeypatch.setattr(locate, "available_datasets", dict)
    out = molbfn("doctor").out
    assert "none; train one with `molbfn train`" in out
    assert "`molbfn data qm9` downloads it" in out
