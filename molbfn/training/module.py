"""The training step: data, times, flow, network, loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from bfn_core import low_discrepancy_times
from bfn_core.flows.base import State
from molbfn.config import Config, TrainingConfig
from molbfn.data.batching import MoleculeBatch
from molbfn.errors import UserError
from molbfn.model import MoleculeModel
from molbfn.training.clipping import GradientGuard
from molbfn.training.optimisers import build_optimiser

_VALIDATION = 1 << 40  # added to the seed, so that validation noise is not training noise


class TrainingModule(lightning.LightningModule):
    """Minimises the continuous-time losses of all variables, nats per atom.

    The noise of a batch depends on (seed, batch number, rank) only, so a resumed run repeats the
    one that was interrupted.

    Args:
        model: what is trained; its weights are changed in place.
        config: the experiment.

    Attributes:
        batches_seen: batches of this process so far, resumed runs included.
        latest: losses of the last batch, nats per atom.
        gradient_norm: of the last step, before clipping.
    """

    def __init__(self, model: MoleculeModel, config: Config) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.guard = GradientGuard(config.training.clip)
        self.batches_seen = 0
        self.latest: dict[str, Tensor] = {}
        self.gradient_norm = 0.0

    def configure_optimizers(self) -> dict[str, Any]:
        training, network = self.config.training, self.model.network
        optimiser = build_optimiser(network, network.hidden_matrices(), training)
        schedule = LambdaLR(optimiser, lambda step: learning_rate_factor(step, training))
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_train_start(self) -> None:
        """Set the learning rate from the config: a checkpoint brings back the run's before."""
        training, step = self.config.training, self.trainer.global_step
        schedule = self.trainer.lr_scheduler_configs[0].scheduler
        groups = self.trainer.optimizers[0].param_groups
        schedule.base_lrs = [training.learning_rate] * len(groups)
        for group in groups:
            group["initial_lr"] = training.learning_rate
            group["lr"] = training.learning_rate * learning_rate_factor(step, training)

    def loss(self, batch: MoleculeBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return each variable's loss in nats per atom, and their weighted sum as "loss"."""
        model, weights = self.model, self.config.loss
        data, masks = model.encode(batch), model.masks(batch.mask)
        times = self._times(batch, generator)
        states = model.flows.sample(data, times, mask=masks, generator=generator)
        previous = self._previous(batch.mask, states, times, generator)
        outputs = model.predictor(batch.mask, previous=previous)(states, times)
        losses = model.flows.continuous_time_loss(data, outputs, times, mask=masks)
        atoms = batch.mask.sum()
        per_atom = {name: loss.sum() / atoms for name, loss in losses.items()}
        total = sum(getattr(weights, name) * loss for name, loss in per_atom.items())
        return {**per_atom, "loss": total}

    def _previous(
        self,
        mask: Tensor,
        states: Mapping[str, State],
        times: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> dict[str, Tensor] | None:
        """Return a first estimate to condition on, for half of the batches."""
        if not self.config.self_conditioning:
            return None
        if torch.rand((), generator=generator, device=generator.device) < 0.5:
            return None
        with torch.no_grad():
            return self.model.estimates(self.model.predictor(mask)(states, times))

    def _times(self, batch: MoleculeBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw a time for each molecule, and for some another one for their classes."""
        count, device = len(batch.mask), batch.mask.device
        t = low_discrepancy_times(count, generator=generator, device=device)
        times = self.model.flows.times(t)
        share = self.config.decoupled
        if not share:
            return times
        order = torch.randperm(count, generator=generator, device=device)
        other = low_discrepancy_times(count, generator=generator, device=device)[order]
        drawn = torch.rand(count, generator=generator, device=device) < share
        own = torch.where(drawn, other, t)
        return {name: t if name == "positions" else own for name in times}

    def training_step(self, batch: MoleculeBatch, batch_idx: int) -> Tensor:
        losses = self.loss(batch, self._generator(self.batches_seen))
        self.batches_seen += 1
        self.latest = {name: value.detach() for name, value in losses.items()}
        total = losses["loss"]
        # An infinite loss can have finite gradients.  Times NaN, it has none, on any process.
        return total * torch.where(total.detach().isfinite(), 1.0, torch.nan)

    def validation_step(self, batch: MoleculeBatch, batch_idx: int) -> None:
        losses = self.loss(batch, self._generator(_VALIDATION + batch_idx))
        self.log_dict(
            {f"valid/{name}": value for name, value in losses.items()},
            batch_size=len(batch.mask),
            sync_dist=True,
            logger=False,  # RunLog writes it, with the right step
        )

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Clip; skip a step that is not finite; stop when there are too many of them."""
        self.gradient_norm = float(self.guard(self.parameters()))
        limit = self.config.training.bad_steps
        if self.guard.bad_steps > limit:
            raise UserError(
                f"training.bad_steps: {self.guard.bad_steps} steps had a loss or gradient that is "
                f"not finite (limit {limit}); lower training.learning_rate or use "
                f"training.precision: fp32, then resume from the last checkpoint"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["batches_seen"] = self.batches_seen
        checkpoint["guard"] = self.guard.state_dict()
        checkpoint["config"] = self.config.model_dump(mode="json")
        checkpoint["started_from"] = self.model.info.provenance.get("started_from")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.batches_seen = checkpoint["batches_seen"]
        self.guard.load_state_dict(checkpoint["guard"])

    def _generator(self, number: int) -> torch.Generator:
        generator = torch.Generator(device=self.device)
        rank = self.global_rank
        seed = (self.config.training.seed * 1_000_003 + number) * 1_009 + rank
        return generator.manual_seed(seed % (1 << 63))


def learning_rate_factor(step: int, training: TrainingConfig) -> float:
    """Linear warm-up, constant, then linear decay to zero over the last ``decay_fraction``.

    The constant part does not depend on ``steps``, so a run can be prolonged, or ended early by
    decaying from any of its checkpoints, and equal one that was planned so.
    """
    rise = (step + 1) / training.warmup_steps if training.warmup_steps else 1.0
    decay = training.decay_fraction * training.steps
    fall = (training.steps - step) / decay if decay else 1.0
    return max(0.0, min(1.0, rise, fall))
