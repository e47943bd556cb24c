"""Noise, masks and broadcasting."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bfn_core.tensors import (
    apply_mask,
    at_least_float32,
    centre,
    expand_right,
    one_hot,
    root,
    standard_normal,
    standard_uniform,
    state_dtype,
    sum_per_sample,
)

SETTINGS = settings(max_examples=40, deadline=None, derandomize=True)
CPU = torch.device("cpu")


def draw(function, shape, generator, mask=None):
    return function(shape, generator=generator, dtype=torch.float32, device=CPU, mask=mask)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def random_mask(batch, points, seed):
    lengths = torch.randint(1, points + 1, (batch,), generator=torch.Generator().manual_seed(seed))
    return torch.arange(points) < lengths[:, None]


def test_laws(generator):
    normal = draw(standard_normal, (20000,), generator)
    uniform = draw(standard_uniform, (20000,), generator)
    assert stats.kstest(normal.numpy(), "norm").pvalue > 1e-5
    assert stats.kstest(uniform.numpy(), "uniform").pvalue > 1e-5


@pytest.mark.parametrize("function", [standard_normal, standard_uniform])
def test_no_generator_uses_the_global_one(function):
    torch.manual_seed(5)
    first = draw(function, (3, 2), None)
    torch.manual_seed(5)
    assert torch.equal(first, draw(function, (3, 2), None))


@pytest.mark.parametrize("function", [standard_normal, standard_uniform])
def test_a_sample_does_not_depend_on_its_batch(function):
    together = draw(function, (3, 7, 3), generators(1, 2, 3))
    alone = draw(function, (1, 7, 3), generators(2))
    assert torch.equal(together[1], alone[0])


@SETTINGS
@given(points=st.integers(1, 30), padding=st.integers(0, 30), channels=st.integers(1, 6))
def test_a_sample_does_not_depend_on_its_padding(points, padding, channels):
    # torch.randn takes other numbers from the stream at other sizes; the mask must prevent that.
    for function in (standard_normal, standard_uniform):
        (one,), (other,) = generators(9), generators(9)
        alone = draw(function, (1, points, channels), [one], torch.ones(1, points).bool())
        mask = (torch.arange(points + padding) < points)[None]
        padded = draw(function, (1, points + padding, channels), [other], mask)
        assert torch.equal(padded[:, :points], alone)
        assert not padded[:, points:].any()
        # And the streams stand at the same place afterwards.
        assert torch.equal(one.get_state(), other.get_state())


def test_generator_and_mask_errors():
    with pytest.raises(ValueError, match="2 generators for a batch of 3"):
        draw(standard_normal, (3, 2), generators(0, 1))
    with pytest.raises(ValueError, match="mask"):
        draw(standard_normal, (3, 2, 1), generators(0, 1, 2), torch.ones(3, 4).bool())
    for mask in (None, torch.ones(0, 4).bool()):
        assert draw(standard_normal, (0, 4), [], mask).shape == (0, 4)
    alone = draw(standard_normal, (2, 3), generators(0, 1), torch.tensor([True, False]))
    assert alone[0].all()
    assert not alone[1].any()


def test_expand_right():
    assert expand_right(torch.ones(4), torch.ones(4, 3, 2)).shape == (4, 1, 1)
    assert expand_right(torch.tensor(1.0), torch.ones(4, 3)).shape == (1, 1)


def test_mask_removes_even_what_is_not_finite():
    x = torch.tensor([[1.0, math.nan], [math.inf, 2.0]])
    mask = torch.tensor([[True, False], [False, True]])
    assert torch.equal(apply_mask(x, mask), torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    assert torch.equal(sum_per_sample(x, mask), torch.tensor([1.0, 2.0]))
    assert apply_mask(x, None) is x


def test_a_mask_is_not_broadcast():
    x = torch.ones(1, 3)
    for function in (apply_mask, sum_per_sample):
        with pytest.raises(ValueError, match=r"mask of shape \(2, 3\) does not fit .*\(1, 3\)"):
            function(x, torch.ones(2, 3).bool())
        with pytest.raises(ValueError, match="a mask must be bool, got float32"):
            function(x, torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"mask of shape \(2, 1\) does not fit"):
        centre(torch.ones(2, 3, 3), torch.ones(2, 1).bool())


def test_sum_per_sample_of_nothing():
    assert sum_per_sample(torch.zeros(0, 3, 2), None).shape == (0,)


def test_sum_per_sample_shapes():
    assert torch.equal(sum_per_sample(torch.arange(3.0), None), torch.arange(3.0))
    x = torch.arange(24.0).reshape(2, 3, 4)
    torch.testing.assert_close(sum_per_sample(x, None), x.sum((1, 2)))


@SETTINGS
@given(seed=st.integers(0, 2**20), points=st.integers(1, 12))
def test_centre_is_the_orthogonal_projection(seed, points):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, points, 3, generator=generator, dtype=torch.float64)
    mask = random_mask(4, points, seed)
    projected = centre(x, mask)
    assert not projected[~mask].any()
    torch.testing.assert_close(projected.sum(1), torch.zeros(4, 3, dtype=torch.float64))
    torch.testing.assert_close(centre(projected, mask), projected)
    # Orthogonal: what was taken away is the same vector for all points of a sample.
    removed = apply_mask(x, mask) - projected
    torch.testing.assert_close((removed * projected).sum(), torch.zeros((), dtype=torch.float64))
    for row, present in zip(x, mask, strict=True):
        alone = centre(row[present][None], None)[0]
        torch.testing.assert_close(centre(row[None], present[None])[0][present], alone)


def test_centre_ignores_padding():
    x = torch.tensor([[[1.0], [3.0], [math.nan]]])
    mask = torch.tensor([[True, True, False]])
    assert torch.equal(centre(x, mask), torch.tensor([[[-1.0], [1.0], [0.0]]]))
    nothing = centre(x, torch.zeros(1, 3).bool())
    assert torch.equal(nothing, torch.zeros(1, 3, 1))


def test_dtypes():
    assert at_least_float32(torch.ones(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert at_least_float32(torch.ones(1, dtype=torch.float64)).dtype == torch.float64
    assert state_dtype() == torch.float32
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert state_dtype() == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_root_is_torch_s_with_a_derivative_of_zero_at_zero():
    x = torch.tensor([0.0, 1e-45, 1e-30, 0.3, 7.0, math.inf], requires_grad=True)
    assert torch.equal(root(x), x.sqrt())
    (slope,) = torch.autograd.grad(root(x).sum(), x, create_graph=True)
    (exact,) = torch.autograd.grad(x.sqrt().sum(), x)
    assert slope[0] == 0
    assert torch.equal(slope[1:], exact[1:])
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    assert curvature[0] == 0
    assert bool(root(torch.tensor([math.nan, -1.0])).isnan().all())
    assert root(torch.zeros(2, dtype=torch.float64)).dtype == torch.float64


def test_one_hot_is_torch_s(generator):
    index = torch.randint(0, 5, (3, 4, 2), generator=generator)
    expected = torch.nn.functional.one_hot(index, 5)
    for dtype in (torch.float32, torch.float64):
        for kind in (torch.int64, torch.uint8):
            found = one_hot(index.to(kind), 5, dtype)
            assert found.dtype == dtype
            assert torch.equal(found, expected.to(dtype))
    assert one_hot(torch.tensor([True, False]), 2, torch.float32).tolist() == [[0, 1], [1, 0]]
    assert one_hot(torch.zeros(0, 3).long(), 2, torch.float32).shape == (0, 3, 2)
    for wrong in (5, -1):
        with pytest.raises(RuntimeError, match="out of bounds"):
            one_hot(torch.tensor([wrong]), 5, torch.float32)
