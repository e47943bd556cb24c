"""Bayesian Flow Networks for continuous, discretised, discrete and joint data.

The library knows tensors and nothing else: flows do the closed-form Bayesian bookkeeping of each
variable, a network (any callable) looks at all of them together, and losses, samplers and
likelihood bounds only talk to those two.
"""

from bfn_core.flow_likelihood import FlowBound, FlowDensity, flow_bound, flow_density
from bfn_core.flows import (
    BinnedOutput,
    CategoricalOutput,
    CategoricalState,
    ContinuousFlow,
    DiscreteFlow,
    DiscretisedFlow,
    Flow,
    GaussianFlow,
    GaussianState,
    JointFlow,
    LatentScales,
    PointOutput,
)
from bfn_core.flows.base import Output, State
from bfn_core.flows.joint import Masks, Network, Predictor, Times
from bfn_core.guidance import classifier_free_guidance, gradient_guidance, inpainting
from bfn_core.likelihood import LikelihoodBound, likelihood_bound
from bfn_core.markov import MarkovChain
from bfn_core.parameterisation import (
    DataPrediction,
    NoisePrediction,
    Parameterisation,
    PreconditionedPrediction,
)
from bfn_core.sampling import (
    Grid,
    MidpointSolver,
    ObservationSampler,
    Sampler,
    SampleStep,
    SolverSampler,
    bayesian_sampler,
    ode_solver,
    renoise_sampler,
    sample,
    sample_steps,
    sde_solver,
    window_sampler,
)
from bfn_core.schedule_search import PathCost, cheapest_grid, cheapest_path
from bfn_core.schedules import AccuracySchedule, CategoricalSchedule, GaussianSchedule
from bfn_core.tensors import Generators
from bfn_core.times import (
    low_discrepancy_steps,
    low_discrepancy_times,
    piecewise_grid,
    power_grid,
    truncated_grid,
    uniform_grid,
)

__all__ = [
    "AccuracySchedule",
    "BinnedOutput",
    "CategoricalOutput",
    "CategoricalSchedule",
    "CategoricalState",
    "ContinuousFlow",
    "DataPrediction",
    "DiscreteFlow",
    "DiscretisedFlow",
    "Flow",
    "FlowBound",
    "FlowDensity",
    "GaussianFlow",
    "GaussianSchedule",
    "GaussianState",
    "Generators",
    "Grid",
    "JointFlow",
    "LatentScales",
    "LikelihoodBound",
    "MarkovChain",
    "Masks",
    "MidpointSolver",
    "Network",
    "NoisePrediction",
    "ObservationSampler",
    "Output",
    "Parameterisation",
    "PathCost",
    "PointOutput",
    "PreconditionedPrediction",
    "Predictor",
    "SampleStep",
    "Sampler",
    "SolverSampler",
    "State",
    "Times",
    "bayesian_sampler",
    "cheapest_grid",
    "cheapest_path",
    "classifier_free_guidance",
    "flow_bound",
    "flow_density",
    "gradient_guidance",
    "inpainting",
    "likelihood_bound",
    "low_discrepancy_steps",
    "low_discrepancy_times",
    "ode_solver",
    "piecewise_grid",
    "power_grid",
    "renoise_sampler",
    "sample",
    "sample_steps",
    "sde_solver",
    "truncated_grid",
    "uniform_grid",
    "window_sampler",
]
