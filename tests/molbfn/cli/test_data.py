import shlex
from pathlib import Path

import pytest

from molbfn.data import qm9
from molbfn.data.store import MoleculeStore


@pytest.fixture
def mixed(tmp_path, water) -> Path:
    """Ten molecules of water; then a lone xenon, a molecule cut short."""
    text = water.read_text()
    path = tmp_path / "mixed.sdf"
    path.write_text(10 * text + text.replace(" O ", " Xe") + text[:200])
    return path


def test_prepare_reports_what_is_in_the_data_set_and_what_is_not(molbfn, mixed, tmp_path):
    output = tmp_path / "out.npz"
    result = molbfn("data", "prepare", mixed, "-o", output, "--elements", "H,O")
    assert result.code == 3
    lines = result.out.splitlines()
    assert lines[0] == f"{output}: 10 of 12 molecules kept"
    facts = dict(line.split(maxsplit=1) for line in lines[1:5])
    assert facts["atoms"] == "3 to 3 a molecule"
    assert facts["elements"] == "H 20, O 10"
    assert facts["split"] == "train 8, valid 1, test 1"
    assert facts["SMILES"] == "of 10"
    rest = "\n".join(lines[5:])
    assert "left out: 2" in rest
    assert f"  1 x element Xe not asked for\n      {mixed}: record 11" in rest
    assert f"  1 x cannot be read\n      {mixed}: record 12 (line 1" in rest
    assert "truncated" in rest
    assert f"--set data.source={output} --set 'data.elements=[H,O]'" in rest
    assert len(MoleculeStore.open(output)) == 10


def test_warnings_are_shown_with_their_first_places(molbfn, tmp_path):
    path = tmp_path / "carbons.xyz"
    path.write_text(7 * "2\nno hydrogens\nC 0 0 0\nC 0 0 1.5\n")
    result = molbfn("data", "prepare", path, "-o", tmp_path / "out.npz")
    assert result.code == 0
    assert "warnings: 7\n  7 x H atoms are missing" in result.out
    assert "SMILES    of 0 (the others have no bonds" in result.out
    assert f"      {path}: record 5\n      and 2 more\n" in result.out


def test_what_is_all_right_needs_no_lists(molbfn, water, tmp_path):
    result = molbfn("data", "prepare", water, "-o", tmp_path / "out.npz")
    assert result.code == 0
    assert "left out" not in result.out
    assert "warnings" not in result.out


def test_copies_in_several_parts_are_said(molbfn, tmp_path, water):
    path = tmp_path / "copies.sdf"
    path.write_text(10 * water.read_text())
    result = molbfn("data", "prepare", path, "-o", tmp_path / "out.npz")
    assert "  warning: too few structures: copies are in train and valid and test\n" in result.out
    path.write_text(water.read_text())
    assert "copies are" not in molbfn("data", "prepare", path, "-o", tmp_path / "out.npz").out


def test_conformers_and_parts_from_the_command_line(molbfn, water, tmp_path):
    text = water.read_text()
    for name, count in (("train.sdf", 3), ("val.sdf", 1), ("test.sdf", 1)):
        (tmp_path / name).write_text(count * text)
    output = tmp_path / "out.npz"
    result = molbfn(
        *("data", "prepare", tmp_path / "train.sdf", tmp_path / "val.sdf", tmp_path / "test.sdf"),
        *("-o", output, "--split", "files", "--conformers", 2),
    )
    assert result.code == 0
    assert "split     train 2, valid 1, test 1" in result.out
    assert "1 x more than 2 conformers of one structure" in result.out
    (tmp_path / "plain").mkdir()
    unnamed = tmp_path / "plain" / "water.sdf"
    unnamed.write_text(text)
    refused = molbfn("data", "prepare", unnamed, "-o", output, "--split", "files")
    assert refused.code == 2
    assert "neither its name nor its folder's has one of the words train, val and test" in (
        refused.err
    )
    refused = molbfn("data", "prepare", water, "-o", output, "--split", "file")
    assert refused.err == "molbfn: --split file: use random or files\n"


def test_qm9_reports_counts_and_split(molbfn, tmp_path, monkeypatch):
    splits = {"train": 100_000, "valid": 17_748, "test": 13_083}

    def prepare(output, *, from_dir, progress, on_molecule):
        progress(10, 20)
        on_molecule(100)
        return qm9.QM9Report(
            output=output or Path("cache.npz"),
            molecules=130_831,
            excluded=3_054,
            splits={} if from_dir == Path("part") else splits,
        )

    monkeypatch.setattr(qm9, "prepare_qm9", prepare)
    lines = molbfn("data", "qm9").out.splitlines()
    assert lines[0] == "cache.npz: 130,831 molecules of QM9"
    assert "3,054" in lines[1]
    assert "train 100,000, valid 17,748, test 13,083" in lines[2]
    assert lines[3] == "next: molbfn train qm9_small"
    lines = molbfn("data", "qm9", "-o", "my.npz", "--from-dir", tmp_path).out.splitlines()
    assert lines[3].endswith("--set data.source=my.npz")
    lines = molbfn("data", "qm9", "--from-dir", "part").out.splitlines()  # no split is known
    assert lines[2].endswith("--set data.split=all --set data.validation_split=all")


def test_the_next_command_can_be_taken_as_it_is(molbfn, tmp_path):
    (tmp_path / "my dir").mkdir()
    (tmp_path / "c.xyz").write_text("2\n\nC 0 0 0\nC 0 0 1.2\n" * 3)
    result = molbfn("data", "prepare", tmp_path / "c.xyz", "-o", tmp_path / "my dir" / "c.npz")
    assert result.code == 0, result.err
    command = result.out[result.out.index("next: ") + 6 :].replace("\\\n", " ")
    words = shlex.split(command)
    assert f"data.source={tmp_path / 'my dir' / 'c.npz'}" in words
    assert words[-1] == "data.elements=[C,H]"


def test_the_next_command_learns_bonds_only_where_they_are_stored(molbfn, tmp_path, water):
    text = water.read_text()
    water.write_text(text * 8)
    (tmp_path / "b.xyz").write_text("2\n\nO 0 0 0\nH 0 0 0.96\n")
    output = tmp_path / "mixed.npz"
    result = molbfn("data", "prepare", water, tmp_path / "b.xyz", "-o", output)
    assert "SMILES    of 8 (the others" in result.out
    assert "bonds={}" not in result.out
    water.write_text(text * 11)
    result = molbfn("data", "prepare", water, tmp_path / "b.xyz", "-o", output)
    assert "11 of 12 molecules kept" in result.out
    assert "1 x no bonds stated, where nearly all others state them" in result.out
    assert "bonds={}" in result.out


def test_the_next_command_works_where_nothing_is_left_to_validate_with(
    molbfn, tmp_path, water, monkeypatch
):
    output = tmp_path / "one.npz"
    result = molbfn("data", "prepare", water, "-o", output)
    assert "split     train 1, valid 0, test 0" in result.out
    words = shlex.split(result.out[result.out.index("next: ") + 6 :].replace("\\\n", " "))
    assert words[-5] == "data.validation_split=train"
    assert words[-4:] == ["--set", "bonds={}", "--set", "charges={}"]  # which water.sdf states
    monkeypatch.chdir(tmp_path)
    small = ("network.blocks=1", "training.steps=1", "training.batch_size=1")
    more = [word for key in (*small, "training.compile=false") for word in ("--set", key)]
    trained = molbfn(*words[1:], *more)
    assert trained.code == 0, trained.err
    output.unlink()
    water.write_text(5 * water.read_text())
    result = molbfn("data", "prepare", water, "-o", output)
    assert "split     train 3, valid 1, test 1" in result.out
    assert "validation_split" not in result.out


def test_properties_that_are_not_kept_are_named(molbfn, tmp_path):
    comment = " ".join(f"key{k}=1" for k in range(22))
    (tmp_path / "h.xyz").write_text(f"2\n{comment}\nH 0 0 0\nH 0 0 .74\n" * 3)
    result = molbfn("data", "prepare", tmp_path / "h.xyz", "-o", tmp_path / "h.npz")
    assert "  not kept: properties key0, key1, key10, " in result.out
    assert "and 2 more" in result.out
    again = molbfn("data", "prepare", tmp_path / "h.npz", "-o", tmp_path / "i.npz")
    assert "kept:" not in again.out
