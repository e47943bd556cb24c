"""A network that begins with what n-grams know: their exact posterior, to which it adds.

What a flow shows of a text is noisy evidence about each character, so the posterior under a Markov
source is in closed form (`bfn_core.markov`).  The network sees it beside the evidence, and its
output is a correction of its logarithm: untrained, it is the n-grams' posterior, whose bound is the
n-grams' entropy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bfn_core import MarkovChain
from molbfn.benchmarks.ngrams import count_ngrams, find_successors, shortest_contexts

_RESOLUTION = 1e-7  # of float32 inputs: smaller probabilities are not told from zero


class NGramPrior(nn.Module):
    """n-grams as weights that are counted, not trained; until then all symbols are as probable.

    Args:
        classes: symbols.
        order: of the longest n-grams.
        states: contexts that are kept.
    """

    contexts: Tensor
    logits: Tensor

    def __init__(self, *, classes: int, order: int, states: int) -> None:
        super().__init__()
        self.order = order
        self.register_buffer("contexts", torch.from_numpy(shortest_contexts(states, classes)))
        self.register_buffer("logits", torch.zeros(states, classes))
        self._chain: MarkovChain | None = None
        self.register_load_state_dict_post_hook(NGramPrior._forget)

    def fit(self, symbols: np.ndarray) -> None:
        """Count a text, integers [characters]; errors are those of :func:`count_ngrams`."""
        states, classes = self.logits.shape
        found = count_ngrams(symbols, classes=classes, order=self.order, states=states)
        self.contexts.copy_(torch.from_numpy(found.contexts))
        self.logits.copy_(torch.from_numpy(np.log(found.probabilities)))
        self._chain = None

    @torch.compiler.disable
    def forward(self, evidence: Tensor) -> Tensor:
        """Return the posterior's log-probabilities for evidence, both [B, L, K].

        Differentiable by the evidence, at the price of memory; in training nothing asks for that.
        """
        chain = self._chain
        if chain is None or chain.start.device != evidence.device:
            contexts, logits = self.contexts.cpu(), self.logits.float()
            successors = torch.from_numpy(find_successors(contexts.numpy(), logits.shape[1]))
            chain = MarkovChain(torch.softmax(logits, 1), successors.to(logits.device))
            self._chain = chain
        return chain.posterior(evidence)

    @staticmethod
    def _forget(module: NGramPrior, _: Any) -> None:
        module._chain = None


class PriorNetwork(nn.Module):
    """A network behind an :class:`NGramPrior`.

    Variable "x": input and output [B, L, classes].

    Args:
        prior: the n-grams.
        inner: the network; its input "x" is [B, L, 2 classes], its output [B, L, classes].
    """

    def __init__(self, prior: NGramPrior, inner: nn.Module) -> None:
        super().__init__()
        self.prior, self.inner = prior, inner

    def compile(self, *arguments: Any, **options: Any) -> None:
        """Compile the inner network; sparse products stay as they are."""
        self.inner.compile(*arguments, **options)

    def hidden_matrices(self) -> Iterable[nn.Parameter]:
        """Return the matrices between hidden features."""
        return self.inner.hidden_matrices()

    def forward(
        self, inputs: Mapping[str, Tensor], t: Mapping[str, Tensor], mask: object = None
    ) -> dict[str, Tensor]:
        """Return raw outputs [B, L, classes]."""
        seen = inputs["x"]
        known = self.prior((0.5 * (seen.float() + 1)).clamp_min(_RESOLUTION))
        features = torch.cat([seen, (2 * known.exp() - 1).to(seen.dtype)], -1)
        return {"x": known + self.inner({"x": features}, t, mask)["x"]}
