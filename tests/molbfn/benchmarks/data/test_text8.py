import hashlib
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from molbfn.benchmarks.data import text8
from molbfn.errors import UserError


@given(st.text(alphabet=text8.SYMBOLS, min_size=1, max_size=50))
def test_text_survives_the_round_trip(text):
    codes = text8.encode(text.encode())
    assert codes.max() < 27
    assert text8.decode(torch.from_numpy(codes.astype(np.int64))[None]) == [text]


def test_a_wrong_character_is_named():
    with pytest.raises(UserError, match="character 2 of the text is b'A'"):
        text8.encode(b"abAb")


def test_crops_are_pieces_of_the_text_and_start_anywhere():
    codes = (np.arange(100) % 27).astype(np.uint8)
    crops = text8.RandomCrops(codes, 10)
    assert len(crops) == 10
    generator = torch.Generator().manual_seed(0)
    drawn = crops.take(np.zeros(2000, np.int64), generator)
    assert torch.equal((drawn - drawn[:, :1]) % 27, torch.arange(10).expand(2000, 10) % 27)
    starts = set()
    text = codes.tobytes()
    for row in drawn.numpy().astype(np.uint8):
        starts.add(text.find(row.tobytes()))
    assert min(starts) == 0
    assert len(starts) == 27  # the text repeats itself every 27 characters


def test_a_text_is_cut_in_two():
    crops = text8.RandomCrops(np.arange(100, dtype=np.uint8), 10)
    first, rest = crops.cut(0.3)
    assert first.codes.tolist() == list(range(30))
    assert rest.codes.tolist() == list(range(30, 100))
    assert len(rest) == 7
    with pytest.raises(ValueError, match="5 and 95 characters are too few for pieces of 10"):
        crops.cut(0.05)


def test_blocks_are_consecutive():
    blocks = text8.Blocks(np.arange(25, dtype=np.uint8), 10)
    assert len(blocks) == 2
    assert blocks.take(np.array([1]), torch.Generator()).tolist() == [list(range(10, 20))]


def test_the_prefix_says_that_it_is_one(bench_data):
    data = text8.load_text8(bench_data / "text8", length=50)
    assert "first 4,000 characters" in data.label
    assert "our own test part" in data.note
    assert (len(data.train), len(data.valid), len(data.test)) == (72, 4, 4)


def test_the_whole_text_needs_no_note(tmp_path, monkeypatch):
    monkeypatch.setattr(text8, "_CHARACTERS", 400)
    monkeypatch.setattr(text8, "_BEGINNING", hashlib.sha256(b"ab c" * 100).hexdigest())
    with zipfile.ZipFile(tmp_path / "text8.zip", "w") as archive:
        archive.writestr("text8", "ab c" * 100)
    data = text8.load_text8(tmp_path, length=5)
    assert (data.label, data.note) == ("text8", "")
    assert len(data.test) == 4


def test_other_text_is_not_called_text8(tmp_path):
    (tmp_path / "text8").write_text("some words " * 100)
    data = text8.load_text8(tmp_path, length=5)
    assert data.label == "other text than text8, 1,100 characters, split 90/5/5"
    assert "not comparable" in data.note
    (tmp_path / "text8").write_text("Some words " * 100)
    with pytest.raises(UserError, match=r"text8: character 0 of the text is b'S'"):
        text8.load_text8(tmp_path, length=5)


def test_what_is_missing_damaged_or_too_short(tmp_path, bench_data):
    with pytest.raises(UserError, match="has neither text8 nor"):
        text8.load_text8(tmp_path)
    (tmp_path / "text8.zip").write_bytes(b"PK no")
    with pytest.raises(UserError, match="cannot be read"):
        text8.load_text8(tmp_path)
    with zipfile.ZipFile(tmp_path / "text8.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("text8", "some words " * 1000)
    whole = bytearray((tmp_path / "text8.zip").read_bytes())
    whole[40:60] = bytes(20)  # within the compressed stream
    (tmp_path / "text8.zip").write_bytes(whole)
    with pytest.raises(UserError, match="cannot be read"):
        text8.load_text8(tmp_path)
    with pytest.raises(UserError, match="too few for data"):
        text8.load_text8(bench_data / "text8", length=256)
