"""Samplers and the loop that runs them."""

from bfn_core.flows.joint import Grid
from bfn_core.sampling.loop import Sampler, SampleStep, sample, sample_steps
from bfn_core.sampling.midpoint import MidpointSolver
from bfn_core.sampling.samplers import (
    History,
    ObservationSampler,
    bayesian_sampler,
    renoise_sampler,
    window_sampler,
)
from bfn_core.sampling.solvers import SolverHistory, SolverSampler, ode_solver, sde_solver

__all__ = [
    "Grid",
    "History",
    "MidpointSolver",
    "ObservationSampler",
    "SampleStep",
    "Sampler",
    "SolverHistory",
    "SolverSampler",
    "bayesian_sampler",
    "ode_solver",
    "renoise_sampler",
    "sample",
    "sample_steps",
    "sde_solver",
    "window_sampler",
]
