"""The Gaussian of zero-mean point sets, against a Gaussian in an explicit basis."""

from __future__ import annotations

import pytest
import torch

from bfn_core.distributions import CentredNormal
from bfn_core.tensors import centre


def basis(points):
    """Orthonormal rows that span the vectors of zero mean, [points - 1, points]."""
    vectors = torch.linalg.svd(torch.ones(1, points, dtype=torch.float64)).Vh[1:]
    torch.testing.assert_close(vectors.sum(1), torch.zeros(points - 1, dtype=torch.float64))
    return vectors


def test_log_prob_in_an_explicit_basis(generator):
    mean = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    value = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    std = torch.tensor([0.3, 2.0], dtype=torch.float64)
    actual = CentredNormal(mean, std, mask=mask).log_prob(value)
    for row, (sigma, present) in enumerate(zip(std, mask, strict=True)):
        rows = basis(int(present.sum()))
        coordinates, location = rows @ value[row][present], rows @ mean[row][present]
        expected = torch.distributions.Normal(location, sigma).log_prob(coordinates).sum()
        torch.testing.assert_close(actual[row], expected)


def test_samples_lie_in_the_subspace_with_the_right_spread(assert_mean):
    torch.manual_seed(3)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    mean = torch.randn(2, 4, 3)
    law = CentredNormal(mean, torch.tensor([0.5, 2.0]), mask=mask)
    draws = law.rsample((4000,))
    assert draws.shape == (4000, 2, 4, 3)
    assert not draws[:, ~mask].any()
    assert float(draws.sum(2).abs().max()) < 1e-5
    assert_mean(draws.flatten(1), centre(mean, mask).flatten())
    spread = (draws - law.mean).square().sum((2, 3)) / law.std.square()
    assert_mean(spread, torch.tensor([6.0, 9.0]))
    assert law.rsample().shape == (2, 4, 3)


def test_single_points_have_no_dimensions():
    law = CentredNormal(torch.randn(1, 1, 3), torch.tensor([0.1]))
    assert float(law.log_prob(torch.randn(1, 1, 3))) == pytest.approx(0.0)


def test_log_prob_of_many_draws_is_that_of_each(generator):
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    mean = torch.randn(2, 4, 3, generator=generator)
    law = CentredNormal(mean, torch.tensor([0.5, 2.0]), mask=mask)
    draws = law.rsample((3, 5))
    together = law.log_prob(draws)
    assert together.shape == (3, 5, 2)
    for place in ((0, 0), (2, 4)):
        torch.testing.assert_close(together[place], law.log_prob(draws[place]))
