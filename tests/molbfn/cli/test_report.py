import json

import pytest


def test_a_report_is_written_and_named(molbfn, water, tmp_path):
    output = tmp_path / "out.html"
    result = molbfn("report", water, water, "-o", output, "--title", "Two waters")
    assert result.code == 0
    assert str(output) in result.out
    assert "<title>Two waters</title>" in output.read_text()


def test_more_protocols_can_be_asked_for(molbfn, water, tmp_path):
    output = tmp_path / "out.html"
    assert molbfn("report", water, "-o", output, "--protocol", "revisited").code == 0
    assert '"protocol":"revisited"' in output.read_text()


def test_energies_of_molecules_can_be_asked_for(molbfn, water, tmp_path):
    pytest.importorskip("tblite", reason="GFN2-xTB needs tblite")
    water.write_text(2 * water.read_text())
    output, cache = tmp_path / "out.html", tmp_path / "cache.jsonl"
    arguments = ["--protocol", "physics", "--physics-sample", "1", "--cache", cache]
    assert molbfn("report", water, "-o", output, *arguments).code == 0
    drop = json.loads(cache.read_text())["values"]["drop"]
    text = output.read_text()
    assert '"label":"ΔE, GFN2-xTB"' in text
    assert f",{round(drop, 3)}," in text
    assert text.count('"relaxation_energy":"not computed"') == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--protocol", "edn"), "edm"),
        (("--physics-sample", "-1"), "--physics-sample -1"),
        (("--cache", "gone/cache.jsonl"), "gone"),
        (("--workers", "0"), "--workers 0"),
        (("-n", "0"), "-n 0"),
        (("-o", "gone/out.html"), "gone"),
        (("--reference", "nowhere.sdf"), "nowhere"),
    ],
)
def test_mistakes_are_named(refused, water, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused("report", water, *arguments)
    assert not list(tmp_path.rglob("*.html"))


def test_a_bit_string_is_no_number(molbfn, water, tmp_path):
    text = water.read_text().replace("$$$$", f"> <bits>\n1{'0' * 1023}\n\n$$$$")
    (tmp_path / "bits.sdf").write_text(text)
    output = tmp_path / "bits.html"
    assert molbfn("report", tmp_path / "bits.sdf", "-o", output).code == 0
    assert "0" * 1023 in output.read_text()


def test_a_data_set_is_reported_on_by_name(molbfn, water, tmp_path, monkeypatch):
    monkeypatch.setattr("molbfn.data.locate.available_datasets", lambda: {"demo": water})
    output = tmp_path / "named.html"
    assert molbfn("report", "demo", "-o", output).code == 0
    assert water.name in output.read_text()
