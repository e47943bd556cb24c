"""GeoBFN's network: an E(n)-equivariant graph network, evaluated on dense padded batches.

Sources: Song et al., "Unified generative modeling of 3D molecules with Bayesian flow networks"
(GeoBFN, arXiv 2403.15441), section 4 and appendix B for the sizes; Satorras, Hoogeboom & Welling,
"E(n) equivariant graph neural networks" (arXiv 2102.09844), Eqs. 3 to 6; Hoogeboom et al., EDM
(arXiv 2203.17003), appendix B, for the form of the block that GeoBFN uses.

The published form works on a list of edges and concatenates ``[h_i, h_j, d_ij, d0_ij]`` for each.
Here the first linear map of every edge is split by columns, ``W1 [h_i, h_j, d, d0] + b =
(A h_i + b) + B h_j + c d + c0 d0``: A and B act once per atom instead of once per pair, nothing is
gathered or concatenated, and the function and its parameters are the same.

GeoBFN generates positions and elements.  Formal charges and bond orders are ours: charges enter
with the elements, bonds with the distances of every block, through maps that are zero at first, and
leave by readouts of the nodes and of :class:`~molbfn.networks.transformer.BondReadout`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from molbfn.errors import UserError
from molbfn.networks.transformer import (
    BondReadout,
    DistanceFeatures,
    both,
    symmetric_pairs,
    zero_linear,
)

# Keeps the gradient of a distance finite where two atoms coincide (EDM uses the same value).
_SQUARED_DISTANCE_FLOOR = 1e-8
_COORDINATE_GAIN = 1e-3
# Added to |x_i - x_j| where the direction is normalised.
_DISTANCE_OFFSET = 1.0
# Of the bonds' readout: Gaussians on a distance, and channels of a pair.
_READOUT_DISTANCES = 24
_READOUT_WIDTH = 64


class GaussianFeatures(nn.Module):
    """Normalised Gaussian basis of one number (GeoBFN section 4.3, the "basis" of its charges).

    ``phi_j = exp(-((value - c_j) / w)^2 / 2)``, centres ``linspace(-extent, extent, count)``, width
    ``w = 2 extent / count``; the features are divided by their sum and mapped to ``2 phi - 1``.
    """

    def __init__(self, count: int = 16, extent: float = 2.0) -> None:
        super().__init__()
        self.width = 2.0 * extent / count
        self.register_buffer("centres", torch.linspace(-extent, extent, count))

    def forward(self, value: Tensor) -> Tensor:
        """Map ``value`` [..., 1] to features [..., count] in [-1, 1]."""
        # Dividing Gaussians by their sum is a softmax of the exponents, and that cannot be 0 / 0.
        exponents = -0.5 * ((value - self.centres) / self.width).square()
        return 2.0 * exponents.softmax(dim=-1) - 1.0


class PairLinear(nn.Linear):
    """Linear map of ``[h_i, h_j, d_ij, d0_ij]``, stored as one weight and applied in its parts.

    Bonds, of ``bonds`` classes if any, have a weight of their own, at first zero, so that a network
    without them can be taken further (see `molbfn.training.start`).
    """

    def __init__(self, hidden: int, bonds: int = 0) -> None:
        super().__init__(2 * hidden + 2, hidden)
        self.hidden = hidden
        self.bonds = zero_linear(bonds, hidden, bias=False) if bonds else None

    def forward(self, h: Tensor, pair: Tensor) -> Tensor:
        """Return [B, N, N, hidden] of node states and pair features.

        Args:
            h: [B, N, hidden].
            pair: ``(d, d0)`` and bonds, [B, N, N, 2 + bonds].
        """
        receiver, sender, radial = self.weight.split((self.hidden, self.hidden, 2), dim=1)
        if self.bonds is not None:
            radial = torch.cat((radial, self.bonds.weight), dim=1)
        from_receiver = functional.linear(h, receiver, self.bias).unsqueeze(2)
        from_sender = functional.linear(h, sender).unsqueeze(1)
        return functional.linear(pair, radial) + from_receiver + from_sender


class EdgeLinear(nn.Linear):
    """``nn.Linear`` for pair states, with the bias added apart.

    A compiler then fuses the bias with the activation that follows; inside the matrix product it
    would first be copied into every row (10 % of a compiled bf16 call on a CPU).
    """

    def forward(self, pair: Tensor) -> Tensor:
        """Return [..., out_features] of ``pair`` [..., in_features]."""
        product = functional.linear(pair, self.weight)
        return product + self.bias.to(product.dtype)


class EGNNBlock(nn.Module):
    """One layer: messages, node update, then coordinate update with the new node states."""

    def __init__(self, hidden: int, bonds: int = 0) -> None:
        super().__init__()
        self.edge_in = PairLinear(hidden, bonds)
        self.edge_out = EdgeLinear(hidden, hidden)
        self.node_in = nn.Linear(2 * hidden, hidden)
        self.node_out = nn.Linear(hidden, hidden)
        self.coordinate_in = PairLinear(hidden, bonds)
        self.coordinate_hidden = EdgeLinear(hidden, hidden)
        self.coordinate_out = nn.Linear(hidden, 1, bias=False)
        # The network starts close to the identity on coordinates.
        nn.init.xavier_uniform_(self.coordinate_out.weight, gain=_COORDINATE_GAIN)

    def forward(
        self, h: Tensor, x: Tensor, fixed: Tensor, atoms: Tensor, pairs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the new ``h`` [B, N, hidden] and ``x`` [B, N, 3].

        Args:
            h: node states [B, N, hidden].
            x: positions [B, N, 3].
            fixed: pair features that are the same in every block, [B, N, N, 1 + bonds]: squared
                distances of the positions that entered the network, and bonds.
            atoms: 1 for an atom, 0 for padding [B, N, 1], in the dtype of ``x``.
            pairs: 1 for two different atoms, else 0 [B, N, N, 1], in the dtype of ``x``.
        """
        difference, squared = pair_geometry(x)
        pair = torch.cat((squared.unsqueeze(-1), fixed), dim=-1)
        silu = functional.silu
        messages = silu(self.edge_out(silu(self.edge_in(h, pair))))
        received = (messages * pairs.to(messages.dtype)).sum(dim=2)
        update = self.node_out(silu(self.node_in(torch.cat((h, received.to(h.dtype)), dim=-1))))
        h = h + update * atoms.to(update.dtype)
        step = silu(self.coordinate_hidden(silu(self.coordinate_in(h, pair))))
        weight = self.coordinate_out(step).to(x.dtype) * pairs
        length = (squared + _SQUARED_DISTANCE_FLOOR).sqrt() + _DISTANCE_OFFSET
        return h, x + (difference * (weight / length.unsqueeze(-1))).sum(dim=2)


class EGNN(nn.Module):
    """GeoBFN's EGNN: sum aggregation, no attention, SiLU, fully connected without self edges.

    At the QM9 settings (``elements_in=1, elements_out=2`` and the defaults) it has 5,338,882
    parameters, as the published network. Position outputs are equivariant to rotations and
    reflections and invariant to translations, all other outputs invariant to all of them.

    GeoBFN gives the network one time: that of ``"positions"``, which the variables share.

    Args:
        elements_in: columns of ``inputs["elements"]``.
        elements_out: columns of the element output; 2 (mean, log scale) for a discretised charge.
        charges: classes of formal charges, in and out; 0: no such variable.
        bonds: classes of bond orders, in and out; 0: no such variable.
        hidden: width of node and edge states.
        layers: number of blocks.
        charge_features: number of Gaussian features of the single input column (discretised
            charge, ``elements_in == 1``), or None to feed the element columns as they are.

    Raises:
        UserError: a size is not positive, or ``charge_features`` is set for several input columns.
    """

    def __init__(
        self,
        *,
        elements_in: int,
        elements_out: int,
        charges: int = 0,
        bonds: int = 0,
        hidden: int = 256,
        layers: int = 9,
        charge_features: int | None = 16,
    ) -> None:
        super().__init__()
        sizes = {
            "elements_in": elements_in,
            "elements_out": elements_out,
            "hidden": hidden,
            "layers": layers,
            "charge_features": 1 if charge_features is None else charge_features,
        }
        for name, size in sizes.items():
            if size < 1:
                raise UserError(f"EGNN: {name} is {size}, but must be at least 1")
        if charge_features is not None and elements_in != 1:
            raise UserError(
                f"EGNN: charge_features={charge_features} needs a discretised charge "
                f"(elements_in 1, not {elements_in}); set charge_features to null"
            )
        self.charge_basis = None if charge_features is None else GaussianFeatures(charge_features)
        columns = elements_in if charge_features is None else charge_features
        self.embed = nn.Linear(columns + 1, hidden)
        self.blocks = nn.ModuleList(EGNNBlock(hidden, bonds) for _ in range(layers))
        self.readout = nn.Linear(hidden, elements_out)
        self.charges_in = zero_linear(charges, hidden, bias=False) if charges else None
        self.charges_out = zero_linear(hidden, charges) if charges else None
        self.bonds_out = PairReadout(hidden, bonds) if bonds else None

    def forward(
        self, inputs: Mapping[str, Tensor], t: Mapping[str, Tensor], mask: Tensor
    ) -> dict[str, Tensor]:
        """Return the raw outputs of a padded batch; padding is exactly zero.

        Args:
            inputs: "positions" [B, N, 3] in network units, "elements" [B, N, elements_in], and
                if the network has them "charges" [B, N, charges] and "bonds" [B, N, N, bonds], of
                which the pairs i < j are read.
            t: times [B] in [0, 1]; that of "positions" is read.
            mask: bool [B, N], True for atoms.

        Returns:
            "positions" [B, N, 3]: ``x_L - x_in`` with zero mean over the atoms of a molecule;
            "elements" [B, N, elements_out]; "charges" [B, N, charges]; "bonds"
            [B, N, N, bonds], symmetric.
        """
        positions = inputs["positions"]
        atoms = mask.unsqueeze(-1).to(positions.dtype)
        pairs = different_atoms(mask).unsqueeze(-1).to(positions.dtype)
        start = positions * atoms
        h = self._embedded(inputs, t) * atoms
        x = start
        fixed = pair_geometry(x)[1].unsqueeze(-1)
        if self.bonds_out is not None:
            fixed = torch.cat((fixed, symmetric_pairs(inputs["bonds"], mask)), dim=-1)
        for block in self.blocks:
            h, x = block(h, x, fixed, atoms, pairs)
        count = atoms.sum(dim=1, keepdim=True).clamp(min=1.0)
        shift = (x - start) * atoms
        centred = (shift - shift.sum(dim=1, keepdim=True) / count) * atoms
        logits = self.readout(h)
        outputs = {"positions": centred, "elements": logits * atoms.to(logits.dtype)}
        if self.charges_out is not None:
            outputs["charges"] = self.charges_out(h) * mask.unsqueeze(-1)
        if self.bonds_out is not None:
            outputs["bonds"] = self.bonds_out(h, x, fixed) * both(mask).unsqueeze(-1)
        return outputs

    def hidden_matrices(self) -> list[nn.Parameter]:
        """Return the weights that map hidden features to hidden features."""
        return [
            parameter
            for name, parameter in self.blocks.named_parameters()
            if parameter.ndim == 2 and min(parameter.shape) > 1 and ".bonds." not in name
        ]

    def _embedded(self, inputs: Mapping[str, Tensor], t: Mapping[str, Tensor]) -> Tensor:
        """First states of the atoms [B, N, hidden]: of elements, the time and charges."""
        elements = inputs["elements"]
        columns = elements if self.charge_basis is None else self.charge_basis(elements)
        time = t["positions"].to(columns.dtype)[:, None, None].expand(-1, columns.shape[1], 1)
        h = self.embed(torch.cat((columns, time), dim=-1))
        return h if self.charges_in is None else h + self.charges_in(inputs["charges"])


class PairReadout(nn.Module):
    """Logits of bonds: pair states of distances and bonds, then :class:`BondReadout`."""

    def __init__(self, hidden: int, bonds: int) -> None:
        super().__init__()
        self.distance_features = DistanceFeatures(_READOUT_DISTANCES)
        self.pairs = nn.Linear(2 * _READOUT_DISTANCES + bonds, _READOUT_WIDTH)
        self.readout = BondReadout(hidden, _READOUT_WIDTH, bonds)

    def forward(self, h: Tensor, x: Tensor, fixed: Tensor) -> Tensor:
        """Return [B, N, N, bonds], symmetric.

        Args:
            h: last node states [B, N, hidden].
            x: last positions [B, N, 3].
            fixed: squared distances of the first positions, and bonds, [B, N, N, 1 + bonds].
        """
        initial, bonds = fixed.split((1, fixed.shape[-1] - 1), dim=-1)
        squared = torch.cat((pair_geometry(x)[1].unsqueeze(-1), initial), dim=-1)
        distances = self.distance_features((squared + _SQUARED_DISTANCE_FLOOR).sqrt())
        return self.readout(h, self.pairs(torch.cat((distances.flatten(3), bonds), dim=-1)))


def pair_geometry(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``x_i - x_j`` [B, N, N, 3] and ``|x_i - x_j|^2`` [B, N, N] of positions [B, N, 3]."""
    difference = x.unsqueeze(2) - x.unsqueeze(1)
    return difference, difference.square().sum(dim=-1)


def different_atoms(mask: Tensor) -> Tensor:
    """Return bool [B, N, N], True where i and j are two different atoms of ``mask`` [B, N]."""
    others = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return mask.unsqueeze(2) & mask.unsqueeze(1) & others
