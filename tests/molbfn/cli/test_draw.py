import pytest


def test_a_grid_is_drawn(molbfn, water, tmp_path):
    output = tmp_path / "out.png"
    result = molbfn("draw", water, "-o", output, "--n", 3, "--columns", 2)
    assert result.code == 0
    assert result.out.strip() == f"{output}: 1 molecules"
    assert output.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("-n", "0"), "-n 0"), (("--columns", "-1"), "--columns -1"), (("-o", "a.svg"), ".png")],
)
def test_mistakes_are_named(refused, water, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in refused("draw", water, *arguments)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["water.sdf"]
