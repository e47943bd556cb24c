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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--protocol", "edn"), "edm"),
        (("-n", "0"), "-n 0"),
        (("-o", "gone/out.html"), "gone"),
        (("--reference", "nowhere.sdf"), "nowhere"),
    ],
)
def test_mistakes_are_named(refused, water, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused("report", water, *arguments)
    assert not list(tmp_path.rglob("*.html"))
