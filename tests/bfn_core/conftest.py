"""Seeds and small statistics for the tests of bfn_core."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from bfn_core import CategoricalOutput


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20231)


@pytest.fixture
def float64_default():
    """Integer data become float64 states inside the test."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def assert_mean():
    """Assert that independent draws have the given mean, within 5 standard errors."""

    def check(draws: Tensor, expected: float | Tensor) -> None:
        draws = draws.double()
        error = draws.std(0) / math.sqrt(draws.shape[0])
        deviation = (draws.mean(0) - expected).abs()
        assert bool((deviation <= 5 * error + 1e-12).all()), (draws.mean(0), expected, error)

    return check


@pytest.fixture
def assert_variance():
    """Assert that independent Gaussian draws [n, ...] have the given variance (5 errors)."""

    def check(draws: Tensor, expected: float) -> None:
        count = draws.shape[0]
        ratio = draws.double().var(0) / expected
        assert bool(((ratio - 1).abs() <= 5 * math.sqrt(2 / count)).all()), (ratio, expected)

    return check


@pytest.fixture
def assert_frequencies():
    """Assert that counts [K] follow the given probabilities (chi-squared, p > 1e-6)."""

    def check(counts: Tensor, probs: Tensor) -> None:
        counts, probs = counts.double(), probs.double() / probs.double().sum()
        possible = probs > 0
        assert not counts[~possible].any()
        expected = counts.sum() * probs[possible]
        assert stats.chisquare(counts[possible].numpy(), expected.numpy()).pvalue > 1e-6, counts

    return check


@pytest.fixture
def pair_network():
    """From a table of joint probabilities [A, B] to the exact posterior of classes "a" and "b"."""

    def of(table: Tensor):
        def network(states, times):
            a, b = states["a"].logits[:, 0], states["b"].logits[:, 0]
            joint = table.log() + a[:, :, None] + b[:, None, :]
            joint = joint - joint.logsumexp((1, 2), keepdim=True)
            return {
                "a": CategoricalOutput(joint.logsumexp(2)[:, None]),
                "b": CategoricalOutput(joint.logsumexp(1)[:, None]),
            }

        return network

    return of
