"""How good generated molecules are: protocols, intervals, comparison with a reference."""

from __future__ import annotations

from molbfn.evaluation.distributions import Distribution
from molbfn.evaluation.edm import judge
from molbfn.evaluation.metrics import Metric, Quantity
from molbfn.evaluation.registry import DEFAULT_SAMPLES, PROTOCOLS
from molbfn.evaluation.result import EvaluationResult
from molbfn.evaluation.run import evaluate
from molbfn.evaluation.sampled import Settings
from molbfn.evaluation.table import render, render_composition, tables
from molbfn.evaluation.verdicts import Verdict

__all__ = [
    "DEFAULT_SAMPLES",
    "PROTOCOLS",
    "Distribution",
    "EvaluationResult",
    "Metric",
    "Quantity",
    "Settings",
    "Verdict",
    "evaluate",
    "judge",
    "render",
    "render_composition",
    "tables",
]
