"""Against sums over all sequences, and the bound of the posterior against the entropy."""

from __future__ import annotations

import copy
import itertools
import math
import pickle

import pytest
import torch
from torch.nn.functional import one_hot

from bfn_core import (
    CategoricalOutput,
    DiscreteFlow,
    JointFlow,
    MarkovChain,
    bayesian_sampler,
    flow_bound,
    likelihood_bound,
    sample,
    uniform_grid,
)
from bfn_core import markov as module

# Two symbols; the state is the last two of them: aa, ab, ba, bb.
PROBS = torch.tensor([[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]], dtype=torch.float64)
NEXT = torch.tensor([[0, 1], [2, 3], [0, 1], [2, 3]])
START = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)


def all_sequences(length, classes=2):
    return torch.tensor(list(itertools.product(range(classes), repeat=length)))


def law(length, start=START):
    """p(x) of every sequence, symbol by symbol."""
    values = []
    for row in all_sequences(length).tolist():
        total = 0.0
        for state, weight in enumerate(start.tolist()):
            for symbol in row:
                weight *= float(PROBS[state, symbol])
                state = int(NEXT[state, symbol])
            total += weight
        values.append(total)
    return torch.tensor(values, dtype=torch.float64)


def test_posterior_and_evidence_are_the_sums_over_all_sequences(generator):
    chain = MarkovChain(PROBS, NEXT, start=START)
    evidence = torch.rand(3, 5, 2, generator=generator, dtype=torch.float64)
    sequences = all_sequences(5)
    seen = evidence[:, torch.arange(5), sequences].prod(-1)  # [3, 32]
    joint = law(5) * seen
    expected = torch.stack(
        [(joint[:, :, None] * (sequences == k)).sum(1) for k in range(2)], -1
    ) / joint.sum(1).view(3, 1, 1)
    assert torch.allclose(chain.posterior(evidence).exp(), expected, atol=1e-13)
    assert torch.allclose(chain.log_evidence(evidence), joint.sum(1).log(), atol=1e-13)
    exact = one_hot(sequences, 2).double()
    assert torch.allclose(chain.log_evidence(exact), law(5).log(), atol=1e-12)
    one_by_one = [chain.log_evidence(exact[k : k + 1]) for k in range(32)]
    assert torch.allclose(torch.cat(one_by_one), law(5).log(), atol=1e-12)
    single = chain.posterior(evidence.float())
    assert single.dtype == torch.float32
    assert torch.allclose(single.double().exp(), expected, atol=1e-6)


def test_a_batch_is_cut_where_memory_is_short(generator, monkeypatch):
    chain = MarkovChain(PROBS, NEXT)
    evidence = torch.rand(40, 6, 2, generator=generator)
    whole = chain.posterior(evidence)
    monkeypatch.setattr("bfn_core.markov._MEMORY", 17 * 6 * 4)  # 17 rows: 16 of them
    assert torch.allclose(chain.posterior(evidence), whole, atol=1e-6)
    assert chain.posterior(evidence[:0]).shape == (0, 6, 2)


def test_by_default_it_starts_where_it_settles():
    start = MarkovChain(PROBS, NEXT).start
    moved = torch.zeros(4, dtype=torch.float64)
    for state, symbol in itertools.product(range(4), range(2)):
        moved[NEXT[state, symbol]] += start[state] * PROBS[state, symbol]
    assert torch.allclose(moved, start, atol=1e-6)
    assert float(start.sum()) == pytest.approx(1)
    # a b a b ...: a source with a period has no limit, but an average.
    turns = MarkovChain(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([[0, 1], [0, 1]]))
    assert turns.start.tolist() == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize("states", [4, 600])  # more than 512: iterated, not squared
def test_autocast_changes_nothing(states, generator):
    probabilities = torch.softmax(torch.randn(states, 2, generator=generator), 1)
    successors = torch.arange(2 * states).reshape(states, 2) % states
    evidence = torch.rand(3, 6, 2, generator=generator)
    recorded = evidence.clone().requires_grad_()

    def found():
        chain = MarkovChain(probabilities, successors)
        return chain.start, chain.posterior(evidence), chain.log_evidence(evidence)

    expected = found()
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(one, two) for one, two in zip(found(), expected, strict=True))
        learnt = MarkovChain(probabilities, successors).posterior(recorded)
    learnt.sum().backward()
    assert torch.allclose(learnt, expected[1], atol=1e-6)
    assert float(recorded.grad.abs().max()) > 0


def test_samples_have_the_law_of_the_source(generator, assert_frequencies):
    drawn = MarkovChain(PROBS, NEXT, start=START).sample(20_000, 4, generator)
    codes = (drawn * torch.tensor([8, 4, 2, 1])).sum(1)
    assert_frequencies(torch.bincount(codes, minlength=16), law(4))


def test_evidence_that_leaves_nothing_but_one_sequence():
    chain = MarkovChain(PROBS.float(), NEXT)
    path = torch.tensor([[0, 1, 1, 0, 1, 0] * 50])
    evidence = torch.where(one_hot(path, 2) == 1, 1.0, 1e-30)
    posterior = chain.posterior(evidence)
    assert bool(posterior.isfinite().all())
    assert torch.equal(posterior.argmax(-1), path)


def chain_flows(chain, beta_1):
    flows = JointFlow(x=DiscreteFlow(classes=2, beta_1=beta_1))

    def predict(states, times):
        return {"x": CategoricalOutput(chain.posterior(logits=states["x"].logits))}

    return flows, predict


def test_its_bound_is_each_sequence_s_own_probability(assert_mean, generator):
    """With an accuracy that leaves nothing that symbols of a sequence could share at t = 1."""
    chain = MarkovChain(PROBS.float(), NEXT, start=START.float())
    flows, predict = chain_flows(chain, 12.0)
    for x in ([0, 0, 0, 0, 0], [0, 1, 0, 1, 1]):
        data = {"x": torch.tensor(x).expand(4000, 5)}
        bound = likelihood_bound(flows, predict, data, repeats=8, generator=generator)
        own = float(chain.log_evidence(one_hot(data["x"][:1], 2).float()))
        assert_mean(bound.nats, -own)


def test_few_steps_cost_more_than_the_entropy(generator):
    """An output distribution of independent symbols cannot hold the posterior of a long step."""
    chain = MarkovChain(PROBS.float(), NEXT, start=START.float())
    flows, predict = chain_flows(chain, 1.0)
    data = {"x": chain.sample(4000, 5, generator)}
    own = chain.log_evidence(one_hot(data["x"], 2).float())
    gaps = {}
    for n in (1, 3):
        bound = likelihood_bound(flows, predict, data, n_steps=n, repeats=4, generator=generator)
        gaps[n] = bound.nats + own
        assert float(gaps[n].mean()) > 5 * float(gaps[n].std()) / math.sqrt(4000)
    assert float(gaps[1].mean()) > float(gaps[3].mean())


def test_the_sampler_makes_the_source_s_sequences(generator, assert_frequencies):
    """Many small updates with the exact posterior: the law is that of the source."""
    chain = MarkovChain(PROBS.float(), NEXT, start=START.float())
    flows, predict = chain_flows(chain, 8.0)
    outputs = sample(
        flows,
        predict,
        {"x": (4000, 4)},
        grid=uniform_grid(60),
        sampler=bayesian_sampler(),
        generator=generator,
    )
    codes = (outputs["x"] * torch.tensor([8, 4, 2, 1])).sum(1)
    assert_frequencies(torch.bincount(codes, minlength=16), law(4))


def test_what_the_source_cannot_make():
    """After b never b; at the first place, in the middle and at the end."""
    chain = MarkovChain(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([[0, 1], [0, 1]]))
    for sequence in ([1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]):
        evidence = one_hot(torch.tensor([sequence, [0, 1, 0, 1]]), 2).float()
        assert chain.log_evidence(evidence).isinf().tolist() == [True, False]
        assert chain.posterior(evidence).isnan().all(-1).all(-1).tolist() == [True, False]


def test_what_is_no_source_is_refused():
    for shape in ((3, 5, 4), (5, 2)):
        with pytest.raises(ValueError, match=r"evidence must be \[B, L, 2\], got"):
            MarkovChain(PROBS, NEXT).posterior(torch.ones(shape))
    with pytest.raises(ValueError, match="do not fit"):
        MarkovChain(PROBS, NEXT[:3])
    with pytest.raises(ValueError, match="sum to 1"):
        MarkovChain(2 * PROBS, NEXT)
    for successor in (-1, 2):  # an index out of range would be read or written beyond the arrays
        with pytest.raises(ValueError, match="successors must be states from 0 to 1"):
            MarkovChain(torch.full((2, 2), 0.5), torch.tensor([[0, successor], [0, 1]]))
    with pytest.raises(ValueError, match="entered by two symbols"):
        MarkovChain(PROBS, torch.zeros(4, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="start has shape"):
        MarkovChain(PROBS, NEXT, start=START[:2])
    for start in (2 * START, START - START.flip(0), START * math.nan):
        with pytest.raises(ValueError, match="of start must not be negative and sum to 1"):
            MarkovChain(PROBS, NEXT, start=start)
    for arguments in ({}, {"evidence": torch.ones(3, 5, 2), "logits": torch.ones(3, 5, 2)}):
        with pytest.raises(ValueError, match="give either evidence or its logits"):
            MarkovChain(PROBS, NEXT).posterior(**arguments)
    with pytest.raises(ValueError, match=r"evidence must be \[B, L, 2\], got"):
        MarkovChain(PROBS, NEXT).log_evidence(logits=torch.ones(3, 5, 4))


@pytest.mark.parametrize("change", [1e-3, 1e-5, 1e-9])
def test_a_source_that_hardly_moves_settles_too(change):
    probabilities = torch.tensor([[1 - change, change], [2 * change, 1 - 2 * change]])
    chain = MarkovChain(probabilities.double(), torch.tensor([[0, 1], [0, 1]]))
    assert chain.start.tolist() == pytest.approx([2 / 3, 1 / 3], rel=1e-4)


def test_one_that_does_not_settle_is_told(monkeypatch):
    monkeypatch.setattr(module, "_SQUARED", 0)
    probabilities = torch.tensor([[1 - 1e-6, 1e-6], [2e-6, 1 - 2e-6]], dtype=torch.float64)
    with pytest.warns(UserWarning, match="has not settled"):
        MarkovChain(probabilities, torch.tensor([[0, 1], [0, 1]]))
    again = MarkovChain(PROBS, NEXT).start
    monkeypatch.undo()
    assert torch.allclose(again, MarkovChain(PROBS, NEXT).start, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-31, 1e30])
def test_evidence_counts_up_to_a_factor(factor, generator):
    chain = MarkovChain(PROBS.float(), NEXT)
    evidence = torch.rand(3, 20, 2, generator=generator)
    torch.testing.assert_close(chain.posterior(factor * evidence), chain.posterior(evidence))
    gained = chain.log_evidence(factor * evidence) - chain.log_evidence(evidence)
    assert gained.tolist() == pytest.approx([20 * math.log(factor)] * 3, rel=1e-5)


def test_its_gradient_is_the_covariance_of_the_symbols(generator):
    """d p_i(x) / d ln e_j(y) = p(x_i = x, x_j = y) - p_i(x) p_j(y), by numbers."""
    chain = MarkovChain(PROBS, NEXT, start=START)
    evidence = torch.rand(2, 4, 2, generator=generator, dtype=torch.float64)
    recorded = chain.posterior(evidence.clone().requires_grad_())
    torch.testing.assert_close(recorded.detach(), chain.posterior(evidence))
    points = evidence.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda e: chain.posterior(e).exp(), (points,))
    assert torch.autograd.gradcheck(chain.log_evidence, (points,))


def test_its_density_along_the_ode_is_its_own():
    """The bound by the ODE's exact trace is the sequence's own probability too."""
    flows = JointFlow(x=DiscreteFlow(classes=2, beta_1=9.0))
    chain = MarkovChain(PROBS, NEXT, start=START)

    def predict(states, times):
        return {"x": CategoricalOutput(chain.posterior(logits=states["x"].logits))}

    data = all_sequences(3)[[0, 3, 5]].repeat(40, 1)
    generator = torch.Generator().manual_seed(5)
    found = flow_bound(flows, predict, {"x": data}, steps=40, generator=generator)
    expected = -law(3)[[0, 3, 5]].log()
    means = found.nats.reshape(40, 3).mean(0).double()
    torch.testing.assert_close(means, expected, rtol=0, atol=0.35)


# Sources whose state is the last symbol, of which they begin with any: a b a b ..., whose phase
# alone is unknown; one symbol for ever; and one of three that hardly ever changes.
TURNS, STAYS = 1 - torch.eye(2, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
CHANGES = 0.999 * STAYS + 0.0005 * (1 - STAYS)


def source_of(step, dtype=torch.float64):
    classes = len(step)
    successors = torch.arange(classes).expand(classes, classes)
    start = torch.full((classes,), 1 / classes, dtype=dtype)
    return MarkovChain(step.to(dtype), successors, start=start)


def by_enumeration(step, logits):
    """Posterior [B, L, K] and ln evidence [B], as sums over all sequences in logarithms."""
    length, classes = logits.shape[1:]
    sequences = all_sequences(length, classes)
    paths = step.log()[sequences[:, :-1], sequences[:, 1:]].sum(1)
    paths = paths + step.mean(0).log()[sequences[:, 0]]
    joint = paths + logits.double()[:, torch.arange(length), sequences].sum(-1)
    total = torch.logsumexp(joint, 1)
    kept = one_hot(sequences, classes).bool()
    ways = torch.where(kept, joint[..., None, None], -math.inf)
    return (torch.logsumexp(ways, 1) - total[:, None, None]).exp(), total


# What one half of the evidence takes from a symbol the other half gives back.
CONFLICTS = [
    (TURNS, [[[0, -75], [0, -74]]]),
    (TURNS, [[[0, -95], [0, -94]]]),
    (TURNS, [[[0, -40], [-40, 0], [-40.5, 0], [0, -40]]]),
    (TURNS, [[[0, -800], [0, -799]]]),
    (TURNS, [[[0, -600], [-600, 0], [-600.5, 0], [0, -600]]]),
    # The last symbol rules out the first, and what is left are the second and the third.
    (STAYS, [[[0, -23, -71], [-200, -48, 0]]]),
    (CHANGES, [[[0, -30, -99], [0, -20, -88], [-70, -30, 0], [-90, -99, 0]]]),
]


@pytest.mark.parametrize(("step", "logits"), CONFLICTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_evidence_that_brings_back_what_was_lost(step, logits, dtype):
    plain = torch.zeros(1, len(logits[0]), len(step), dtype=dtype)
    logits = torch.cat([plain, torch.tensor(logits, dtype=dtype), plain])
    chain = source_of(step, dtype)
    expected, total = by_enumeration(step.to(dtype).double(), logits)
    tolerance = {"rtol": 0, "atol": 1e-11 if dtype == torch.float64 else 2e-6}
    recorded = logits.clone().requires_grad_()
    for given in (logits, recorded):
        found = chain.posterior(logits=given)
        assert found.dtype == dtype
        torch.testing.assert_close(found.exp().double(), expected, **tolerance)
        found = chain.log_evidence(logits=given)
        torch.testing.assert_close(found.double(), total, rtol=1e-6, atol=1e-6)
    evidence = logits.exp()
    if bool((evidence > torch.finfo(dtype).tiny).all()):
        found = chain.posterior(evidence).exp().double()
        torch.testing.assert_close(found, expected, **tolerance)
        found = chain.log_evidence(evidence).double()
        torch.testing.assert_close(found, total, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("gap", [1.0, 40.0, 800.0])
def test_the_gradient_of_what_is_done_again(gap):
    """One sequence is and one is not; the symbol that is ruled out takes no part."""
    chain = source_of(TURNS)
    logits = torch.tensor([[[0.3, 0.0], [0.0, 0.5], [0.0, 0.1]]] * 2, dtype=torch.float64)
    logits[1] += gap * torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: chain.posterior(logits=z).exp(), (logits,))
    assert torch.autograd.gradcheck(lambda z: chain.log_evidence(logits=z), (logits,))
    assert torch.autograd.gradgradcheck(lambda z: chain.posterior(logits=z).exp(), (logits,))


def test_the_gradient_by_evidence_of_zero_is_finite():
    chain = source_of(CHANGES, torch.float32)
    evidence = torch.tensor([[[1, 1e-38, 0], [1, 1e-38, 0], [0, 1e-30, 1], [0, 1e-30, 1]]])
    evidence.requires_grad_()
    expected, _ = by_enumeration(CHANGES, evidence.detach().double().log())
    found = chain.posterior(evidence)
    torch.testing.assert_close(found.exp().double(), expected, rtol=0, atol=1e-6)
    found.exp()[..., 0].sum().backward()
    assert bool(evidence.grad.isfinite().all())


def test_impossible_logits():
    chain = source_of(TURNS, torch.float32)
    certain = torch.where(one_hot(torch.tensor([[0, 1, 0], [0, 1, 1]]), 2) == 1, 0.0, -math.inf)
    assert chain.log_evidence(logits=certain).tolist() == pytest.approx([math.log(0.5), -math.inf])
    found = chain.posterior(logits=certain)
    assert found[0].argmax(-1).tolist() == [0, 1, 0]
    assert bool(found[0].isfinite().all())
    assert bool(found[1].isnan().all())


def test_logits_count_up_to_a_constant_and_are_those_of_the_evidence(generator):
    chain = MarkovChain(PROBS, NEXT, start=START)
    logits = torch.randn(3, 5, 2, generator=generator, dtype=torch.float64)
    posterior, total = chain.posterior(logits=logits), chain.log_evidence(logits=logits)
    torch.testing.assert_close(posterior, chain.posterior(logits.exp()))
    torch.testing.assert_close(total, chain.log_evidence(logits.exp()))
    constants = 500 * torch.randn(3, 5, generator=generator, dtype=torch.float64)
    moved = logits + constants[..., None]
    torch.testing.assert_close(chain.posterior(logits=moved), posterior)
    torch.testing.assert_close(chain.log_evidence(logits=moved), total + constants.sum(1))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda chain: pickle.loads(pickle.dumps(chain))])
def test_copies_are_the_same_source(copied, generator):
    module = torch.nn.Module()
    module.chain = MarkovChain(PROBS, NEXT, start=START)
    evidence = torch.rand(2, 5, 2, generator=generator)
    again = copied(module).chain
    assert again is not module.chain
    assert torch.equal(again.posterior(evidence), module.chain.posterior(evidence))
    assert torch.equal(again.log_evidence(evidence), module.chain.log_evidence(evidence))
    assert torch.equal(again.start, START)


def test_a_source_with_a_period_spends_its_time_in_each_state():
    """From 0 to 1 or 2, and back: 0 every second step."""
    probabilities = torch.tensor([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    successors = torch.tensor([[0, 1, 2]]).repeat(3, 1)
    chain = MarkovChain(probabilities, successors)
    torch.testing.assert_close(chain.start, torch.tensor([0.5, 0.25, 0.25]))


def test_samples_of_no_length_and_none_at_all():
    chain = MarkovChain(PROBS, NEXT, start=START)
    assert chain.sample(0, 5).shape == (0, 5)
    assert chain.sample(5, 0).shape == (5, 0)
    with pytest.raises(ValueError, match="at least 0, got -1 and 3"):
        chain.sample(-1, 3)
