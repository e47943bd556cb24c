"""An efficient E(3)-equivariant transformer: heavy nodes, narrow pairs, scalars and vectors.

Each atom carries scalars h and vectors v, each pair of atoms a narrow scalar state e.  The cost of
a molecule is in its N^2 pairs, so these are kept narrow (about 32 channels) and the atoms wide.
Scalars depend on distances and dot products only, vectors are linear in vectors: the network is
equivariant to rotations and reflections (it cannot tell mirror images apart), and to translations
because it is shown centred positions and returns centred vectors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from bfn_core.tensors import at_least_float32, centre, without_autocast
from molbfn.errors import UserError

_LONGEST = 100.0  # root of the mean squared length of an atom's vectors


class EquivariantTransformer(nn.Module):
    """Maps noisy positions and beliefs on elements, charges and bonds to raw outputs for all.

    Args:
        elements_in: channels of ``inputs["elements"]``.
        elements_out: channels of the raw element output.
        charges: classes of formal charges, in and out; 0: no such variable.
        bonds: classes of bond orders, in and out; 0: no such variable.
        self_conditioning: see also what was estimated before (:class:`PreviousEstimates`).
        width: scalar channels per atom.
        vectors: vector channels per atom; divisible by ``heads``.
        pair_width: channels of the pair state.
        message_width: channels of the pair message.
        dots: vector dot products per pair.
        heads: attention heads; divides ``width`` and ``vectors``.
        blocks: number of blocks.
        distances: Gaussians in the distance features.
        time_features: sine and cosine pairs per time.
        condition_width: width of the time conditioning.

    Shapes (see :meth:`forward`): positions [B, N, 3] in network units, elements
    [B, N, elements_in], charges [B, N, charges], bonds [B, N, N, bonds], times [B], mask [B, N].
    """

    def __init__(
        self,
        *,
        elements_in: int,
        elements_out: int,
        charges: int = 0,
        bonds: int = 0,
        self_conditioning: bool = False,
        width: int = 192,
        vectors: int = 32,
        pair_width: int = 32,
        message_width: int = 48,
        dots: int = 16,
        heads: int = 8,
        blocks: int = 6,
        distances: int = 24,
        time_features: int = 16,
        condition_width: int = 96,
    ) -> None:
        super().__init__()
        if width % heads or vectors % heads:
            raise UserError(
                f"network.heads: {heads} must divide width ({width}) and vectors ({vectors})"
            )
        self.variables = variables_of(charges=charges, bonds=bonds)
        self.time_embedding = TimeEmbedding(
            times=len(self.variables), features=time_features, width=condition_width
        )
        self.distance_features = DistanceFeatures(distances)
        self.scalars_in = nn.Linear(elements_in + condition_width, width)
        self.vectors_in = nn.Parameter(torch.randn(vectors) / math.sqrt(vectors))
        self.pairs_in = nn.Linear(distances, pair_width)
        # Further variables come in through maps of their own, at first zero, so that a network
        # without them can be taken further (see `molbfn.training.start`).
        self.charges_in = zero_linear(charges, width, bias=False) if charges else None
        self.bonds_in = zero_linear(bonds, pair_width, bias=False) if bonds else None
        self.previous = (
            PreviousEstimates(
                atom_channels=elements_in + charges,
                pair_channels=distances + bonds,
                width=width,
                vectors=vectors,
                pair_width=pair_width,
            )
            if self_conditioning
            else None
        )
        self.blocks = nn.ModuleList(
            Block(
                width=width,
                vectors=vectors,
                pair_width=pair_width,
                message_width=message_width,
                dots=dots,
                heads=heads,
                condition_width=condition_width,
            )
            for _ in range(blocks)
        )
        self.norm_out = nn.LayerNorm(width)
        self.elements_out = zero_linear(width, elements_out)
        self.positions_out = zero_linear(vectors, 1, bias=False)
        self.charges_out = zero_linear(width, charges) if charges else None
        self.bonds_out = BondReadout(width, pair_width, bonds) if bonds else None

    def forward(
        self, inputs: Mapping[str, Tensor], t: Mapping[str, Tensor], mask: Tensor
    ) -> dict[str, Tensor]:
        """Return raw outputs.

        Args:
            inputs: "positions" [B, N, 3], zero centre of mass; "elements" [B, N, elements_in];
                "charges" [B, N, charges]; "bonds" [B, N, N, bonds], of which i < j counts.  With
                self-conditioning also "previous_known" [B], 1 or 0, and, where that is 1, the
                estimate of each variable from before as "previous_NAME", shaped like its input.
            t: time [B] of each variable.
            mask: [B, N], True where there is an atom.

        Returns:
            "positions" [B, N, 3], zero centre of mass; "elements" [B, N, elements_out];
            "charges" [B, N, charges]; "bonds" [B, N, N, bonds], symmetric.  Padding is exactly
            zero in all of them.
        """
        x, weight = inputs["positions"], mask.unsqueeze(-1)
        condition = self.time_embedding([t[name] for name in self.variables])
        expanded = condition[:, None].expand(-1, x.shape[1], -1)
        h = self.scalars_in(torch.cat([inputs["elements"] * weight, expanded], -1)) * weight
        if self.charges_in is not None:
            h = h + self.charges_in(inputs["charges"] * weight)
        v = x[..., None] * self.vectors_in
        geometry = PairGeometry.of(x, mask)
        e = self.pairs_in(self.distance_features(geometry.distance))
        if self.bonds_in is not None:
            e = e + self.bonds_in(symmetric_pairs(inputs["bonds"], mask))
        if self.previous is not None:
            scalars, further, pairs = self.previous(
                inputs, self.distance_features, mask, self.variables
            )
            h, v, e = h + scalars, v + further, e + pairs
        for block in self.blocks:
            h, v, e = block(h, v, e, geometry=geometry, condition=condition)
        positions = self.positions_out(rms_norm(v)).squeeze(-1).to(x.dtype)
        h = self.norm_out(h)
        outputs = {
            "positions": centre(positions, mask),
            "elements": self.elements_out(h) * weight,
        }
        if self.charges_out is not None:
            outputs["charges"] = self.charges_out(h) * weight
        if self.bonds_out is not None:
            outputs["bonds"] = self.bonds_out(h, e) * both(mask)[..., None]
        return outputs

    def hidden_matrices(self) -> list[nn.Parameter]:
        """Return the weights that map hidden features to hidden features, time aside."""
        return [
            parameter
            for name, parameter in self.blocks.named_parameters()
            if parameter.ndim == 2 and ".modulation." not in name
        ]


class PreviousEstimates(nn.Module):
    """Self-conditioning: what the network estimated before, as additions to its first features.

    Chen et al. 2022 (arXiv 2208.04202).  All maps start at zero, so that a network without it can
    be taken further.
    """

    def __init__(
        self,
        *,
        atom_channels: int,
        pair_channels: int,
        width: int,
        vectors: int,
        pair_width: int,
    ) -> None:
        super().__init__()
        self.atoms = zero_linear(atom_channels, width, bias=False)
        self.vectors = nn.Parameter(torch.zeros(vectors))
        self.pairs = zero_linear(pair_channels, pair_width, bias=False)

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        distance_features: nn.Module,
        mask: Tensor,
        variables: tuple[str, ...],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what to add to h [B, N, C], v [B, N, 3, V] and e [B, N, N, P]."""
        known = inputs["previous_known"]
        weight = mask.unsqueeze(-1) * known[:, None, None]
        per_atom = [inputs[f"previous_{name}"] for name in ("elements", "charges")
                    if name in variables]  # fmt: skip
        x = inputs["previous_positions"] * weight
        distance = torch.sqrt((x[:, None] - x[:, :, None]).square().sum(-1) + 1e-12)
        pairs = [distance_features(distance)]
        if "bonds" in variables:
            pairs.append(symmetric_pairs(inputs["previous_bonds"], mask))
        return (
            self.atoms(torch.cat(per_atom, -1) * weight),
            x[..., None] * self.vectors,
            self.pairs(torch.cat(pairs, -1) * known[:, None, None, None]),
        )


class PairGeometry:
    """What every block needs to know about pairs: computed once.

    Attributes:
        distance: [B, N, N].
        direction: ``(x_j - x_i) / (1 + d_ij)``, [B, N, 3, N] (i, xyz, j), zero where either is
            padding.
        bias: [B, 1, 1, N], 0 for a real j and a large negative number for padding.
    """

    def __init__(self, distance: Tensor, direction: Tensor, bias: Tensor) -> None:
        self.distance = distance
        self.direction = direction
        self.bias = bias

    @classmethod
    def of(cls, x: Tensor, mask: Tensor) -> PairGeometry:
        offset = x.transpose(1, 2)[:, None] - x[..., None]
        # The small constant keeps the gradient finite on the diagonal and for coincident atoms.
        distance = torch.sqrt(offset.square().sum(2) + 1e-12)
        direction = offset * (both(mask) / (1 + distance))[:, :, None]
        bias = torch.where(mask, 0.0, -1e9).to(x.dtype)[:, None, None]
        return cls(distance, direction, bias)


class Block(nn.Module):
    """Pair messages, attention over neighbours, then a wide per-atom update."""

    def __init__(
        self,
        *,
        width: int,
        vectors: int,
        pair_width: int,
        message_width: int,
        dots: int,
        heads: int,
        condition_width: int,
    ) -> None:
        super().__init__()
        self.heads, self.vectors, self.pair_width = heads, vectors, pair_width
        self.modulation = nn.Linear(condition_width, 4 * width)
        self.norm_1 = nn.LayerNorm(width, elementwise_affine=False)
        self.norm_2 = nn.LayerNorm(width, elementwise_affine=False)
        self.queries = nn.Linear(vectors, dots, bias=False)
        self.keys = nn.Linear(vectors, dots, bias=False)
        self.nodes_to_message = nn.Linear(width, 2 * message_width)
        self.pairs_to_message = nn.Linear(pair_width + dots, message_width, bias=False)
        self.message_out = nn.Linear(message_width, 2 * heads + vectors + pair_width)
        self.values = nn.Linear(width, width)
        self.vector_values = nn.Linear(vectors, vectors, bias=False)
        self.scalars_update = nn.Linear(width, width)
        self.vectors_update = nn.Linear(2 * vectors, vectors, bias=False)
        self.mlp_in = nn.Linear(width + vectors, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width + vectors)
        self.vectors_mix = nn.Linear(vectors, vectors, bias=False)
        for last in (self.modulation, self.scalars_update, self.mlp_out):
            nn.init.zeros_(last.bias)
        nn.init.zeros_(self.modulation.weight)
        with torch.no_grad():
            self.scalars_update.weight.mul_(0.3)
            self.mlp_out.weight.mul_(0.3)

    def forward(
        self,
        h: Tensor,
        v: Tensor,
        e: Tensor,
        *,
        geometry: PairGeometry,
        condition: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """h [B, N, C], v [B, N, 3, V], e [B, N, N, P] -> the same shapes."""
        shift_1, scale_1, shift_2, scale_2 = self.modulation(condition)[:, None].chunk(4, -1)
        normed = self.norm_1(h) * (1 + scale_1) + shift_1
        inverse = inverse_rms(v)
        v, unit_v = bounded(v, inverse), v * inverse
        logits, gates, coefficients, pair_update = self._messages(normed, unit_v, e)
        weights = torch.softmax(at_least_float32(logits) + geometry.bias, dim=-1).to(logits.dtype)
        scalars = self._attend(weights, self.values(normed))
        gated = weights * torch.sigmoid(gates)
        moved = self._attend(gated, self.vector_values(unit_v).flatten(2), vectors=True)
        pushed = self._push(coefficients, geometry.direction)
        h = h + self.scalars_update(scalars)
        v = v + self.vectors_update(torch.cat([moved, pushed], -1))
        update = torch.cat([self.norm_2(h) * (1 + scale_2) + shift_2, norms(v)], -1)
        h_update, v_gate = self.mlp_out(silu(self.mlp_in(update))).split(
            [h.shape[-1], self.vectors], -1
        )
        v = v + self.vectors_mix(v) * v_gate[:, :, None, :]
        return h + h_update, v, e + pair_update

    def _messages(self, h: Tensor, v: Tensor, e: Tensor) -> tuple[Tensor, ...]:
        """Logits and gates [B, H, N, N], coefficients [B, N, N, V], pair update [B, N, N, P]."""
        own, other = self.nodes_to_message(h).chunk(2, -1)
        queries, keys = self.queries(v), self.keys(v)
        products = queries.permute(0, 3, 1, 2) @ keys.permute(0, 3, 2, 1)  # [B, dots, N, N]
        products = products.permute(0, 2, 3, 1).to(e.dtype)
        pairs = self.pairs_to_message(torch.cat([e, products], -1))
        message = silu(own[:, :, None] + other[:, None, :] + pairs)
        # One layer, applied in two parts: attention wants its neighbours last in memory, and a
        # product that writes them there costs less than moving them, or than a strided softmax.
        parts = [2 * self.heads, self.vectors + self.pair_width]
        attend, weight = self.message_out.weight.split(parts)
        attend_bias, bias = self.message_out.bias.split(parts)
        attention = torch.bmm(
            attend.expand(len(message), -1, -1), message.flatten(1, 2).transpose(1, 2)
        )
        attention = (attention + attend_bias[:, None]).unflatten(-1, message.shape[1:3])
        update = linear(message, weight, bias)
        return *attention.chunk(2, 1), *update.split([self.vectors, self.pair_width], -1)

    @staticmethod
    def _push(coefficients: Tensor, direction: Tensor) -> Tensor:
        """Sum directions over neighbours: [B, N, N, V], [B, N, 3, N] -> [B, N, 3, V].

        In the precision of the directions: their sum is small beside the terms.
        """
        with without_autocast(direction):
            return (direction @ coefficients.to(direction.dtype)).to(coefficients.dtype)

    def _attend(self, weights: Tensor, values: Tensor, *, vectors: bool = False) -> Tensor:
        """Sum values over neighbours: weights [B, H, N, N], values [B, N, C] or [B, N, 3 V]."""
        batch, atoms = values.shape[:2]
        if not vectors:
            split = values.view(batch, atoms, self.heads, -1).transpose(1, 2)
            return (weights @ split).transpose(1, 2).reshape(batch, atoms, -1)
        split = values.view(batch, atoms, 3, self.heads, -1).permute(0, 3, 1, 2, 4).flatten(3)
        total = (weights @ split).view(batch, self.heads, atoms, 3, -1)
        return total.permute(0, 2, 3, 1, 4).reshape(batch, atoms, 3, -1)


class BondReadout(nn.Module):
    """Logits of each pair's bond order from its pair state and the product of its atoms' states.

    Symmetric in the two atoms: h [B, N, C], e [B, N, N, P] -> [B, N, N, classes].
    """

    def __init__(self, width: int, pair_width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(pair_width)
        self.atoms = nn.Linear(width, pair_width)
        self.hidden = nn.Linear(2 * pair_width, 2 * pair_width)
        self.out = zero_linear(2 * pair_width, classes)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        state = self.norm(e + e.transpose(1, 2))
        atoms = self.atoms(h)
        products = atoms[:, :, None] * atoms[:, None, :]
        return self.out(silu(self.hidden(torch.cat([state.to(products.dtype), products], -1))))


class TimeEmbedding(nn.Module):
    """Sines and cosines of several times, then a small MLP: times [B] each -> [B, width].

    Times beyond the second have a first layer of their own, at first zero.
    """

    frequencies: Tensor

    def __init__(self, *, times: int, features: int, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi * torch.arange(1, features + 1))
        self.layers = nn.Sequential(
            nn.Linear(4 * features, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        further = 2 * (times - 2) * features
        self.further = zero_linear(further, width, bias=False) if further else None

    def forward(self, times: list[Tensor]) -> Tensor:
        first, *rest = self.layers
        hidden = first(self._features(times[:2]))
        if self.further is not None:
            hidden = hidden + self.further(self._features(times[2:]))
        for layer in rest:
            hidden = layer(hidden)
        return hidden

    def _features(self, times: list[Tensor]) -> Tensor:
        angles = torch.cat([t[:, None] * self.frequencies for t in times], -1)
        return torch.cat([angles.sin(), angles.cos()], -1)


class DistanceFeatures(nn.Module):
    """Gaussians, evenly spaced in ``exp(-d / 2)``: fine near contact, coarse far away."""

    centres: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.linspace(0, 1, count))
        self.inverse_width = float(count - 1)

    def forward(self, distance: Tensor) -> Tensor:
        """[...] -> [..., count]."""
        nearness = torch.exp(-0.5 * distance)[..., None]
        exponent = ((nearness - self.centres) * self.inverse_width).square()
        # exp(-87) is the last normal float32; a CPU takes ten times as long for what lies below.
        return torch.exp(-exponent.clamp(max=80))


def variables_of(*, charges: int, bonds: int) -> tuple[str, ...]:
    """Return the names of a network's variables, in order."""
    return ("positions", "elements", *(("charges",) * bool(charges)), *(("bonds",) * bool(bonds)))


def zero_linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """Return a linear layer that maps everything to zero at first."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def both(mask: Tensor) -> Tensor:
    """Return bool [B, N, N]: True where both atoms are in the mask [B, N]."""
    return mask[:, :, None] & mask[:, None, :]


def symmetric_pairs(values: Tensor, mask: Tensor) -> Tensor:
    """Repeat values [B, N, N, C] of the pairs i < j for j < i; zero on the diagonal and padding."""
    upper = values * both(mask).triu(1)[..., None]
    return upper + upper.transpose(1, 2)


def norms(v: Tensor) -> Tensor:
    """Length of each vector channel: v [B, N, 3, V] -> [B, N, V], smooth at zero."""
    return torch.sqrt(v.square().sum(2) + 1e-6)


def rms_norm(v: Tensor) -> Tensor:
    """Divide v [B, N, 3, V] by the root of its mean squared length over the channels."""
    return v * inverse_rms(v)


def bounded(v: Tensor, inverse: Tensor) -> Tensor:
    """Shorten v [B, N, 3, V] where the root of its mean squared length is above 100.

    The lengths of v scale v itself (:class:`Block`), so without a bound they can square from block
    to block, past what float32 holds, before the loss shows anything of it.  In trained networks
    they stay below 100 and nothing is changed.  ``inverse`` is :func:`inverse_rms` of v.
    """
    return v * (_LONGEST * inverse).clamp(max=1)


def inverse_rms(v: Tensor) -> Tensor:
    """1 / root of the mean squared length: v [B, N, 3, V] -> [B, N, 1, 1], smooth at zero."""
    return torch.rsqrt(v.square().sum(2).mean(-1) + 1e-4)[:, :, None, None]
