"""Models: built from their config, saved whole, refused when something does not fit."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bfn_core import DiscreteFlow, DiscretisedFlow, NoisePrediction, PreconditionedPrediction
from molbfn import atomic
from molbfn.config import ModelConfig
from molbfn.config_file import load_config
from molbfn.data.batching import MoleculeBatch
from molbfn.errors import UserError
from molbfn.model import ModelInfo, MoleculeModel, bundled_models, checksum, load_model

TINY = {
    "kind": "transformer",
    "width": 16,
    "vectors": 4,
    "pair_width": 4,
    "message_width": 8,
    "dots": 2,
    "heads": 2,
    "blocks": 1,
    "distances": 6,
    "time_features": 4,
    "condition_width": 8,
}
EGNN = {"kind": "egnn", "hidden": 12, "layers": 2, "charge_features": 8}
CHARGE = {"kind": "discretised", "bins": 9}


def make_model(**sections) -> MoleculeModel:
    torch.manual_seed(0)
    values = {"name": "tiny", "network": TINY, **sections}
    info = ModelInfo(
        config=ModelConfig.model_validate(values),
        buckets=(5, 9),
        sizes={3: 10, 5: 7, 9: 1},
        provenance={"data": "made up"},
    )
    model = MoleculeModel(info)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


def make_batch(classes: int = 4) -> MoleculeBatch:
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(5) < torch.tensor([5, 3])[:, None]
    positions = torch.randn(2, 5, 3, generator=generator) * mask[..., None]
    count = mask.sum(1)[:, None, None]
    positions = (positions - positions.sum(1, keepdim=True) / count) * mask[..., None]
    elements = torch.randint(classes, (2, 5), generator=generator) * mask
    return MoleculeBatch(positions, elements, mask)


def with_topology(batch: MoleculeBatch) -> MoleculeBatch:
    """Add made-up charges and bonds."""
    charges = torch.tensor([[-1, 0, 2, 0, 0], [0, -1, 0, 0, 0]])
    bonds = torch.zeros(2, 5, 5, dtype=torch.int64)
    for row, i, j, order in [(0, 0, 1, 2), (0, 1, 4, 1), (0, 2, 3, 3), (1, 0, 2, 1)]:
        bonds[row, i, j] = bonds[row, j, i] = order
    return dataclasses.replace(batch, charges=charges, bonds=bonds)


def loss(model: MoleculeModel) -> dict[str, torch.Tensor]:
    batch = with_topology(make_batch(len(model.vocabulary)))
    data, flows, masks = model.encode(batch), model.flows, model.masks(batch.mask)
    t = torch.tensor([0.3, 0.8])
    generator = torch.Generator().manual_seed(1)
    states = flows.sample(data, t, mask=masks, generator=generator)
    outputs = model.predictor(batch.mask)(states, flows.times(t))
    return flows.continuous_time_loss(data, outputs, t, mask=masks)


VARIANTS = [
    {},
    {"network": EGNN},
    {"network": EGNN, "elements": CHARGE, "data": {"elements": ["H", "C", "N", "O", "F"]}},
    {"network": EGNN, "bonds": {}, "charges": {"values": [-1, 0, 2]}},
    {"network": EGNN, "elements": CHARGE, "bonds": {}},
    {"network": TINY, "elements": CHARGE},
    {"positions": {"parameterisation": "data"}, "data": {"elements": ["O", "H", "Br"]}},
    {"charges": {"values": [-1, 0, 2]}, "bonds": {}},
    {"bonds": {"beta_1": 1.5}},
    {"bonds": {}, "charges": {"values": [-1, 0, 2]}, "self_conditioning": True},
    {"elements": CHARGE, "self_conditioning": True},
]


@pytest.mark.parametrize("sections", VARIANTS)
def test_a_saved_model_comes_back_whole(tmp_path: Path, sections: dict):
    model = make_model(**sections)
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert again.info == model.info
    assert not again.training
    state = model.network.state_dict()
    assert state.keys() == again.network.state_dict().keys()
    for name, value in again.network.state_dict().items():
        assert torch.equal(value, state[name]), name
    for name, value in loss(model).items():
        assert value.isfinite().all()
        assert torch.equal(loss(again)[name], value)


def test_a_folder_holds_two_readable_files(tmp_path: Path):
    model = make_model()
    model.save(tmp_path / "m", progress={"steps": 5})
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "config.json", "model.safetensors",
    ]  # fmt: skip
    header = json.loads((tmp_path / "m" / "config.json").read_text())
    assert header["provenance"] == {"data": "made up", "steps": 5}
    assert load_file(tmp_path / "m" / "model.safetensors").keys() == (
        model.network.state_dict().keys()
    )


def test_given_weights_are_saved_in_place_of_its_own(tmp_path: Path):
    model = make_model()
    doubled = {name: 2 * value for name, value in model.network.state_dict().items()}
    model.save(tmp_path / "m", weights=doubled)
    for name, value in load_model(tmp_path / "m").network.state_dict().items():
        assert torch.equal(value, doubled[name])


def test_codes_there_and_back():
    for elements in ({"kind": "discrete"}, CHARGE):
        model = make_model(elements=elements, data={"elements": ["O", "H", "C"]})
        batch = make_batch(3)
        decoded = model.decode(model.encode(batch))
        torch.testing.assert_close(decoded.positions, batch.positions)
        expected = torch.tensor([8, 1, 6])[batch.elements]
        assert torch.equal(decoded.atomic_numbers[batch.mask], expected[batch.mask])
        assert decoded.charges is decoded.bonds is None


def test_charges_and_bonds_there_and_back():
    model = make_model(charges={"values": [-1, 0, 2]}, bonds={"beta_1": 2.0})
    assert model.makes_bonds
    batch = with_topology(make_batch())
    data = model.encode(batch)
    assert set(data["charges"].unique().tolist()) == {0, 1, 2}
    decoded = model.decode(data)
    assert torch.equal(decoded.charges, batch.charges)
    assert torch.equal(decoded.bonds, batch.bonds.triu(1))


def test_a_batch_without_bonds_is_not_taken_for_one_with_none():
    model = make_model(bonds={"beta_1": 2.0})
    with pytest.raises(ValueError, match="generates bonds but the batch has none"):
        model.encode(make_batch())


def test_masks_and_shapes_of_all_variables():
    model = make_model(charges={}, bonds={})
    mask = make_batch().mask
    masks, shapes = model.masks(mask), model.shapes(2, 5)
    assert shapes == {
        "positions": (2, 5, 3), "elements": (2, 5), "charges": (2, 5), "bonds": (2, 5, 5),
    }  # fmt: skip
    assert masks["bonds"].sum((1, 2)).tolist() == [10, 3]
    assert torch.equal(masks["charges"], mask)


@pytest.mark.parametrize("elements", [{"kind": "discrete"}, CHARGE])
def test_self_conditioning_shows_the_last_estimates(elements):
    model = make_model(self_conditioning=True, elements=elements, bonds={})
    batch = with_topology(make_batch())
    data, masks = model.encode(batch), model.masks(batch.mask)
    times = model.flows.times(torch.tensor([0.3, 0.8]))
    generator = torch.Generator().manual_seed(1)
    states = model.flows.sample(data, times, mask=masks, generator=generator)
    with torch.no_grad():
        blind = model.predictor(batch.mask)(states, times)
        told = model.predictor(batch.mask, previous=model.estimates(blind))(states, times)
        predict = model.sampling_predictor(batch.mask)
        first, second = predict(states, times), predict(states, times)
    for name, output in blind.items():
        for own, expected in ((first[name], output), (second[name], told[name])):
            torch.testing.assert_close(vars(own), vars(expected), rtol=0, atol=0)
    assert (told["positions"].mean - blind["positions"].mean).abs().max() > 1e-3


def test_charges_are_bins_and_unknown_ones_read_as_the_nearest():
    model = make_model(elements=CHARGE, data={"elements": ["H", "C", "O"]})
    codes = model.encode(make_batch(3))["elements"]
    assert torch.equal(codes, torch.tensor([0, 5, 7])[make_batch(3).elements])
    data = {"positions": torch.zeros(1, 9, 3), "elements": torch.arange(9)[None]}
    numbers = model.decode(data).atomic_numbers
    assert numbers[0].tolist() == [1, 1, 1, 6, 6, 6, 6, 8, 8]


def test_flows_follow_the_config():
    model = make_model(
        positions={"parameterisation": "noise", "t_min": 1e-3},
        elements={**CHARGE, "parameterisation": "preconditioned", "sigma_data": 0.7},
    )
    assert model.flows["positions"].parameterisation == NoisePrediction(t_min=1e-3)
    charge = model.flows["elements"]
    assert isinstance(charge, DiscretisedFlow)
    assert charge.parameterisation == PreconditionedPrediction(sigma_data=0.7)
    assert isinstance(make_model().flows["elements"], DiscreteFlow)


def test_padded_sizes():
    model = make_model()
    assert [model.padded_size(n) for n in (1, 5, 6, 9, 12)] == [5, 5, 9, 9, 12]


def test_too_few_bins_are_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"elements.bins: 9 bins .* data.elements goes up to 17"):
        make_model(elements=CHARGE, data={"elements": ["H", "Cl"]})
    folder = tmp_path / "m"
    make_model(elements=CHARGE).save(folder)
    edit(folder, lambda header: header["config"]["data"].update(elements=["H", "Cl"]))
    with pytest.raises(UserError, match=r"config.json: elements.bins"):
        load_model(folder)


def edit(folder: Path, change) -> None:
    path = folder / "config.json"
    header = json.loads(path.read_text())
    change(header)
    path.write_text(json.dumps(header))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda h: h.update(format=2), r"field 'format' is 2, this molbfn reads 1"),
        (lambda h: h.pop("format"), r"not the config of a molbfn model"),
        (lambda h: h.pop("sizes"), r"field 'sizes' is missing"),
        (lambda h: h.update(sizes={"a": 1}), r"field 'sizes' needs whole numbers"),
        (lambda h: h.update(sizes={}), r"field 'sizes' needs whole numbers"),
        (lambda h: h.update(buckets=[0]), r"field 'buckets' needs whole numbers"),
        (lambda h: h.update(buckets=3), r"field 'buckets' is missing or not a list"),
        (lambda h: h["config"].update(nam="x"), r"unknown key 'nam'; did you mean 'name'"),
        (lambda h: h["config"]["positions"].update(scale=-1), r"'positions.scale': .*greater"),
        (
            lambda h: h["config"]["network"].update(width=32),
            r"model.safetensors: weight '.*' has shape \(.*\), config.json asks for \(.*\)",
        ),
        (lambda h: h["config"]["network"].update(blocks=2), r"weight 'blocks.1.* is missing"),
        (lambda h: h["config"].update(network=EGNN), r"weight '.*' (of|is not part)"),
    ],
)
def test_mismatches_name_the_field(tmp_path: Path, change, expected: str):
    make_model().save(tmp_path / "m")
    edit(tmp_path / "m", change)
    with pytest.raises(UserError, match=expected) as caught:
        load_model(tmp_path / "m")
    assert str(tmp_path / "m") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_superfluous_weights_are_named(tmp_path: Path):
    make_model().save(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    weights = load_file(path)
    missing = weights.pop("scalars_in.bias")
    save_file(weights, path)
    with pytest.raises(UserError, match=r"weight 'scalars_in.bias' of the config is missing"):
        load_model(tmp_path / "m")
    save_file({**weights, "scalars_in.bias": missing, "other": missing.clone()}, path)
    with pytest.raises(UserError, match=r"weight 'other' is not part of the network"):
        load_model(tmp_path / "m")


def test_a_file_without_a_checksum_is_read(tmp_path: Path):
    model = make_model()
    model.save(tmp_path / "m")
    save_file(model.network.state_dict(), tmp_path / "m" / "model.safetensors")
    assert load_model(tmp_path / "m").fingerprint() == model.fingerprint()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:100],
        lambda data: data[:-50],
        lambda data: b"x" * len(data),
        lambda data: data[:-7] + bytes([data[-7] ^ 1]) + data[-6:],
    ],
    ids=["empty", "cut early", "cut late", "other", "one bit"],
)
def test_damaged_weights_are_refused(tmp_path: Path, damage):
    make_model().save(tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"model.safetensors: corrupted"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"a"', "\xff"])
def test_damaged_configs_are_refused(tmp_path: Path, text: str):
    make_model().save(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"config.json: not the config of a molbfn model"):
        load_model(tmp_path / "m")


def test_incomplete_folders_and_unknown_names(tmp_path: Path):
    make_model().save(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model.safetensors: missing"):
        load_model(tmp_path / "m")
    with pytest.raises(UserError, match="not a model folder"):
        load_model(tmp_path)
    with pytest.raises(UserError, match=r"no model named 'nosuch'.*bundled models"):
        load_model("nosuch")


@pytest.mark.parametrize("name", ["qm9", "qm9_small"])
def test_bundled_models_sample_as_their_configs_say(name):
    assert load_model(name).info.config.sampling == load_config(name).sampling


def test_bundled_models_load():
    for name in bundled_models():
        assert load_model(name).info.sizes


def test_a_full_disk_keeps_the_old_model(tmp_path: Path, monkeypatch):
    model = make_model()
    model.save(tmp_path / "m")
    print_before = model.fingerprint()

    def fsync(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", fsync)
    other = {name: value + 1 for name, value in model.network.state_dict().items()}
    with pytest.raises(UserError, match=r"cannot write .*model.safetensors: No space left"):
        model.save(tmp_path / "m", weights=other)
    monkeypatch.undo()
    assert load_model(tmp_path / "m").fingerprint() == print_before
    assert len(list((tmp_path / "m").iterdir())) == 2


def test_a_folder_that_is_a_file(tmp_path: Path):
    (tmp_path / "m").write_text("mine")
    with pytest.raises(UserError, match=r"cannot write .*m: "):
        make_model().save(tmp_path / "m")
    assert (tmp_path / "m").read_text() == "mine"


def test_checksums_see_names_and_bytes():
    a, b = torch.zeros(3), torch.ones((), dtype=torch.bfloat16)
    sums = {
        checksum({"x": a}),
        checksum({"y": a}),
        checksum({"x": a + 1e-30}),
        checksum({"x": a, "y": b}),
    }
    assert len(sums) == 4
    assert checksum({"x": a, "y": b}) == checksum({"y": b, "x": a})


def test_the_folder_of_a_run_is_taken_for_its_model(tmp_path: Path):
    make_model().save(tmp_path / "run" / "model")
    (tmp_path / "run" / "config.yaml").touch()
    assert load_model(tmp_path / "run").name == load_model(tmp_path / "run" / "model").name


def test_devices_are_named_as_on_the_command_line(tmp_path: Path, monkeypatch):
    make_model().save(tmp_path / "m")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load_model(tmp_path / "m", device="auto").device.type == "cpu"
    with pytest.raises(UserError, match="cuda: this machine has no usable CUDA GPU"):
        load_model(tmp_path / "m", device="cuda")


def test_a_model_of_before_with_charges_but_no_bonds_is_refused_in_words(tmp_path: Path):
    make_model(charges={}, bonds={}).save(tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    header = json.loads(path.read_text())
    header["config"]["bonds"] = None
    path.write_text(json.dumps(header))
    with pytest.raises(UserError, match=r"config.json: charges: goes with the section bonds"):
        load_model(tmp_path / "m")
