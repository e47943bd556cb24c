import json

import pytest


@pytest.fixture
def five(tmp_path, water):
    """Four molecules of water, and one cut short."""
    text = water.read_text()
    path = tmp_path / "five.sdf"
    path.write_text(4 * text + text[:200])
    return path


def test_table_shows_the_metrics_and_what_could_not_be_read(molbfn, five, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = molbfn("evaluate", five)
    assert result.code == 3
    rows = [line.split("│") for line in result.out.splitlines() if "│" in line]
    counts = {row[1].strip(): row[4].strip() for row in rows if len(row) == 6}
    assert counts["Molecule stability"] == "4 / 5"
    assert counts["Validity"] == "4 / 5"
    assert "1 could not be read" in result.out
    assert "record 5" in result.out
    assert "truncated" in result.out


def test_figures_go_to_json_and_csv(molbfn, five, water, tmp_path):
    figures, table = tmp_path / "a.json", tmp_path / "a.csv"
    result = molbfn(
        "evaluate", five, "--reference", water, "--novelty", "both", "--json", figures,
        "--csv", table,
    )  # fmt: skip
    assert result.code == 3
    found = json.loads(figures.read_text())
    assert found["molecules"] == {"given": 5, "unreadable": 1, "unjudged": 0, "evaluated": 4}
    novelty = [m for m in found["metrics"] if m["name"].startswith("novelty")]
    assert len(novelty) == 2
    assert all(m["numerator"] == 0 for m in novelty)
    assert len(table.read_text().splitlines()) == 1 + len(found["metrics"])


def test_several_files_count_together(molbfn, five, water, tmp_path):
    molbfn("evaluate", five, water, "--json", tmp_path / "a.json")
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["molecules"]["given"] == 6
    assert found["sources"] == [str(five), str(water)]


def test_unreadable_records_are_listed_and_a_repeated_file_is_read_once(molbfn, five, tmp_path):
    result = molbfn("evaluate", five, five, "--problems", tmp_path / "p.csv")
    assert result.code == 3
    assert f"molbfn: {five} is there twice; it is read once" in result.err
    assert "skipped 1 unreadable record:" in result.err
    header, line = (tmp_path / "p.csv").read_text().splitlines()
    assert header == "file,record,line,reason"
    assert line.startswith(f"{five},5,")


def test_wrong_molecules_are_not_skipped(molbfn, water, tmp_path):
    path = tmp_path / "far.xyz"
    path.write_text("2\nfar apart\nH 0 0 0\nH 0 0 9\n")
    assert molbfn("evaluate", water, path).code == 0


def test_all_protocols_on_a_small_file(molbfn, water, tmp_path):
    figures = tmp_path / "a.json"
    result = molbfn(
        "evaluate", water, "--protocol", "all", "--reference", water, "--workers", 1,
        "--cache", tmp_path / "cache.jsonl", "--json", figures,
    )  # fmt: skip
    assert result.code == 0, result.err
    found = json.loads(figures.read_text())
    protocols = {m["protocol"] for m in found["metrics"]} | set(found["skipped"])
    assert protocols >= {"edm", "bonds", "revisited", "agreement", "posebusters", "physics"}
    assert {d["name"] for d in found["distributions"]} >= {"elements", "size"}
    by_name = {m["name"]: m["value"] for m in found["metrics"]}
    assert by_name["bonds_molecule_stability"] == 1
    assert by_name["agreement_file_table_rdkit"] == 1
    assert max(map(len, result.out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--timeout", 0), "--timeout 0: must be above 0"),
        (("--timeout", "inf"), "--timeout inf: must be above 0 seconds, and finite"),
        (("--timeout", "nan"), "--timeout nan: must be above 0 seconds, and finite"),
        (("--workers", 0), "--workers 0: must be at least 1"),
        (("--physics-sample", -1), "--physics-sample -1: must not be negative"),
        (("--cache", "nowhere/cache.jsonl"), "nowhere does not exist"),
        (("--protocol", "physic"), "did you mean 'physics'"),
        (("--timeout", 60), "--timeout: counts with the protocols agreement, posebusters, physics"),
        (("--protocol", "edm,similarity", "--workers", 2), "--workers: counts with"),
        (("--cache", "c.jsonl"), "--cache: counts with"),
        (("--json", "a.txt", "--csv", "./a.txt"), "--csv a.txt: is the file of --json too"),
    ],
)
def test_unusable_options_are_named(molbfn, water, options, message):
    result = molbfn("evaluate", water, *options)
    assert result.code == 2
    assert message in " ".join(result.err.split())


@pytest.mark.parametrize("option", ["--json", "--problems", "--csv"])
def test_what_is_read_is_not_replaced(molbfn, water, tmp_path, option):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    inside, known = tmp_path / "in" / "deep" / "a.sdf", tmp_path / "known.sdf"
    (tmp_path / "in" / "b.sdf").write_text(water.read_text())
    for file in (inside, known):
        file.write_text(water.read_text())
    for arguments in (
        [water, "--reference", known, option, known],
        [inside.parents[1], option, inside],
    ):
        result = molbfn("evaluate", *arguments)
        assert result.code == 2
        assert "which it would replace" in " ".join(result.err.split())
    assert inside.read_text() == known.read_text() == water.read_text()


def test_a_cache_is_not_added_to_another_file(molbfn, water, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("mine\n")
    result = molbfn("evaluate", water, "--protocol", "agreement", "--cache", notes)
    assert result.code == 2
    assert "holds no results of slow protocols" in " ".join(result.err.split())
    assert notes.read_text() == "mine\n"
