from __future__ import annotations

import pytest

from molbfn.errors import UserError
from molbfn.generation import GenerationOptions
from molbfn.generation.job import generate_file
from molbfn.generation.lock import sole_writer

OPTIONS = GenerationOptions(steps=2, precision="fp32")


def test_one_run_at_a_time(tiny_model, tmp_path):
    output = tmp_path / "out.xyz"
    with sole_writer(output), pytest.raises(UserError, match=r"out\.xyz: another run is writing"):
        generate_file(tiny_model, 2, output, options=OPTIONS)
    assert not list(tmp_path.iterdir())
    with sole_writer(tmp_path / "other.xyz"):
        assert generate_file(tiny_model, 2, output, options=OPTIONS).written == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.xyz", "out.xyz.json"]


@pytest.mark.parametrize("name", ["out.xyz", "out.npz"])
def test_what_a_killed_run_left_is_not_overwritten(tiny_model, tmp_path, name, monkeypatch):
    from molbfn.generation import job

    output = tmp_path / name

    def die(self, molecule):
        if self.made == 3:
            raise MemoryError  # leaves what a kill leaves
        self.made += 1

    with monkeypatch.context() as patch:
        patch.setattr(job.Tally, "add", die)
        with pytest.raises(MemoryError):
            generate_file(tiny_model, 6, output, options=OPTIONS)
    growing = tmp_path / f"{name}.partial"
    assert growing.exists()
    with pytest.raises(UserError, match=r"partial: holds \d molecules of a run that was killed"):
        generate_file(tiny_model, 2, output, options=OPTIONS)
    assert growing.exists()
    tally = generate_file(tiny_model, 6, output, options=OPTIONS, resume=True)
    assert (tally.written, tally.before > 0) == (6, True)


def test_half_written_records_of_a_killed_run_are_removed(tmp_path):
    names = [".a.sdf.json.x1.partial", ".a.sdf.partial.json.x2.partial"]
    others = ["a.sdf.partial", "a.sdf.json", ".b.sdf.json.x3.partial"]
    for name in names + others:
        (tmp_path / name).touch()
    with sole_writer(tmp_path / "a.sdf"):
        left = {path.name for path in tmp_path.iterdir()}
    assert set(others) <= left
    assert not left & set(names)
