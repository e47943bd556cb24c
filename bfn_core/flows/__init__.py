"""Flows: the closed-form Bayesian bookkeeping of one variable each."""

from bfn_core.flows.base import (
    CategoricalOutput,
    CategoricalState,
    Flow,
    GaussianState,
    LatentScales,
    Output,
    PointOutput,
    State,
)
from bfn_core.flows.continuous import ContinuousFlow
from bfn_core.flows.discrete import DiscreteFlow
from bfn_core.flows.discretised import BinnedOutput, DiscretisedFlow
from bfn_core.flows.gaussian import GaussianFlow
from bfn_core.flows.joint import JointFlow, Masks, Network, Predictor, Times

__all__ = [
    "BinnedOutput",
    "CategoricalOutput",
    "CategoricalState",
    "ContinuousFlow",
    "DiscreteFlow",
    "DiscretisedFlow",
    "Flow",
    "GaussianFlow",
    "GaussianState",
    "JointFlow",
    "LatentScales",
    "Masks",
    "Network",
    "Output",
    "PointOutput",
    "Predictor",
    "State",
    "Times",
]
