import json


def test_a_sentence_a_table_and_json(molbfn, water, tmp_path):
    torn = tmp_path / "torn.sdf"
    torn.write_text(5 * water.read_text() + "torn\n")
    whole = tmp_path / "whole.sdf"
    whole.write_text(5 * water.read_text())
    same = molbfn("compare", whole, whole, "--protocol", "all", "--json", tmp_path / "a.json")
    assert same.code == 0
    assert "No difference is beyond noise" in " ".join(same.out.split())
    names = {m["protocol"] for m in json.loads((tmp_path / "a.json").read_text())["metrics"]}
    assert names == {"edm", "bonds"}
    other = molbfn("compare", whole, torn, "--problems", tmp_path / "p.jsonl")
    assert other.code == 3
    (problem,) = map(json.loads, (tmp_path / "p.jsonl").read_text().splitlines())
    assert (problem["file"], problem["record"]) == (str(torn), 6)


def test_mistakes_are_one_line(molbfn, water, tmp_path):
    for arguments in (
        [water, tmp_path / "missing.sdf"],
        [water, water, "--protocol", "edn"],
        [water, water, "--json", tmp_path / "no" / "a.json"],
    ):
        result = molbfn("compare", *arguments)
        assert result.code == 2
        assert len(result.err.splitlines()) == 1
