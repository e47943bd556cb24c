import json

import pytest


def test_a_sentence_a_table_and_json(molbfn, water, tmp_path):
    torn = tmp_path / "torn.sdf"
    torn.write_text(5 * water.read_text() + "torn\n")
    whole = tmp_path / "whole.sdf"
    whole.write_text(5 * water.read_text())
    same = molbfn(
        "compare", whole, whole, "--protocol", "edm,revisited", "--json", tmp_path / "a.json"
    )
    assert same.code == 0
    assert "No difference is beyond noise" in " ".join(same.out.split())
    names = {m["protocol"] for m in json.loads((tmp_path / "a.json").read_text())["metrics"]}
    assert names == {"edm", "revisited"}
    other = molbfn("compare", whole, torn, "--problems", tmp_path / "p.jsonl")
    assert other.code == 3
    (problem,) = map(json.loads, (tmp_path / "p.jsonl").read_text().splitlines())
    assert (problem["file"], problem["record"]) == (str(torn), 6)


def test_mistakes_are_one_line(molbfn, water, tmp_path):
    for arguments in (
        [water, tmp_path / "missing.sdf"],
        [water, water, "--protocol", "edn"],
        [water, water, "--protocol", "similarity"],
        [water, water, "--physics-sample", "-1"],
        [water, water, "--cache", tmp_path / "no" / "cache.jsonl"],
        [water, water, "--json", tmp_path / "no" / "a.json"],
    ):
        result = molbfn("compare", *arguments)
        assert result.code == 2
        assert len(result.err.splitlines()) == 1


def test_data_sets_are_compared_by_name(molbfn, water, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("molbfn.data.locate.available_datasets", lambda: {"demo": water})
    assert molbfn("compare", water, "demo", "--protocol", "bonds", "--json", "a.json").code == 0
    assert json.loads((tmp_path / "a.json").read_text())["sources"] == [str(water), str(water)]
    monkeypatch.setattr("molbfn.data.locate.available_datasets", dict)
    assert "data set 'demo' is not on this machine" in molbfn("compare", water, "demo").err
    assert "did you mean 'demo'" in molbfn("compare", "dmo", water).err


def test_a_sample_of_each_file_is_relaxed_and_kept(molbfn, water, tmp_path):
    pytest.importorskip("tblite", reason="GFN2-xTB needs tblite")
    stretched = tmp_path / "stretched.sdf"
    stretched.write_text(water.read_text().replace("0.7572   -0.4692", "0.9572   -0.4692"))
    arguments = [water, stretched, "--protocol", "physics", "--physics-sample", "1",
                 "--workers", "1", "--cache", tmp_path / "c.jsonl"]  # fmt: skip
    result = molbfn("compare", *arguments)
    assert result.code == 0
    assert "A: physics: GFN2-xTB, all 1 molecules" in " ".join(result.out.split())
    lines = list(map(json.loads, (tmp_path / "c.jsonl").read_text().splitlines()))
    assert [line["values"]["drop"] > 5 for line in lines] == [False, True]
