import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from molbfn.benchmarks.fid import fid
from molbfn.errors import UserError

SAMPLES = np.full((60, 32, 32, 3), 7, np.uint8)
DATA = np.full((70, 32, 32, 3), 9, np.uint8)


class Recorder:
    """Stands for torchmetrics' metric; keeps what it is given."""

    def __init__(self, feature: int) -> None:
        assert feature == 2048
        self.seen = {True: [], False: []}

    def update(self, images: torch.Tensor, *, real: bool) -> None:
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (3, 32, 32)
        self.seen[real].append(images)

    def compute(self) -> torch.Tensor:
        samples, data = (torch.cat(self.seen[real]) for real in (False, True))
        assert (len(samples), len(data)) == (60, 70)
        return data.float().mean() - samples.float().mean()


def test_samples_and_data_are_not_mixed_up(monkeypatch):
    module = SimpleNamespace(FrechetInceptionDistance=Recorder)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", module)
    assert fid(SAMPLES, DATA) == pytest.approx(2.0)


def test_weights_that_cannot_be_downloaded(monkeypatch):
    def offline(feature: int) -> None:
        raise OSError("no network")

    module = SimpleNamespace(FrechetInceptionDistance=offline)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", module)
    with pytest.raises(UserError, match="could not download"):
        fid(SAMPLES, DATA)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(UserError, match="FID needs torch-fidelity"):
        fid(SAMPLES, DATA)


def test_a_torchvision_that_does_not_load_is_named(monkeypatch):
    def broken(feature: int) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    module = SimpleNamespace(FrechetInceptionDistance=broken)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", module)
    with pytest.raises(UserError, match=r"torchvision, which does not load .*nms.*leave out --fid"):
        fid(SAMPLES, DATA)
