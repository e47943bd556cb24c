"""The training step: it learns, repeats itself, and refuses losses that are not finite."""

from __future__ import annotations

import traceback
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import bfn_core
import molbfn
from molbfn.data.batching import Gather, MoleculeBatch
from molbfn.data.store import MoleculeStore
from molbfn.errors import UserError
from molbfn.training.job import build_model
from molbfn.training.module import TrainingModule

PACKAGES = tuple(str(Path(package.__file__).parent) for package in (bfn_core, molbfn))
DEMO = Path(__file__).parents[3] / "data" / "demo.npz"


@pytest.fixture
def make_module(store, make_config):
    def make(**sections) -> TrainingModule:
        config = make_config(**sections)
        return TrainingModule(build_model(config, store), config)

    return make


@pytest.fixture
def batch(store, make_config):
    model = build_model(make_config(), store)
    return Gather(store, model.vocabulary)(np.arange(8), 6)


def test_eight_molecules_are_learned_by_heart(make_config):
    """What is left of the position loss is mostly orientation and numbering, which are random."""
    network = {"width": 48, "vectors": 16, "pair_width": 16, "message_width": 24, "dots": 8}
    network |= {"heads": 4, "blocks": 2, "distances": 16, "condition_width": 32}
    data = {"elements": ["H", "C", "N", "O", "F"]}
    demo = MoleculeStore.open(DEMO)
    config = make_config(data=data, network=network)
    module = TrainingModule(build_model(config, demo), config)
    rows = np.flatnonzero(demo.sizes == 8)[:8]
    batch = Gather(demo, module.model.vocabulary)(np.tile(rows, 4), 8)

    def measure() -> dict[str, float]:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            found = [module.loss(batch, generator) for _ in range(10)]
        return {name: float(sum(one[name] for one in found)) / 10 for name in found[0]}

    before, steps = measure(), 240
    optimiser = torch.optim.Adam(module.parameters())
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 8e-3 * min(1, (step + 1) / 30, (steps - step) / 80)
        optimiser.zero_grad()
        module.loss(batch, generator)["loss"].backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 2.0)
        optimiser.step()
    after = measure()
    assert after["loss"] < 0.5 * before["loss"]
    assert after["elements"] < 0.25 * before["elements"]
    assert after["positions"] < 0.75 * before["positions"]


def test_loss_is_the_weighted_sum_in_nats_per_atom(make_module, batch):
    module = make_module(loss={"positions": 2.0, "elements": 0.5})
    losses = module.loss(batch, torch.Generator().manual_seed(3))
    expected = 2.0 * losses["positions"] + 0.5 * losses["elements"]
    torch.testing.assert_close(losses["loss"], expected)
    twice = MoleculeBatch(
        *(torch.cat([each, each]) for each in (batch.positions, batch.elements, batch.mask))
    )
    # Per atom, not per batch: twice the molecules give about the same, not twice as much.
    double = module.loss(twice, torch.Generator().manual_seed(3))
    assert double["loss"] < 1.5 * losses["loss"]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_of_molecules_whose_classes_have_own_times(make_module, share: float):
    module = make_module(decoupled=share, data={"buckets": 2})
    mask = torch.ones(2000, 3, dtype=torch.bool)
    batch = MoleculeBatch(torch.zeros(2000, 3, 3), torch.zeros(2000, 3, dtype=torch.int64), mask)
    times = module._times(batch, torch.Generator().manual_seed(0))
    differ = (times["positions"] != times["elements"]).float().mean()
    assert differ == pytest.approx(share, abs=0.05)
    for t in times.values():
        assert ((t >= 0) & (t < 1)).all()
        counts = torch.histc(t, 10, 0, 1)
        assert counts.min() > 150  # each variable's times are uniform
    correlation = torch.corrcoef(torch.stack(list(times.values())))[0, 1]
    assert correlation == pytest.approx(1 - share, abs=0.1)


def test_a_batch_number_has_its_own_noise_that_does_not_change(make_module, batch):
    module, other = make_module(), make_module(training={"seed": 1})
    with torch.no_grad():
        one, again, two = (module.loss(batch, module._generator(0, k))["loss"] for k in (1, 1, 2))
        assert one == again
        assert one != two
        other.load_state_dict(module.state_dict())
        assert other.loss(batch, other._generator(0, 1))["loss"] != one


def test_training_steps_count_and_report(make_module, batch):
    module = make_module()
    total = module.training_step(batch, 0)
    assert module.batches_seen == 1
    assert torch.equal(total, module.latest["loss"])
    assert total.requires_grad
    assert not module.latest["loss"].requires_grad


@pytest.mark.parametrize("how", ["nan", "infinite constant"])
def test_a_loss_that_is_not_finite_moves_nothing(make_module, batch, monkeypatch, how: str):
    """An infinite constant has finite gradients: the gradient alone would not show it."""
    module = make_module(training={"bad_steps": 2})
    plain = module.loss

    def broken(*args):
        losses = plain(*args)
        added = torch.nan if how == "nan" else torch.inf
        return {**losses, "loss": losses["loss"] + added}

    optimiser = module.configure_optimizers()["optimizer"]
    module.training_step(batch, 0).backward()
    module.configure_gradient_clipping(optimiser)
    optimiser.step()  # moments exist, and would move the weights even with zero gradients
    before = [p.detach().clone() for p in module.parameters()]
    monkeypatch.setattr(module, "loss", broken)
    for expected in (1, 2):
        optimiser.zero_grad()
        module.training_step(batch, 0).backward()
        module.configure_gradient_clipping(optimiser)
        optimiser.step()
        assert module.guard.bad_steps == expected
    for old, new in zip(before, module.parameters(), strict=True):
        assert torch.equal(old, new)
    module.training_step(batch, 0).backward()
    with pytest.raises(
        UserError,
        match=r"training.bad_steps: 3 steps .* \(limit 2\); lower .*start_from: RUN/model",
    ):
        module.configure_gradient_clipping(optimiser)


def test_checkpoint_state_comes_back(make_module, batch):
    module, other = make_module(), make_module()
    module.training_step(batch, 0)
    module.guard.load_state_dict({"norms": [], "bad_steps": 3})
    module._trainer = SimpleNamespace(world_size=2)
    checkpoint: dict = {}
    module.on_save_checkpoint(checkpoint)
    assert checkpoint["processes"] == 2
    other.on_load_checkpoint(checkpoint)
    assert (other.batches_seen, other.guard.bad_steps) == (1, 3)
    assert checkpoint["config"]["name"] == "tiny"


class Read(TorchDispatchMode):
    """Counts the numbers that Python reads from tensors, by the file of ours that does it.

    What torch's own kernels read (the step counts of a fused AdamW on a CPU) does not pass here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.by: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name() == "aten::_local_scalar_dense":
            files = [frame.filename for frame in traceback.extract_stack()]
            ours = [file for file in files if file.startswith(PACKAGES)]
            self.by["/".join(Path(ours[-1]).parts[-2:])] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_a_training_step_on_a_cpu_reads_one_number_besides_checks_of_ranges(
    make_module, batch, optimiser: str
):
    """Which costs nothing there: the number of bad steps.  It was three, and three of the EMA."""
    module = make_module(training={"optimiser": optimiser})
    steps = module.configure_optimizers()["optimizer"]
    with Read() as read:
        module.training_step(batch, 0).backward()
        module.configure_gradient_clipping(steps)
        steps.step()
    del read.by["bfn_core/tensors.py"]  # ranges, which are looked at on the CPU only
    assert read.by == {"training/clipping.py": 1}


@pytest.mark.parametrize("self_conditioning", [False, True])
def test_a_training_step_elsewhere_reads_nothing(
    make_module, batch, monkeypatch, self_conditioning: bool
):
    """Tensors of the meta device have no numbers: whoever wants one is refused."""
    module = make_module(self_conditioning=self_conditioning, training={"optimiser": "muon"})
    module = module.to("meta")
    module._trainer = SimpleNamespace(global_step=0, global_rank=0)
    steps = module.configure_optimizers()["optimizer"]
    monkeypatch.setattr(module, "_generator", lambda *_, **__: torch.Generator())
    # There is no autocast on meta to be switched off.
    monkeypatch.setattr("molbfn.networks.transformer.without_autocast", lambda _: nullcontext())
    total = module.training_step(batch.to("meta"), 0)
    total.backward()
    module.configure_gradient_clipping(steps)
    muon = steps._parts[0]
    muon.found_inf = steps.found_inf
    muon.step()  # the other part, torch's fused AdamW, does not run on meta
    assert module.gradient_norm.is_meta
    with pytest.raises(RuntimeError, match="meta"):
        module.guard.bad_steps  # noqa: B018  what would be refused in the step, too


def test_elsewhere_bad_steps_are_counted_when_the_log_is_due_and_before_a_checkpoint(
    make_module, monkeypatch
):
    module = make_module(training={"bad_steps": 0, "log_steps": 3})
    monkeypatch.setattr(TrainingModule, "device", torch.device("cuda"))  # the weights stay
    optimiser = module.configure_optimizers()["optimizer"]
    for step in range(3):
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, torch.nan)
        module._trainer = SimpleNamespace(global_step=step, world_size=1)
        if step < 2:
            module.configure_gradient_clipping(optimiser)
            with pytest.raises(UserError, match=rf"training.bad_steps: {step + 1} steps"):
                module.on_save_checkpoint({})
    with pytest.raises(UserError, match=r"training.bad_steps: 3 steps"):
        module.configure_gradient_clipping(optimiser)


def test_validation_noise_is_not_training_noise(store, make_config):
    config = make_config()
    module = TrainingModule(build_model(config, store), config)
    draws = [
        tuple(torch.rand(4, generator=module._generator(kind, number, rank=rank)).tolist())
        for kind in range(2)
        for number in range(20)
        for rank in range(3)
    ]
    assert len(set(draws)) == len(draws)


def test_a_validation_batch_counts_by_its_atoms_and_once(make_module, batch):
    module = make_module()
    module._trainer = SimpleNamespace(datamodule=SimpleNamespace(validation_batches=3))
    assert module.weight(batch, 2) == int(batch.mask.sum()) > len(batch.mask)
    assert module.weight(batch, 3) == 0
