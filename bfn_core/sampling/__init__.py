"""Samplers and the loop that runs them."""

from bfn_core.sampling.loop import Grid, SampleStep, sample, sample_steps
from bfn_core.sampling.samplers import (
    History,
    ObservationSampler,
    bayesian_sampler,
    renoise_sampler,
    window_sampler,
)

__all__ = [
    "Grid",
    "History",
    "ObservationSampler",
    "SampleStep",
    "bayesian_sampler",
    "renoise_sampler",
    "sample",
    "sample_steps",
    "window_sampler",
]
