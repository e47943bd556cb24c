import hashlib
import tarfile

import pytest

from molbfn.benchmarks.data import files
from molbfn.data.download import Mirror
from molbfn.errors import UserError


def test_found_in_the_first_folder_that_has_it(bench_data, tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()  # empty: passed over
    monkeypatch.setattr(files, "data_dirs", lambda: iter([tmp_path, bench_data]))
    for name in files.NAMES:
        assert files.locate(name) == bench_data / name


def test_a_download_that_broke_off_is_passed_over(bench_data, tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz.1234abcd.partial").touch()
    monkeypatch.setattr(files, "data_dirs", lambda: iter([tmp_path, bench_data]))
    assert files.locate("mnist") == bench_data / "mnist"
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").touch()  # one of two
    assert files.locate("mnist") == bench_data / "mnist"


def test_missing_data_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "data_dirs", lambda: iter([tmp_path]))
    with pytest.raises(UserError, match="run 'molbfn bench data text8', or set MOLBFN_DATA"):
        files.locate("text8")


def test_unknown_names(tmp_path):
    with pytest.raises(UserError, match="did you mean 'mnist'"):
        files.download("mnits", tmp_path)


@pytest.fixture
def served(monkeypatch):
    """Serve files by name in place of the network; records what was asked for."""
    asked, content = [], {}

    def fetch(name, mirrors, folder, *, progress, offline):
        asked.append(name)
        assert "MOLBFN_DATA" in offline
        assert all(mirror.checksum for mirror in mirrors)
        (folder / name).write_bytes(content[name])
        return folder / name

    monkeypatch.setattr(files, "fetch", fetch)
    return asked, content


def test_download_unpacks_and_does_not_repeat_itself(tmp_path, served):
    asked, content = served
    names = [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]
    archive = tmp_path / "made.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        for name in names:
            (tmp_path / name).write_bytes(name.encode())
            packed.add(tmp_path / name, f"cifar-10-batches-bin/{name}")
    content["cifar-10-binary.tar.gz"] = archive.read_bytes()
    folder = files.download("cifar10", tmp_path / "cifar10")
    assert sorted(path.name for path in folder.iterdir()) == names
    assert files._KNOWN["cifar10"].is_here(folder)
    files.download("cifar10", folder)
    assert asked == ["cifar-10-binary.tar.gz"]


def test_mnist_is_four_files(tmp_path, served):
    asked, content = served
    for file in files._KNOWN["mnist"].files:
        content[file.name] = b"x"
    folder = files.download("mnist", tmp_path / "mnist")
    assert len(asked) == 4
    assert files._KNOWN["mnist"].is_here(folder)


def test_every_checksum_is_well_formed():
    for known in files._KNOWN.values():
        for file in known.files:
            for mirror in file.mirrors:
                assert isinstance(mirror, Mirror)
                kind, digest = mirror.checksum.split(":")
                assert len(digest) == 2 * hashlib.new(kind).digest_size
