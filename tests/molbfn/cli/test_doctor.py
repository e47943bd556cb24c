import torch

from molbfn import model
from molbfn.data import locate


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


def test_doctor_says_what_to_do_where_there_is_nothing(molbfn, monkeypatch):
    monkeypatch.setattr(model, "bundled_models", dict)
    monkeypatch.setattr(locate, "available_datasets", dict)
    out = molbfn("doctor").out
    assert "none; train one with `molbfn train`" in out
    assert "`molbfn data qm9` downloads it" in out
