"""GeoBFN's EGNN in its published edge-list form. It exists only as the baseline.

`molbfn.networks.egnn.EGNN` computes the same function on dense batches; the speed comparison
(``scripts/bench_networks.py``) and the tests measure it against this one. Nothing else uses it.
Written from the equations in Satorras et al. (arXiv 2102.09844), Eqs. 3 to 6, and GeoBFN
(arXiv 2403.15441), section 4: every edge (i, j) of every molecule concatenates
``[h_i, h_j, d_ij, d0_ij]`` before the first linear map, and messages are gathered and scattered.
Parameter names are those of `EGNN`, so ``load_state_dict`` copies weights between the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class EdgeListBatch:
    """Molecules laid end to end, A atoms in all, with E directed edges inside molecules.

    positions: [A, 3], network units; charge: [A, 1]; t: [A], the time of each atom's molecule;
    edges: int64 [2, E], receiver i and sender j; molecule: int64 [A], index of the molecule;
    molecules: their number.
    """

    positions: Tensor
    charge: Tensor
    t: Tensor
    edges: Tensor
    molecule: Tensor
    molecules: int


def fully_connected_edges(sizes: list[int]) -> Tensor:
    """Return int64 [2, E]: all ordered pairs of different atoms inside each molecule."""
    edges, first = [], 0
    for size in sizes:
        receiver = torch.arange(size).repeat_interleave(size)
        sender = torch.arange(size).repeat(size)
        keep = receiver != sender
        edges.append(torch.stack((receiver[keep], sender[keep])) + first)
        first += size
    return torch.cat(edges, dim=1)


def segment_sum(values: Tensor, index: Tensor, segments: int) -> Tensor:
    """Sum rows of ``values`` [E, C] with equal ``index`` [E] into [segments, C]."""
    rows = index[:, None].expand_as(values)
    return values.new_zeros(segments, values.shape[1]).scatter_add(0, rows, values)


class EdgeListBlock(nn.Module):
    """One layer on an edge list: messages, node update, coordinate update."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.edge_in = nn.Linear(2 * hidden + 2, hidden)
        self.edge_out = nn.Linear(hidden, hidden)
        self.node_in = nn.Linear(2 * hidden, hidden)
        self.node_out = nn.Linear(hidden, hidden)
        self.coordinate_in = nn.Linear(2 * hidden + 2, hidden)
        self.coordinate_hidden = nn.Linear(hidden, hidden)
        self.coordinate_out = nn.Linear(hidden, 1, bias=False)
        self.act = nn.SiLU()
        nn.init.xavier_uniform_(self.coordinate_out.weight, gain=1e-3)

    def forward(
        self, h: Tensor, x: Tensor, edges: Tensor, initial: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return new ``h`` [A, hidden], ``x`` [A, 3]; ``initial``: input distances^2 [E, 1]."""
        i, j = edges
        difference = x[i] - x[j]
        squared = (difference**2).sum(dim=1, keepdim=True)
        direction = difference / (torch.sqrt(squared + 1e-8) + 1.0)

        pair = torch.cat([h[i], h[j], squared, initial], dim=1)
        message = self.act(self.edge_out(self.act(self.edge_in(pair))))
        total = segment_sum(message, i, h.shape[0])
        h = h + self.node_out(self.act(self.node_in(torch.cat([h, total], dim=1))))

        pair = torch.cat([h[i], h[j], squared, initial], dim=1)
        weight = self.coordinate_out(
            self.act(self.coordinate_hidden(self.act(self.coordinate_in(pair))))
        )
        return h, x + segment_sum(direction * weight, i, x.shape[0])


class EdgeListEGNN(nn.Module):
    """The published network for one charge column: 16 Gaussian features and t in, 2 numbers out."""

    def __init__(self, *, hidden: int = 256, layers: int = 9, charge_features: int = 16) -> None:
        super().__init__()
        self.charge_basis = nn.Module()
        self.charge_basis.register_buffer("centres", torch.linspace(-2.0, 2.0, charge_features))
        self.embed = nn.Linear(charge_features + 1, hidden)
        self.blocks = nn.ModuleList(EdgeListBlock(hidden) for _ in range(layers))
        self.readout = nn.Linear(hidden, 2)

    def forward(self, batch: EdgeListBatch) -> tuple[Tensor, Tensor]:
        """Return centred position outputs [A, 3] and charge outputs [A, 2] (mean, log scale)."""
        centres = self.charge_basis.centres
        width = 4.0 / centres.numel()
        basis = torch.exp(-0.5 * ((batch.charge - centres) / width) ** 2)
        basis = 2.0 * basis / basis.sum(dim=1, keepdim=True) - 1.0
        h = self.embed(torch.cat([basis, batch.t[:, None]], dim=1))

        i, j = batch.edges
        x = batch.positions
        initial = ((x[i] - x[j]) ** 2).sum(dim=1, keepdim=True)
        for block in self.blocks:
            h, x = block(h, x, batch.edges, initial)
        shift = x - batch.positions
        count = torch.bincount(batch.molecule, minlength=batch.molecules).to(shift.dtype)
        mean = segment_sum(shift, batch.molecule, batch.molecules) / count[:, None]
        return shift - mean[batch.molecule], self.readout(h)


class EdgeListNetwork(nn.Module):
    """The published form behind the interface of `EGNN`, to sample with."""

    def __init__(self, published: EdgeListEGNN) -> None:
        super().__init__()
        self.published = published

    def forward(
        self, inputs: Mapping[str, Tensor], t: Mapping[str, Tensor], mask: Tensor
    ) -> dict[str, Tensor]:
        """Return the raw outputs of a padded batch; arguments and shapes as for `EGNN`."""
        sizes = mask.sum(1)
        molecule = torch.arange(len(mask), device=mask.device).repeat_interleave(sizes)
        found = self.published(
            EdgeListBatch(
                positions=inputs["positions"][mask],
                charge=inputs["elements"][mask],
                t=t["positions"][molecule],
                edges=fully_connected_edges(sizes.tolist()).to(mask.device),
                molecule=molecule,
                molecules=len(mask),
            )
        )
        outputs = {}
        for name, value in zip(("positions", "elements"), found, strict=True):
            padded = value.new_zeros(*mask.shape, value.shape[-1])
            padded[mask] = value
            outputs[name] = padded
        return outputs
