"""Flows: the closed-form Bayesian bookkeeping of one variable each."""

from bfn_core.flows.base import (
    CategoricalOutput,
    CategoricalState,
    Flow,
    GaussianState,
    Output,
    PointOutput,
    State,
)
from bfn_core.flows.continuous import ContinuousFlow
from bfn_core.flows.discrete import DiscreteFlow
from bfn_core.flows.discretised import DiscretisedFlow
from bfn_core.flows.joint import JointFlow, Masks, Network, Predictor, Times

__all__ = [
    "CategoricalOutput",
    "CategoricalState",
    "ContinuousFlow",
    "DiscreteFlow",
    "DiscretisedFlow",
    "Flow",
    "GaussianState",
    "JointFlow",
    "Masks",
    "Network",
    "Output",
    "PointOutput",
    "Predictor",
    "State",
    "Times",
]
