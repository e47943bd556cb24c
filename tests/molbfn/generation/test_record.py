import json

import pytest

from molbfn.chem.records import ResumePoint
from molbfn.errors import UserError
from molbfn.generation.record import (
    check_resumable,
    find_record,
    new_record,
    record_path,
    write_record,
)


def test_places(tmp_path):
    assert record_path(tmp_path / "a.sdf").name == "a.sdf.json"
    assert record_path(tmp_path / "a.sdf", partial=True).name == "a.sdf.partial.json"


def test_round_trip(tmp_path):
    record = new_record({"seed": 3}, wanted=5)
    write_record(tmp_path / "a.sdf.json", record)
    found = find_record(tmp_path / "a.sdf", ResumePoint(2, 1, tmp_path / "a.sdf"))
    assert found == record
    assert found["versions"].keys() == {"molbfn", "torch", "rdkit"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.sdf.json"]


def test_the_record_of_the_file_that_was_found(tmp_path):
    output = tmp_path / "a.sdf"
    write_record(record_path(output), new_record({"seed": 1}, wanted=5))
    write_record(record_path(output, partial=True), new_record({"seed": 2}, wanted=5))
    finished = ResumePoint(2, 1, output)
    growing = ResumePoint(2, 1, tmp_path / "a.sdf.partial")
    assert find_record(output, finished)["settings"] == {"seed": 1}
    assert find_record(output, growing)["settings"] == {"seed": 2}
    record_path(output).unlink()
    assert find_record(output, finished)["settings"] == {"seed": 2}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"settings": 1, "runs": []})])
def test_what_is_not_a_record_is_refused(tmp_path, text):
    (tmp_path / "a.sdf.json").write_text(text)
    with pytest.raises(UserError, match=r"a\.sdf\.json: not a record of molbfn"):
        find_record(tmp_path / "a.sdf", ResumePoint(2, 1, tmp_path / "a.sdf"))


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot be resumed, a\.sdf\.json .* is missing"):
        find_record(tmp_path / "a.sdf", ResumePoint(2, 1, tmp_path / "a.sdf"))


@pytest.mark.parametrize(
    ("found", "settings", "n", "message"),
    [
        ((3, 2), {"seed": 1, "steps": 50}, 5, "was made with seed = 0, now it is 1"),
        ((3, 2), {"seed": 0, "steps": 20}, 5, "was made with steps = 50, now it is 20"),
        ((3, 2), {"seed": 0, "steps": 50}, 2, "holds 3 molecules already, more than -n 2"),
        ((3, 3), {"seed": 0, "steps": 50}, 5, "3 molecules go up to index 3"),
        ((3, 1), {"seed": 0, "steps": 50}, 5, "3 molecules go up to index 1"),
    ],
)
def test_what_would_not_continue_the_same_generation_is_refused(
    tmp_path, found, settings, n, message
):
    record = new_record({"seed": 0, "steps": 50}, wanted=5)
    point = ResumePoint(*found, tmp_path / "a.sdf")
    with pytest.raises(UserError, match=message):
        check_resumable(tmp_path / "a.sdf", point, record, settings, indices=range(n))


@pytest.mark.parametrize("highest", [2, None])
def test_the_same_generation_goes_on(tmp_path, highest):
    record = {**new_record({"seed": 0}, wanted=5), "written": 3}
    point = ResumePoint(3, highest, tmp_path / "a.smi")
    check_resumable(tmp_path / "a.smi", point, record, {"seed": 0}, indices=range(3))


def test_lines_taken_out_of_a_file_without_indices_are_missed(tmp_path):
    record = {**new_record({"seed": 0}, wanted=5), "written": 4}
    point = ResumePoint(2, None, tmp_path / "a.smi")
    with pytest.raises(UserError, match="holds 2 molecules where its record says 4"):
        check_resumable(tmp_path / "a.smi", point, record, {"seed": 0}, indices=range(5))
    more = ResumePoint(5, None, tmp_path / "a.smi")
    with pytest.raises(UserError, match="holds 5 molecules where its record says 4"):
        check_resumable(tmp_path / "a.smi", more, record, {"seed": 0}, indices=range(6))
    record_path(tmp_path / "a.smi", partial=True).touch()  # killed while it went on in place
    assert check_resumable(tmp_path / "a.smi", more, record, {"seed": 0}, indices=range(6)) == 5
    killed = ResumePoint(2, None, tmp_path / "a.smi.partial")  # its record is that of its begin
    assert check_resumable(tmp_path / "a.smi", killed, record, {"seed": 0}, indices=range(5)) == 2


def test_a_later_part_starts_at_its_own_first_molecule(tmp_path):
    record = new_record({"seed": 0}, wanted=5)
    right, wrong = (ResumePoint(3, highest, tmp_path / "a.smi") for highest in (12, 2))
    check_resumable(tmp_path / "a.smi", right, record, {"seed": 0}, indices=range(10, 15))
    with pytest.raises(UserError, match="3 molecules go up to index 2"):
        check_resumable(tmp_path / "a.smi", wrong, record, {"seed": 0}, indices=range(10, 15))
