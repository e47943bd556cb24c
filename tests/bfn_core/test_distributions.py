"""The Gaussian of zero-mean point sets, against a Gaussian in an explicit basis."""

from __future__ import annotations

import pytest
import torch

from bfn_core.distributions import CentredNormal, Masked, masked
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


def test_padding_is_zero_for_certain():
    mask = torch.tensor([[True, True, False], [True, False, False]])
    mean = torch.arange(12.0).view(2, 3, 2)
    element = Masked(torch.distributions.Normal(mean, 0.5), mask)
    vector = Masked(torch.distributions.MultivariateNormal(mean, 0.25 * torch.eye(2)), mask)
    assert (element.batch_shape, element.event_shape) == ((2, 3, 2), ())
    assert (vector.batch_shape, vector.event_shape) == ((2, 3), (2,))
    for law in (element, vector):
        draws = law.sample((4,))
        assert draws.shape == (4, 2, 3, 2)
        assert not draws[:, ~mask].any()
        assert bool((draws[:, mask] != 0).all())
        assert law.rsample().shape == (2, 3, 2)
        assert torch.equal(law.mean, torch.where(mask[..., None], mean, 0.0))
        expected = torch.where(mask[..., None], torch.tensor(0.25), 0.0).expand(2, 3, 2)
        torch.testing.assert_close(law.variance, expected)
        draws[:, ~mask] = torch.inf  # whatever is there
        density = law.log_prob(draws)
        each = torch.distributions.Normal(mean, 0.5).log_prob(draws.nan_to_num())
        each = each if law is element else each.sum(-1)
        assert density.shape == (4, *law.batch_shape)
        torch.testing.assert_close(density[:, mask], each[:, mask])
        assert not density[:, ~mask].any()


def test_a_mask_fits_its_distribution():
    law = torch.distributions.Normal(torch.zeros(2, 3), 1.0)
    assert masked(law, None) is law
    with pytest.raises(ValueError, match=r"\(2, 2\) does not fit data of shape \(2, 3\)"):
        masked(law, torch.ones(2, 2, dtype=torch.bool))


def test_samples_without_points_and_batches_without_samples():
    law = CentredNormal(torch.zeros(1, 2, 3), torch.tensor([0.1]), mask=torch.zeros(1, 2).bool())
    assert law.log_prob(torch.ones(1, 2, 3)).tolist() == [0.0]
    nothing = CentredNormal(torch.zeros(0, 2, 3), torch.ones(0))
    assert nothing.log_prob(torch.zeros(0, 2, 3)).shape == (0,)
    assert nothing.log_prob(torch.zeros(4, 0, 2, 3)).shape == (4, 0)
    assert nothing.rsample((4,)).shape == (4, 0, 2, 3)
