"""A tensor field network: features of degree 0, 1 and 2, tensor products with spherical harmonics.

Built on e3nn (Geiger and Smidt, arXiv 2207.09453), in the manner of tensor field networks (Thomas
et al., arXiv 1802.08219): a neighbour's features times the spherical harmonics of the direction to
it, each path weighted by a function of the distance.  Features have the parity of polar tensors
(0e, 1o, 2e), so the network is equivariant to rotations and reflections: it cannot tell mirror
images apart.  It sees more of angles in one layer than the transformer, and costs more.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from e3nn import o3
from e3nn.nn import Gate
from torch import Tensor, nn

from bfn_core.tensors import centre, without_autocast
from molbfn.networks.transformer import (
    BondReadout,
    DistanceFeatures,
    TimeEmbedding,
    both,
    symmetric_pairs,
    variables_of,
    zero_linear,
)

_HARMONICS = o3.Irreps.spherical_harmonics(2)


class TensorFieldNetwork(nn.Module):
    """The interface of `molbfn.networks.transformer.EquivariantTransformer`, on tensor products.

    Args:
        elements_in: channels of ``inputs["elements"]``.
        elements_out: channels of the raw element output.
        charges: classes of formal charges, in and out; 0: no such variable.
        bonds: classes of bond orders, in and out; 0: no such variable.
        scalars, vectors, tensors: channels of degree 0, 1 and 2.
        layers: number of interaction layers.
        radial_width: width of the functions of the distance.
        distances: Gaussians in the distance features.
        time_features: sine and cosine pairs per time.
        condition_width: width of the time conditioning.
    """

    def __init__(
        self,
        *,
        elements_in: int,
        elements_out: int,
        charges: int = 0,
        bonds: int = 0,
        scalars: int = 96,
        vectors: int = 32,
        tensors: int = 16,
        layers: int = 4,
        radial_width: int = 64,
        distances: int = 24,
        time_features: int = 16,
        condition_width: int = 96,
    ) -> None:
        super().__init__()
        self.variables = variables_of(charges=charges, bonds=bonds)
        self.time_embedding = TimeEmbedding(
            times=len(self.variables), features=time_features, width=condition_width
        )
        self.distance_features = DistanceFeatures(distances)
        self.scalars_in = nn.Linear(elements_in + charges + condition_width, scalars)
        hidden = o3.Irreps(f"{scalars}x0e + {vectors}x1o + {tensors}x2e")
        self._scalars = scalars
        self._further = hidden.dim - scalars
        self.harmonics = o3.SphericalHarmonics(
            _HARMONICS, normalize=True, normalization="component"
        )
        self.blocks = nn.ModuleList(
            Interaction(
                hidden,
                pair_features=distances + bonds,
                radial_width=radial_width,
                condition_width=condition_width,
            )
            for _ in range(layers)
        )
        self.norm_out = nn.LayerNorm(scalars)
        self.positions_out = o3.Linear(hidden, "1x1o")
        self.elements_out = zero_linear(scalars, elements_out)
        self.charges_out = zero_linear(scalars, charges) if charges else None
        self.pairs_out = nn.Linear(distances + bonds, radial_width) if bonds else None
        self.bonds_out = BondReadout(scalars, radial_width, bonds) if bonds else None
        nn.init.zeros_(self.positions_out.weight)

    def forward(
        self, inputs: Mapping[str, Tensor], t: Mapping[str, Tensor], mask: Tensor
    ) -> dict[str, Tensor]:
        """Return raw outputs; arguments and shapes as for the transformer."""
        x, weight = inputs["positions"], mask.unsqueeze(-1)
        condition = self.time_embedding([t[name] for name in self.variables])
        pairs = both(mask) & ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        offset = x[:, None] - x[:, :, None]
        # The small constant keeps the gradient finite for coincident atoms, whose direction is 0.
        distance = torch.sqrt(offset.square().sum(-1) + 1e-12)
        features = self.distance_features(distance)
        if self.bonds_out is not None:
            features = torch.cat([features, symmetric_pairs(inputs["bonds"], mask)], -1)
        harmonics = self.harmonics(offset / distance[..., None])
        h = self._start(inputs, condition, weight)
        for block in self.blocks:
            h = block(h, harmonics, features, pairs=pairs, condition=condition)
        # e3nn's products mix dtypes under autocast.
        with without_autocast(h):
            outputs = {"positions": centre(self.positions_out(h), mask)}
        scalars = self.norm_out(h[..., : self._scalars])
        outputs["elements"] = self.elements_out(scalars) * weight
        if self.charges_out is not None:
            outputs["charges"] = self.charges_out(scalars) * weight
        if self.bonds_out is not None and self.pairs_out is not None:
            logits = self.bonds_out(scalars, self.pairs_out(features))
            outputs["bonds"] = logits * both(mask)[..., None]
        return outputs

    def hidden_matrices(self) -> list[nn.Parameter]:
        """Return the weights that map hidden features to hidden features (e3nn's are flat)."""
        return [
            parameter
            for name, parameter in self.blocks.named_parameters()
            if parameter.ndim == 2 and ".modulation." not in name
        ]

    def _start(self, inputs: Mapping[str, Tensor], condition: Tensor, weight: Tensor) -> Tensor:
        expanded = condition[:, None].expand(-1, weight.shape[1], -1)
        beliefs = [inputs[name] for name in ("elements", "charges") if name in self.variables]
        scalars = self.scalars_in(torch.cat([*beliefs, expanded], -1)) * weight
        scalars = scalars.to(inputs["positions"].dtype)
        zeros = scalars.new_zeros(*scalars.shape[:-1], self._further)
        return torch.cat([scalars, zeros], -1)


class Interaction(nn.Module):
    """Messages by weighted tensor products, then a gated nonlinearity, added to what was there."""

    def __init__(
        self, hidden: o3.Irreps, *, pair_features: int, radial_width: int, condition_width: int
    ) -> None:
        super().__init__()
        scalars = hidden[0].mul
        self._scalars = scalars
        self.modulation = zero_linear(condition_width, 2 * scalars)
        self.norm = nn.LayerNorm(scalars, elementwise_affine=False)
        self.up = o3.Linear(hidden, hidden)
        self.product = _depthwise_product(hidden)
        self.radial = nn.Sequential(
            nn.Linear(pair_features + condition_width, radial_width),
            nn.SiLU(),
            nn.Linear(radial_width, radial_width),
            nn.SiLU(),
            nn.Linear(radial_width, self.product.weight_numel),
        )
        rest = hidden[1:]
        gates = o3.Irreps(f"{sum(part.mul for part in rest)}x0e")
        self.gate = Gate(
            f"{scalars}x0e", [nn.functional.silu], gates, [torch.sigmoid], o3.Irreps(rest)
        )
        self.down = o3.Linear(self.product.irreps_out.simplify(), self.gate.irreps_in)
        self.own = o3.Linear(hidden, self.gate.irreps_in)
        self.out = o3.Linear(self.gate.irreps_out, hidden)

    def forward(
        self, h: Tensor, harmonics: Tensor, features: Tensor, *, pairs: Tensor, condition: Tensor
    ) -> Tensor:
        """h [B, N, irreps], harmonics [B, N, N, 9], features [B, N, N, F] -> h."""
        shift, scale = self.modulation(condition)[:, None].chunk(2, -1)
        scalars = self.norm(h[..., : self._scalars]) * (1 + scale) + shift
        scalars = scalars.to(h.dtype)
        normed = torch.cat([scalars, h[..., self._scalars :]], -1)
        atoms = h.shape[1]
        conditions = condition[:, None, None].expand(-1, atoms, atoms, -1)
        weights = self.radial(torch.cat([features, conditions], -1)) * pairs[..., None]
        with without_autocast(h):
            neighbours = self.up(normed)[:, None].expand(-1, atoms, -1, -1)
            messages = self.product(neighbours, harmonics, weights.to(h.dtype))
            # Divided by a constant, not by the number of atoms: a neighbour counts alike in all.
            received = messages.sum(2) / 4
            return h + self.out(self.gate(self.down(received) + self.own(normed)))


def _depthwise_product(hidden: o3.Irreps) -> o3.TensorProduct:
    """Return all paths from features and harmonics to features, channel by channel."""
    outputs: list[tuple[int, o3.Irrep]] = []
    instructions: list[tuple[int, int, int, str, bool]] = []
    for i, (channels, left) in enumerate(hidden):
        for j, (_, right) in enumerate(_HARMONICS):
            for irrep in left * right:
                if irrep in hidden:
                    instructions.append((i, j, len(outputs), "uvu", True))
                    outputs.append((channels, irrep))
    irreps, order, _ = o3.Irreps(outputs).sort()
    instructions = [(i, j, order[k], mode, train) for i, j, k, mode, train in instructions]
    instructions.sort(key=lambda instruction: instruction[2])
    return o3.TensorProduct(
        hidden, _HARMONICS, irreps, instructions, shared_weights=False, internal_weights=False
    )
