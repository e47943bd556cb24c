"""The learning-rate schedule; the rest of the module is tested with molecules in test_module."""

from __future__ import annotations

import pytest

from molbfn.config import TrainingConfig
from molbfn.training.base import learning_rate_factor


def factors(**options) -> list[float]:
    training = TrainingConfig(**options)
    return [learning_rate_factor(step, training) for step in range(training.steps)]


def test_learning_rate_rises_stays_and_falls():
    found = factors(steps=20, warmup_steps=4, decay_fraction=0.25)
    assert found[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert found[4:16] == [1.0] * 12
    assert found[15:] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def test_learning_rate_without_warmup_or_decay_is_constant():
    assert factors(steps=7, warmup_steps=0, decay_fraction=0) == [1.0] * 7


def test_learning_rate_stays_between_zero_and_one():
    training = TrainingConfig(steps=10, warmup_steps=100, decay_fraction=1.0)
    found = [learning_rate_factor(step, training) for step in range(15)]
    assert all(0 <= value <= 1 for value in found)
    assert found[10:] == [0.0] * 5


def test_the_constant_part_does_not_depend_on_the_length():
    short = factors(steps=40, warmup_steps=5, decay_fraction=0.5)
    long = factors(steps=400, warmup_steps=5, decay_fraction=0.5)
    assert short[:20] == long[:20]
