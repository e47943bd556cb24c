"""The baseline against a loop over atoms that knows nothing of edges or tensors of messages."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import silu

from molbfn.benchmarks.edge_list import (
    EdgeListBatch,
    EdgeListEGNN,
    EdgeListNetwork,
    fully_connected_edges,
    segment_sum,
)
from molbfn.networks.egnn import EGNN


def one_molecule(network: EdgeListEGNN, x: Tensor, charge: Tensor, t: float) -> tuple:
    """GeoBFN's equations, atom by atom: x [N, 3], charge [N]."""
    atoms = range(len(x))
    centres = torch.linspace(-2, 2, 16).double()
    h = []
    for i in atoms:
        phi = torch.exp(-((charge[i] - centres) ** 2) / (2 * 0.25**2))
        features = 2 * phi / phi.sum() - 1
        h.append(network.embed(torch.cat([features, torch.tensor([t]).double()])))
    start = list(x)
    x = list(x)
    for block in network.blocks:

        def pair(i: int, j: int, h: list, x: list) -> Tensor:
            d, d0 = ((x[i] - x[j]) ** 2).sum(), ((start[i] - start[j]) ** 2).sum()
            return torch.cat([h[i], h[j], torch.stack([d, d0])])

        new_h = []
        for i in atoms:
            total = torch.zeros_like(h[i])
            for j in atoms:
                if j != i:
                    total = total + silu(block.edge_out(silu(block.edge_in(pair(i, j, h, x)))))
            new_h.append(h[i] + block.node_out(silu(block.node_in(torch.cat([h[i], total])))))
        new_x = []
        for i in atoms:
            moved = x[i]
            for j in atoms:
                if j != i:
                    hidden = silu(block.coordinate_in(pair(i, j, new_h, x)))
                    weight = block.coordinate_out(silu(block.coordinate_hidden(hidden)))
                    moved = moved + weight * (x[i] - x[j]) / ((x[i] - x[j]).norm() + 1)
            new_x.append(moved)
        h, x = new_h, new_x
    shift = torch.stack(x) - torch.stack(start)
    return shift - shift.mean(dim=0), torch.stack([network.readout(row) for row in h])


def test_against_a_loop_over_atoms() -> None:
    torch.manual_seed(0)
    network = EdgeListEGNN(hidden=12, layers=2).double()
    with torch.no_grad():
        for block in network.blocks:
            block.coordinate_out.weight.mul_(1e3)
    sizes, times = [4, 3], [0.3, 0.8]
    x, charge = torch.randn(7, 3).double(), torch.randn(7).double()
    molecule = torch.tensor([0] * 4 + [1] * 3)
    positions, elements = network(
        EdgeListBatch(
            positions=x,
            charge=charge[:, None],
            t=torch.tensor(times).double()[molecule],
            edges=fully_connected_edges(sizes),
            molecule=molecule,
            molecules=2,
        )
    )
    for index, atoms in enumerate((slice(0, 4), slice(4, 7))):
        want_x, want_h = one_molecule(network, x[atoms], charge[atoms], times[index])
        # The network's distance has a floor of 1e-4 that the equations lack.
        torch.testing.assert_close(positions[atoms], want_x, rtol=0, atol=1e-6)
        torch.testing.assert_close(elements[atoms], want_h, rtol=0, atol=1e-6)
        assert want_x.abs().max() > 0.05


def test_edges_are_all_ordered_pairs_inside_molecules() -> None:
    edges = set(map(tuple, fully_connected_edges([2, 1, 3]).T.tolist()))
    groups = [[0, 1], [2], [3, 4, 5]]
    assert edges == {(i, j) for group in groups for i in group for j in group if i != j}


def test_segment_sum() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    total = segment_sum(values, torch.tensor([2, 0, 2]), 4)
    assert total.tolist() == [[3, 4], [0, 0], [6, 8], [0, 0]]


def test_behind_the_interface_of_the_dense_form_it_is_the_same() -> None:
    torch.manual_seed(0)
    published = EdgeListEGNN(hidden=12, layers=2).double()
    dense = EGNN(elements_in=1, elements_out=2, hidden=12, layers=2).double()
    dense.load_state_dict(published.state_dict())
    mask = torch.arange(6) < torch.tensor([4, 1, 5])[:, None]
    inputs = {
        name: torch.randn(3, 6, columns, dtype=torch.float64) * mask[..., None]
        for name, columns in (("positions", 3), ("elements", 1))
    }
    times = {"positions": torch.rand(3, dtype=torch.float64)}
    expected, found = (network(inputs, times, mask) for network in
                       (dense, EdgeListNetwork(published)))  # fmt: skip
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.abs().max() > 1e-4
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-10)
