import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from molbfn.seeds import numbered_seed

seeds = st.integers(-(2**63), 2**64)
indices = st.integers(0, 2**32 - 1)


def test_no_seed_repeats_among_the_first_65536_molecules():
    assert len({numbered_seed(0, index) for index in range(2**16)}) == 2**16


@given(seeds, indices, indices)
def test_different_indices_have_different_seeds(seed, first, second):
    same = numbered_seed(seed, first) == numbered_seed(seed, second)
    assert same == (first == second)


@given(seeds, indices)
def test_seeds_fit_into_what_torch_keeps(seed, index):
    assert 0 <= numbered_seed(seed, index) < 2**32


def test_generations_with_different_seeds_share_no_molecule():
    made = [
        numbered_seed(seed, index) for seed in (0, 1, 2, 2**32, 2**40, -1) for index in range(9)
    ]
    assert len(set(made)) == len(made)


def test_the_first_numbers_of_neighbours_are_uniform_and_uncorrelated():
    generators = (torch.Generator().manual_seed(numbered_seed(0, i)) for i in range(4096))
    u = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in generators])
    counts = torch.histc(u, bins=16, min=0, max=1)
    assert ((counts - 256) ** 2 / 256).sum() < 37.7  # chi^2 of 15 degrees, p = 0.001
    assert abs(torch.corrcoef(torch.stack([u[:-1], u[1:]]))[0, 1]) < 3.3 / 64


def test_numbers_of_numpy_are_numbers():
    assert numbered_seed(np.int64(5), np.uint8(7)) == numbered_seed(5, 7)
    assert numbered_seed(np.int64(-1), 2) == numbered_seed(-1, 2)
