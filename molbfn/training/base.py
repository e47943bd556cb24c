"""What training any model takes: optimiser, schedule, clipping, and noise that can be repeated."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from molbfn.config import RunConfig
from molbfn.errors import UserError
from molbfn.seeds import numbered_seed
from molbfn.training.clipping import GradientGuard
from molbfn.training.optimisers import build_optimiser

_TRAINING, _VALIDATION = 0, 1  # kinds of noise


class BFNModule(lightning.LightningModule):
    """Minimises the loss that a subclass defines.

    The noise of a batch depends on (seed, batch number, rank) only, so a resumed run repeats the
    one that was interrupted.

    Args:
        model: what is trained; its ``network`` is changed in place.  It has ``info.provenance``,
            ``info.config`` (a pydantic model, which a saved one has in ``config.json``) and
            ``save(folder, weights=, progress=)``.
        config: the experiment; its ``training`` is a :class:`RunConfig`.

    Attributes:
        else_begin: what else can be done where the last checkpoint is no good already.
        batches_seen: batches of this process so far, resumed runs included.
        latest: losses of the last batch.
        gradient_norm: of the last step, before clipping; on the device.
    """

    else_begin = ""

    def __init__(self, model: nn.Module, config: Any) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.guard = GradientGuard(config.training.clip)
        self.batches_seen = 0
        self.latest: dict[str, Tensor] = {}
        self.gradient_norm = torch.zeros(())

    @abstractmethod
    def loss(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the losses to log, and what is minimised as "loss"."""

    @abstractmethod
    def count(self, batch: Any) -> int:
        """Return the number of samples in a batch."""

    def weight(self, batch: Any, number: int) -> int:
        """Return the weight of validation batch ``number`` (over all processes) in the mean."""
        return self.count(batch)

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

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self._begin_step()
        losses = self.loss(
            batch, self._generator(_TRAINING, self.batches_seen, rank=self.global_rank)
        )
        self.batches_seen += 1
        self.latest = {name: value.detach() for name, value in losses.items()}
        total = losses["loss"]
        # An infinite loss can have finite gradients.  Times NaN, it has none, on any process.
        return total * torch.where(total.detach().isfinite(), 1.0, torch.nan)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._begin_step()
        number = batch_idx * self.trainer.world_size + self.global_rank
        losses = self.loss(batch, self._generator(_VALIDATION, number))
        self.log_dict(
            {f"valid/{name}": value for name, value in losses.items()},
            batch_size=self.weight(batch, number),
            sync_dist=True,
            logger=False,  # RunLog writes it, with the right step
        )

    def _begin_step(self) -> None:
        """Let CUDA graphs, where there are any, write over the tensors of the last step.

        A step calls several blocks, some of them twice (self-conditioning): left to itself, torch
        takes a second call without gradients for the next step.
        """
        if self.config.training.compile_mode == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any
    ) -> None:
        """Clip; skip a step that is not finite; stop when there are too many of them.

        Their number is read after each step on a CPU, else when a line of the log is due, for
        which the GPU is waited for anyway, and before a checkpoint.
        """
        self.gradient_norm = self.guard(self.parameters(), optimizer)
        every = self.config.training.log_steps
        if self.device.type == "cpu" or (self.trainer.global_step + 1) % every == 0:
            self._check_bad_steps()

    def _check_bad_steps(self) -> None:
        found, limit = self.guard.bad_steps, self.config.training.bad_steps
        if found > limit:
            raise UserError(
                f"training.bad_steps: {found} steps had a loss or gradient that is "
                f"not finite (limit {limit}); lower training.learning_rate or use "
                f"training.precision: fp32, then resume from the last checkpoint{self.else_begin}"
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._check_bad_steps()
        checkpoint["batches_seen"] = self.batches_seen
        checkpoint["processes"] = self.trainer.world_size
        checkpoint["guard"] = self.guard.state_dict()
        checkpoint["config"] = self.config.model_dump(mode="json")
        provenance = self.model.info.provenance
        checkpoint["started_from"] = provenance.get("started_from")
        if "data_digest" in provenance:
            checkpoint["data"] = provenance["data_digest"]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.batches_seen = checkpoint["batches_seen"]
        self.guard.load_state_dict(checkpoint["guard"])

    def _generator(self, kind: int, number: int, *, rank: int = 0) -> torch.Generator:
        # A CPU generator keeps 32 bits of a seed, so these are hashed into as many.
        stream = numbered_seed(numbered_seed(self.config.training.seed, kind), rank)
        generator = torch.Generator(device=self.device)
        return generator.manual_seed(numbered_seed(stream, number))


def learning_rate_factor(step: int, training: RunConfig) -> float:
    """Linear warm-up, constant, then linear decay to zero over the last ``decay_fraction``.

    The constant part does not depend on ``steps``, so a run can be prolonged, or ended early by
    decaying from any of its checkpoints, and equal one that was planned so.
    """
    rise = (step + 1) / training.warmup_steps if training.warmup_steps else 1.0
    decay = training.decay_fraction * training.steps
    fall = (training.steps - step) / decay if decay else 1.0
    return max(0.0, min(1.0, rise, fall))
