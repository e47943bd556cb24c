"""The training step: data, times, flow, network, loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bfn_core import low_discrepancy_times
from bfn_core.flows.base import State
from molbfn.config import Config
from molbfn.data.batching import MoleculeBatch
from molbfn.model import MoleculeModel
from molbfn.training.base import BFNModule


class TrainingModule(BFNModule):
    """Minimises the continuous-time losses of all variables, nats per atom.

    The noise of a batch depends on (seed, batch number, rank) only, so a resumed run repeats the
    one that was interrupted.

    Args:
        model: what is trained; its weights are changed in place.
        config: the experiment.
    """

    model: MoleculeModel
    config: Config
    else_begin = (
        "; where that stops again, begin a new run from the averaged weights, training.start_from: "
        "RUN/model"
    )

    def count(self, batch: MoleculeBatch) -> int:
        return len(batch.mask)

    def weight(self, batch: MoleculeBatch, number: int) -> int:
        """Return its atoms, the loss being per atom; nothing for a batch that comes again."""
        again = number >= self.trainer.datamodule.validation_batches
        return 0 if again else int(batch.mask.sum())

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
        # Python decides by it, so it is drawn where nothing has to be waited for.
        on_cpu = generator.device.type == "cpu"
        host = generator if on_cpu else torch.Generator().manual_seed(generator.initial_seed())
        if torch.rand((), generator=host) < 0.5:
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
