"""How good generated molecules are: protocols, intervals, comparison with a reference."""

from __future__ import annotations

from molbfn.evaluation.edm import judge
from molbfn.evaluation.metrics import Metric
from molbfn.evaluation.result import EvaluationResult
from molbfn.evaluation.run import PROTOCOLS, evaluate
from molbfn.evaluation.table import render, render_composition
from molbfn.evaluation.verdicts import Verdict

__all__ = [
    "PROTOCOLS",
    "EvaluationResult",
    "Metric",
    "Verdict",
    "evaluate",
    "judge",
    "render",
    "render_composition",
]
