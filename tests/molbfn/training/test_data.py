"""Batches reach the trainer from the step where a run stands."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from molbfn.data.batching import DenseBatches
from molbfn.training.data import BatchStream, TrainingData, place_data
from molbfn.training.job import build_model


def make_data(config, store, *, seen: int = 0, rank: int = 0, world: int = 1) -> TrainingData:
    data = TrainingData(
        config,
        model=build_model(config, store),
        train=store.subset("train"),
        valid=store.subset("valid"),
    )
    data.trainer = SimpleNamespace(
        lightning_module=SimpleNamespace(batches_seen=seen),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        global_rank=rank,
        world_size=world,
    )
    return data


def make_batches(config, store, split: str = "train") -> DenseBatches:
    model = build_model(config, store)
    return DenseBatches(
        store.subset(split),
        vocabulary=model.vocabulary,
        buckets=model.info.buckets,
        batch_size=config.training.batch_size,
        seed=config.training.seed,
    )


def test_a_stream_starts_anywhere_and_may_end(store, make_config):
    batches = make_batches(make_config(), store)
    found = list(BatchStream(batches, start=3, count=2))
    assert len(found) == 2
    for step, batch in zip((3, 4), found, strict=True):
        assert torch.equal(batch.positions, batches.batch(step).positions)


@pytest.mark.parametrize("seen", [0, 17])
def test_training_goes_on_after_the_batches_seen(store, make_config, seen: int):
    config = make_config()
    stream = iter(make_data(config, store, seen=seen).train_dataloader())
    batches = make_batches(config, store)
    for step in range(seen, seen + 12):  # beyond one epoch: it never ends
        assert torch.equal(next(stream).positions, batches.batch(step).positions)


def validated(config, store, world: int) -> list[torch.Tensor]:
    """Positions of the molecules that all processes validate on, those counted twice left out."""
    found = {}
    for rank in range(world):
        data = make_data(config, store, seen=9, rank=rank, world=world)
        for step, batch in enumerate(data.val_dataloader()):
            number = step * world + rank
            if number < data.validation_batches:
                found[number] = batch
    return [found[number] for number in range(len(found))]


@pytest.mark.parametrize("wanted", [1, 8, 10_000])
def test_validation_is_the_same_on_any_number_of_processes(store, make_config, wanted: int):
    config = make_config(training={"validate_molecules": wanted})
    one = validated(config, store, 1)
    assert sum(len(batch.mask) for batch in one) == min(wanted, len(store.subset("valid")))
    for world in (2, 8):
        several = validated(config, store, world)
        assert len(several) == len(one)
        for left, right in zip(one, several, strict=True):
            assert torch.equal(left.positions, right.positions)


def test_processes_validate_on_equally_many_batches(store, make_config):
    config = make_config(training={"validate_molecules": 10_000})
    loaders = [make_data(config, store, rank=r, world=8).val_dataloader() for r in range(8)]
    assert len({len(list(loader)) for loader in loaders}) == 1


def test_processes_get_different_batches(store, make_config):
    config = make_config()
    first, second = (
        next(iter(make_data(config, store, rank=rank, world=2).train_dataloader()))
        for rank in range(2)
    )
    assert not torch.equal(first.positions, second.positions)


def test_batches_move_to_the_device(store, make_config):
    data = make_data(make_config(), store)
    batch = next(iter(data.train_dataloader()))
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved.positions.device.type == "meta"


def test_the_data_live_on_a_gpu_that_has_room_for_them(monkeypatch):
    gpu, host = torch.device("cuda", 1), torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (400 << 20, 800 << 20))
    place, line = place_data("auto", gpu, 100 << 20)
    assert (place, "(100 MiB) live on cuda:1" in line) == (gpu, True)
    place, line = place_data("auto", gpu, 101 << 20)
    assert (place, "more than a quarter of the 400 MiB free on cuda:1" in line) == (host, True)
    place, line = place_data("cpu", gpu, 1)
    assert (place, "training.data_device: cpu" in line) == (host, True)
    assert place_data("auto", host, 1) == (host, "")
    assert place_data("auto", torch.device("mps"), 1) == (host, "")
