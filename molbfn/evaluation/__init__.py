"""How good generated molecules are: protocols, intervals, comparison with a reference."""

from __future__ import annotations

from molbfn.evaluation.edm import Verdict, judge
from molbfn.evaluation.metrics import Metric
from molbfn.evaluation.result import EvaluationResult
from molbfn.evaluation.run import evaluate
from molbfn.evaluation.table import render, render_composition

__all__ = [
    "EvaluationResult",
    "Metric",
    "Verdict",
    "evaluate",
    "judge",
    "render",
    "render_composition",
]
