"""Sequences of symbols from a Markov source: their exact posterior under independent evidence.

The state of a discrete flow is evidence about each element on its own: ``p(theta | x)`` is
proportional to ``prod_d theta_d(x_d)`` (Graves et al. 2023, eq. 185: only ``z_x`` of the exponent
depends on x).  For a Markov source the posterior of every element given all of theta is therefore
that of a hidden Markov model, which the forward-backward algorithm gives exactly (Rabiner 1989,
Proc. IEEE 77, section III.B).  It is the network that no other can beat on such data: with it, and
a beta_1 that leaves no doubt at t = 1, the continuous-time loss is the entropy of the source.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.nn.functional import threshold

from bfn_core.tensors import at_least_float32, without_autocast

_MEMORY = 1 << 27  # numbers of the forward pass that are kept at a time
_LANES = 16  # sequences beside each other that a processor multiplies best
_LEAST = 1e-30  # what is below moves nothing, and denormal numbers are slow
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
        ValueError: shapes, rows that do not sum to 1, a state entered by two symbols.
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
        if probabilities.min() < 0 or (probabilities.sum(1) - 1).abs().max() > 1e-4:
            raise ValueError("the probabilities of a state must not be negative and sum to 1")
        self._probabilities, self._successors = probabilities, successors
        self._symbol = _entered_by(successors)
        self._backward = _sparse(probabilities, successors)
        self._forward = _sparse(probabilities, successors, transpose=True)
        if start is None:
            with without_autocast(probabilities):
                start = self._stationary()
        elif start.shape != (self.states,):
            raise ValueError(f"start has shape {tuple(start.shape)} for {self.states} states")
        self.start = start

    def posterior(self, evidence: Tensor) -> Tensor:
        """Return the probability of each symbol at each place given the evidence at all places.

        Args:
            evidence: likelihood of each symbol at each place up to a factor, [B, L, K].

        Returns:
            Log-probabilities [B, L, K], at least float32; what has none gets that of the smallest
            number there is.  NaN for sequences whose evidence the source cannot make.

        Raises:
            ValueError: evidence of another shape.
        """
        evidence, _ = self._checked(evidence)
        with without_autocast(evidence):
            if torch.is_grad_enabled() and evidence.requires_grad:
                return self._recorded_posterior(evidence)
            rows = max(1, _MEMORY // max(1, self.states * evidence.shape[1]))
            if rows > _LANES:
                rows -= rows % _LANES
            parts = [self._posterior(part) for part in evidence.split(rows)]
            return torch.cat(parts) if parts else evidence

    def log_evidence(self, evidence: Tensor) -> Tensor:
        """Return ``ln sum_x p(x) prod_d e_d(x_d)``, [B]; for one-hot evidence that is ln p(x).

        Args:
            evidence: as for :meth:`posterior`, [B, L, K].
        """
        evidence, factors = self._checked(evidence)
        matrix, alpha = self._forward.to(evidence.dtype), self._begin(evidence)
        total = factors.log().sum(1)
        with without_autocast(evidence):
            for place in range(evidence.shape[1]):
                moved = torch.sparse.mm(matrix, alpha) * self._of_states(evidence[:, place])
                norm = moved.sum(0)
                total = total + norm.log()
                alpha = threshold(moved / norm.clamp_min(_LEAST), _LEAST, 0.0)
        return total

    def sample(self, count: int, length: int, generator: torch.Generator | None = None) -> Tensor:
        """Return sequences of the source, int64 [count, length]."""
        state = torch.multinomial(self.start, count, replacement=True, generator=generator)
        symbols = []
        for _ in range(length):
            drawn = torch.multinomial(self._probabilities[state], 1, generator=generator)
            symbols.append(drawn)
            state = self._successors[state].gather(1, drawn)[:, 0]
        return torch.cat(symbols, 1)

    def _checked(self, evidence: Tensor) -> tuple[Tensor, Tensor]:
        """Return the evidence, at each place over its largest [B, L, K], and that factor [B, L]."""
        if evidence.dim() != 3 or evidence.shape[-1] != self.classes:
            raise ValueError(
                f"evidence must be [B, L, {self.classes}], got {tuple(evidence.shape)}"
            )
        evidence = at_least_float32(evidence)
        largest = evidence.detach().amax(-1)
        factors = torch.where(largest > 0, largest, 1.0)
        return evidence / factors[..., None], factors

    def _begin(self, evidence: Tensor) -> Tensor:
        return self.start.to(evidence.dtype)[:, None].repeat(1, len(evidence))

    def _advance(self, matrix: Tensor, alpha: Tensor, evidence: Tensor, *, out: Tensor) -> None:
        """Write the next state's distribution, [N, B]."""
        out.addmm_(matrix, alpha, beta=0).mul_(self._of_states(evidence))
        threshold(out.div_(out.sum(0).clamp_min(_LEAST)), _LEAST, 0.0, inplace=True)

    def _of_states(self, evidence: Tensor) -> Tensor:
        """Return the evidence [B, K] for the symbol that led into each state, [N, B]."""
        return evidence.T.contiguous().index_select(0, self._symbol)

    def _posterior(self, evidence: Tensor) -> Tensor:
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
            threshold(ahead.div_(ahead.amax(0).clamp_min(_LEAST)), _LEAST, 0.0, inplace=True)
            beta, ahead = ahead, beta
        return _log_normalised(result.permute(2, 0, 1))

    def _recorded_posterior(self, evidence: Tensor) -> Tensor:
        """Return the posterior such that it can be differentiated: nothing is written in place."""
        length = evidence.shape[1]
        forward, backward = self._forward.to(evidence.dtype), self._backward.to(evidence.dtype)
        alpha, alphas = self._begin(evidence), []
        for place in range(length):
            alpha = torch.sparse.mm(forward, alpha) * self._of_states(evidence[:, place])
            alpha = alpha / alpha.detach().sum(0).clamp_min(_LEAST)
            alphas.append(alpha)
        beta, result = torch.ones_like(alpha), []
        for place in reversed(range(length)):
            empty = evidence.new_zeros(self.classes, len(evidence))
            result.append(empty.index_add(0, self._symbol, alphas[place] * beta))
            beta = torch.sparse.mm(backward, beta * self._of_states(evidence[:, place]))
            beta = beta / beta.detach().amax(0).clamp_min(_LEAST)
        if not result:
            return evidence
        return _log_normalised(torch.stack(result[::-1]).permute(2, 0, 1))

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


def _log_normalised(weights: Tensor) -> Tensor:
    """Return log-probabilities of weights [B, L, K]."""
    probabilities = weights / weights.sum(-1, keepdim=True)
    return probabilities.clamp_min(torch.finfo(weights.dtype).tiny).log()


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
