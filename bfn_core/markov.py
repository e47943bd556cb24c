"""Sequences of symbols from a Markov source: their exact posterior under independent evidence.

The state of a discrete flow is evidence about each element on its own: ``p(theta | x)`` is
proportional to ``prod_d theta_d(x_d)`` (Graves et al. 2023, eq. 185: only ``z_x`` of the exponent
depends on x).  For a Markov source the posterior of every element given all of theta is therefore
that of a hidden Markov model, which the forward-backward algorithm gives exactly (Rabiner 1989,
Proc. IEEE 77, section III.B).  It is the network that no other can beat on such data: with it, and
a beta_1 that leaves no doubt at t = 1, the continuous-time loss is the entropy of the source.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import threshold

from bfn_core.tensors import at_least_float32, without_autocast

_MEMORY = 1 << 27  # numbers of the forward pass that are kept at a time
_LANES = 16  # sequences beside each other that a processor multiplies best
_LEAST = {torch.float32: 1e-30, torch.float64: 1e-290}  # less becomes 0: denormals are slow
_SETTLED = 1e-7
_SQUARED = 512  # states up to which the matrix is squared until it settles


class MarkovChain:
    """A source with N states and K symbols; symbol and state determine the state after it.

    n-grams are such a source: the state is the last symbols.  Autocast is switched off in here:
    half precision holds no probability of a sequence, and has no sparse products on a CPU.

    Args:
        probabilities: of each symbol in each state, float [N, K], rows of sum 1.
        successors: the state after each symbol, int64 [N, K]; every state is entered by one symbol
            only (a state that is entered by two can be split).
        start: distribution of the state before the first symbol, float [N]; by default the one the
            source settles in, that of sequences cut out of a long one.

    Raises:
        ValueError: shapes, rows or a start that are no distributions, a state entered by two
            symbols, successors that are no states.
    """

    def __init__(
        self, probabilities: Tensor, successors: Tensor, *, start: Tensor | None = None
    ) -> None:
        self.states, self.classes = probabilities.shape
        if successors.shape != probabilities.shape:
            raise ValueError(
                f"successors {tuple(successors.shape)} do not fit probabilities "
                f"{tuple(probabilities.shape)}"
            )
        if not _are_distributions(probabilities):
            raise ValueError("the probabilities of a state must not be negative and sum to 1")
        if not bool(((successors >= 0) & (successors < len(successors))).all()):
            raise ValueError(
                f"successors must be states from 0 to {len(successors) - 1}; where a symbol cannot "
                f"follow give any state that it leads to, with probability 0"
            )
        self._probabilities, self._successors = probabilities, successors
        self._symbol = _entered_by(successors)
        self._make_matrices()
        if start is None:
            with without_autocast(probabilities):
                start = self._stationary()
        elif start.shape != (self.states,):
            raise ValueError(f"start has shape {tuple(start.shape)} for {self.states} states")
        elif not _are_distributions(start):
            raise ValueError("the probabilities of start must not be negative and sum to 1")
        self.start = start

    def __getstate__(self) -> dict[str, Any]:
        """Copies make matrices of their own: torch cannot copy sparse ones."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_backward", "_forward")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._make_matrices()

    def _make_matrices(self) -> None:
        self._backward = _sparse(self._probabilities, self._successors)
        self._forward = _sparse(self._probabilities, self._successors, transpose=True)

    def posterior(self, evidence: Tensor | None = None, *, logits: Tensor | None = None) -> Tensor:
        """Return the probability of each symbol at each place given the evidence at all places.

        Sequences in which later evidence brings back what a float has lost are done again in
        float64, and if need be in logarithms, which is slower; there the derivative by evidence of
        0 is taken as 0.

        Args:
            evidence: likelihood of each symbol at each place up to a factor, [B, L, K].
            logits: in place of it its logarithm up to a constant a place, [B, L, K], as the state
                of a discrete flow is; a softmax of it is 0 from a gap of 103 on.

        Returns:
            Log-probabilities [B, L, K], at least float32; what has none gets that of the smallest
            number there is.  NaN for sequences whose evidence the source cannot make.

        Raises:
            ValueError: evidence of another shape; neither evidence nor logits, or both.
        """
        given = self._given(evidence, logits)
        with without_autocast(given.values):
            return _redone(given, self._scaled_posterior, self._wide_posterior)

    def log_evidence(
        self, evidence: Tensor | None = None, *, logits: Tensor | None = None
    ) -> Tensor:
        """Return ``ln sum_x p(x) prod_d e_d(x_d)``, [B]; for one-hot evidence that is ln p(x).

        Args:
            evidence, logits: one of them, as for :meth:`posterior`, [B, L, K]; here the factor or
                constant counts.
        """
        given = self._given(evidence, logits)
        with without_autocast(given.values):
            wide = given.wide()
            found = _redone(wide, self._scaled_evidence, self._evidence_in_logs)
            return (wide.log_factors.sum(1) + found).to(given.values.dtype)

    def sample(self, count: int, length: int, generator: torch.Generator | None = None) -> Tensor:
        """Return sequences of the source, int64 [count, length].

        Raises:
            ValueError: count or length < 0.
        """
        if count < 0 or length < 0:
            raise ValueError(f"count and length must be at least 0, got {count} and {length}")
        symbols = torch.zeros(count, length, dtype=torch.int64, device=self._successors.device)
        if not symbols.numel():
            return symbols
        state = torch.multinomial(self.start, count, replacement=True, generator=generator)
        for place in range(length):
            drawn = torch.multinomial(self._probabilities[state], 1, generator=generator)
            symbols[:, place] = drawn[:, 0]
            state = self._successors[state].gather(1, drawn)[:, 0]
        return symbols

    def _given(self, evidence: Tensor | None, logits: Tensor | None) -> _Evidence:
        given = evidence if logits is None else logits
        if given is None or (evidence is None) == (logits is None):
            raise ValueError("give either evidence or its logits")
        if given.dim() != 3 or given.shape[-1] != self.classes:
            raise ValueError(f"evidence must be [B, L, {self.classes}], got {tuple(given.shape)}")
        given = at_least_float32(given)
        largest = given.detach().amax(-1)
        if logits is None:
            factors = torch.where(largest > 0, largest, 1.0)
            return _Evidence(given / factors[..., None], factors.log())
        constants = torch.where(largest.isfinite(), largest, 0.0)
        logs = given - constants[..., None]
        return _Evidence(logs.exp(), constants, logs)

    def _begin(self, evidence: Tensor) -> Tensor:
        return self.start.to(evidence.dtype)[:, None].repeat(1, len(evidence))

    def _advance(self, matrix: Tensor, alpha: Tensor, evidence: Tensor, *, out: Tensor) -> None:
        """Write the next state's distribution, [N, B]."""
        out.addmm_(matrix, alpha, beta=0).mul_(self._of_states(evidence))
        threshold(out.div_(_divisor(out.sum(0))), _LEAST[out.dtype], 0.0, inplace=True)

    def _of_states(self, evidence: Tensor) -> Tensor:
        """Return the evidence [B, K] for the symbol that led into each state, [N, B]."""
        return evidence.T.contiguous().index_select(0, self._symbol)

    def _scaled_posterior(self, given: _Evidence) -> Tensor:
        evidence = given.values
        if torch.is_grad_enabled() and evidence.requires_grad:
            return _log_normalised(self._recorded_weights(evidence))
        return _in_parts(
            lambda part: _log_normalised(self._weights(part)),
            evidence,
            self.states * evidence.shape[1],
            lanes=_LANES,
        )

    def _weights(self, evidence: Tensor) -> Tensor:
        """Return the posterior up to a factor a place, [B, L, K]."""
        count, length, classes = evidence.shape
        forward, backward = self._forward.to(evidence.dtype), self._backward.to(evidence.dtype)
        alphas = evidence.new_zeros(length, self.states, count)
        alpha = self._begin(evidence)
        for place in range(length):
            self._advance(forward, alpha, evidence[:, place], out=alphas[place])
            alpha = alphas[place]
        result = evidence.new_zeros(length, classes, count)
        beta, ahead = torch.ones_like(alpha), torch.zeros_like(alpha)
        for place in reversed(range(length)):
            result[place].index_add_(0, self._symbol, alphas[place].mul_(beta))
            beta.mul_(self._of_states(evidence[:, place]))
            ahead.addmm_(backward, beta, beta=0)
            threshold(ahead.div_(_divisor(ahead.amax(0))), _LEAST[ahead.dtype], 0.0, inplace=True)
            beta, ahead = ahead, beta
        return result.permute(2, 0, 1)

    def _recorded_weights(self, evidence: Tensor) -> Tensor:
        """Return the same such that it can be differentiated: nothing is written in place."""
        length = evidence.shape[1]
        forward, backward = self._forward.to(evidence.dtype), self._backward.to(evidence.dtype)
        alpha, alphas = self._begin(evidence), []
        for place in range(length):
            alpha = torch.sparse.mm(forward, alpha) * self._of_states(evidence[:, place])
            alpha = alpha / _divisor(alpha.detach().sum(0))
            alphas.append(alpha)
        beta, result = torch.ones_like(alpha), []
        for place in reversed(range(length)):
            empty = evidence.new_zeros(self.classes, len(evidence))
            result.append(empty.index_add(0, self._symbol, alphas[place] * beta))
            beta = torch.sparse.mm(backward, beta * self._of_states(evidence[:, place]))
            beta = beta / _divisor(beta.detach().amax(0))
        if not result:
            return evidence
        return torch.stack(result[::-1]).permute(2, 0, 1)

    def _scaled_evidence(self, given: _Evidence) -> Tensor:
        evidence, doubtful = given.values, given.faint()
        matrix, alpha = self._forward.to(evidence.dtype), self._begin(evidence)
        least, bound = _LEAST[evidence.dtype], _doubtful(evidence.dtype)
        total = evidence.new_zeros(len(evidence))
        for place in range(evidence.shape[1]):
            seen, ahead = self._of_states(evidence[:, place]), torch.sparse.mm(matrix, alpha)
            moved = ahead * seen
            norm = moved.sum(0)
            total = total + norm.log()
            alpha = moved / torch.where(norm > 0, norm, 1.0)
            # Later evidence may leave nothing but a state that sinks out of a float's range here.
            sunk = (moved <= least * norm) & (ahead > 0) & (seen > 0)
            doubtful = doubtful | sunk.any(0) | ((norm > 0) & (norm < bound))
        return torch.where(doubtful, torch.nan, total)

    def _wide_posterior(self, given: _Evidence) -> Tensor:
        found = _redone(given.wide(), self._scaled_posterior, self._posterior_in_logs)
        return found.clamp_min(math.log(torch.finfo(given.values.dtype).tiny))

    def _posterior_in_logs(self, given: _Evidence) -> Tensor:
        def of_part(part: Tensor) -> Tensor:
            alphas, result = self._alphas_in_logs(part), []
            beta = part.new_zeros(self.states, len(part))
            for place in reversed(range(part.shape[1])):
                result.append(_log_sums(alphas[place] + beta, self._symbol, self.classes))
                ahead = beta + self._of_states(part[:, place])
                steps = self._steps_in_logs(part) + ahead[self._successors.flatten()]
                beta = _log_sums(steps, self._origins(), self.states)
            return torch.log_softmax(torch.stack(result[::-1]).permute(2, 0, 1), -1)

        logs = given.logs()
        return _in_parts(of_part, logs, self._width_in_logs(logs))

    def _evidence_in_logs(self, given: _Evidence) -> Tensor:
        def of_part(part: Tensor) -> Tensor:
            return torch.logsumexp(self._alphas_in_logs(part)[-1], 0)

        logs = given.logs()
        return _in_parts(of_part, logs, self._width_in_logs(logs))

    def _width_in_logs(self, logs: Tensor) -> int:
        """Return about how many float32 numbers a sequence takes."""
        return 2 * self.states * (3 * self.classes + logs.shape[1])

    def _alphas_in_logs(self, logs: Tensor) -> list[Tensor]:
        alpha, alphas = self._begin(logs).log(), []
        for place in range(logs.shape[1]):
            steps = alpha[self._origins()] + self._steps_in_logs(logs)
            alpha = _log_sums(steps, self._successors.flatten(), self.states)
            alpha = alpha + self._of_states(logs[:, place])
            alphas.append(alpha)
        return alphas

    def _origins(self) -> Tensor:
        """Return the state that each pair of state and symbol starts from, [N K]."""
        states = torch.arange(self.states, device=self._successors.device)
        return states.repeat_interleave(self.classes)

    def _steps_in_logs(self, logs: Tensor) -> Tensor:
        return self._probabilities.to(logs.dtype).log().reshape(-1, 1)

    def _stationary(self) -> Tensor:
        if self.states <= _SQUARED:
            # The averaged step of below, 2^60 times.
            step = self._forward.to_dense().double().T
            step = 0.5 * (step + torch.eye(self.states, dtype=step.dtype, device=step.device))
            for _ in range(60):
                step = step @ step
                step = step / step.sum(1, keepdim=True)
            return step.mean(0).to(self._probabilities.dtype)
        state = torch.full_like(self._probabilities[:, :1], 1 / self.states)
        # Averaged with the state before, so that a source with a period settles too.
        for _ in range(10_000):
            moved = 0.5 * (state + torch.sparse.mm(self._forward, state))
            change = (moved - state).abs().sum()
            state = moved / moved.sum()
            if change < _SETTLED:
                break
        else:
            warnings.warn(
                "the source has not settled in 10,000 steps; give the start that is meant",
                stacklevel=3,
            )
        return state[:, 0]


@dataclass(frozen=True)
class _Evidence:
    """Evidence, at each place over its largest.

    Attributes:
        values: [B, L, K], the largest of a place 1.
        log_factors: logarithms of what they were divided by, [B, L].
        logits: the logarithms of ``values``, where those were given.
    """

    values: Tensor
    log_factors: Tensor
    logits: Tensor | None = None

    def rows(self, index: Tensor) -> _Evidence:
        logits = None if self.logits is None else self.logits[index]
        return _Evidence(self.values[index], self.log_factors[index], logits)

    def wide(self) -> _Evidence:
        """Return the same in float64."""
        if self.logits is None:
            return _Evidence(self.values.double(), self.log_factors.double())
        logits = self.logits.double()
        return _Evidence(logits.exp(), self.log_factors.double(), logits)

    def logs(self) -> Tensor:
        return _log(self.values) if self.logits is None else self.logits

    def faint(self) -> Tensor:
        """Return which sequences have a symbol that is possible, but no normal number, [B]."""
        some = self.values > 0 if self.logits is None else self.logits > -torch.inf
        faint = some & (self.values < torch.finfo(self.values.dtype).tiny)
        return faint.any(-1).any(-1)


def _redone(
    given: _Evidence,
    first: Callable[[_Evidence], Tensor],
    second: Callable[[_Evidence], Tensor],
) -> Tensor:
    """Return what the first finds of sequences, or the second for those where that has NaN."""
    found = first(given)
    doubtful = found.isnan()
    if found.dim() > 1:
        doubtful = doubtful.any(-1).any(-1)
    if not bool(doubtful.any()):
        return found
    sure, redo = (~doubtful).nonzero()[:, 0], doubtful.nonzero()[:, 0]
    # The derivative of what has been found is NaN at the others' evidence.
    kept = first(given.rows(sure)) if found.requires_grad else found[sure]
    done = second(given.rows(redo)).to(found.dtype)
    return torch.cat([kept, done])[torch.cat([sure, redo]).argsort()]


def _log_normalised(weights: Tensor) -> Tensor:
    """Return log-probabilities of weights [B, L, K]; NaN where too much of them may be lost."""
    total = weights.sum(-1, keepdim=True)
    probabilities = weights / torch.where(total < _doubtful(total.dtype), torch.nan, total)
    return probabilities.clamp_min(torch.finfo(weights.dtype).tiny).log()


def _in_parts(
    function: Callable[[Tensor], Tensor], rows: Tensor, width: int, *, lanes: int = 1
) -> Tensor:
    """Return function(rows), of parts that keep ``width`` numbers a row within memory."""
    count = max(1, _MEMORY // max(1, width))
    if count > lanes:
        count -= count % lanes
    return torch.cat([function(part) for part in rows.split(count)])


def _doubtful(dtype: torch.dtype) -> float:
    """Return the share below which what was lost is no rounding error any more."""
    return _LEAST[dtype] / torch.finfo(dtype).eps


def _divisor(norm: Tensor) -> Tensor:
    """Return the norm; infinity, after which nothing is left, where it is in doubt."""
    return torch.where(norm < _doubtful(norm.dtype), torch.inf, norm)


def _log(x: Tensor) -> Tensor:
    """Return ln x, with a derivative of 0 at 0."""
    none = x == 0
    return x.masked_fill(none, 1.0).log().masked_fill(none, -torch.inf)


def _log_sums(logs: Tensor, index: Tensor, size: int) -> Tensor:
    """Return the logarithms of the sums of rows [M, B] that share an index, [size, B]."""
    top = torch.full((size, logs.shape[1]), -torch.inf, dtype=logs.dtype, device=logs.device)
    top = top.scatter_reduce(0, index[:, None].expand_as(logs), logs.detach(), "amax")
    top = torch.where(top.isfinite(), top, 0.0)
    sums = torch.zeros_like(top).index_add(0, index, (logs - top[index]).exp())
    return _log(sums) + top


def _are_distributions(values: Tensor) -> bool:
    """Return whether no number is negative and the last axis sums to 1."""
    return bool((values >= 0).all() and ((values.sum(-1) - 1).abs() <= 1e-4).all())


def _entered_by(successors: Tensor) -> Tensor:
    """Return the symbol that leads into each state, [N]; 0 for one that is never entered."""
    states, classes = successors.shape
    symbols = torch.arange(classes, device=successors.device).expand(states, classes)
    found = successors.new_full((states,), -1)
    found[successors.flatten()] = symbols.flatten()
    if not bool((found[successors] == symbols).all()):
        raise ValueError("a state is entered by two symbols: split it")
    return found.clamp_min(0)


def _sparse(probabilities: Tensor, successors: Tensor, *, transpose: bool = False) -> Tensor:
    states, classes = successors.shape
    own = torch.arange(states, device=successors.device)[:, None].expand(states, classes)
    pair = (successors, own) if transpose else (own, successors)
    index = torch.stack([part.flatten() for part in pair])
    with warnings.catch_warnings():
        # torch says once that CSR is in beta, and that it does not check what is correct here.
        warnings.filterwarnings("ignore", message="Sparse (CSR|invariant)")
        matrix = torch.sparse_coo_tensor(index, probabilities.flatten(), (states, states))
        return matrix.coalesce().to_sparse_csr()
