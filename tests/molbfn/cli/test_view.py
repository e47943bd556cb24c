import tempfile
from pathlib import Path
from urllib.parse import urlparse

import pytest


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Addresses that the browser was asked for."""
    found = []
    monkeypatch.setattr("webbrowser.open", lambda url: found.append(url) or True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return found


def test_the_browser_gets_a_page_with_the_molecules(molbfn, water, opened):
    result = molbfn("view", water)
    assert result.code == 0
    (url,) = opened
    page = Path(urlparse(url).path)
    assert '"m":"H2O"' in page.read_text()
    assert str(page) in result.out


def test_without_a_browser_the_file_is_named(molbfn, water, opened, monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    assert "open this file" in molbfn("view", water).out


def test_a_mistake_leaves_nothing_behind(refused, opened, tmp_path):
    assert "gone.sdf" in refused("view", tmp_path / "gone.sdf")
    assert opened == []
    assert list(tmp_path.iterdir()) == []
