import copy

import numpy as np
import pytest
import torch

from bfn_core import MarkovChain
from molbfn.benchmarks.networks.ngram_prior import NGramPrior, PriorNetwork
from molbfn.benchmarks.networks.text_unet import TextUNet
from molbfn.benchmarks.ngrams import count_ngrams, find_successors


def text(length=3000):
    """Syllables of a consonant and a vowel, so that a character says much of the next."""
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(0, 3, length // 2), rng.integers(3, 5, length // 2)], 1).flatten()


@pytest.fixture
def prior():
    prior = NGramPrior(classes=5, order=3, states=12)
    prior.fit(text())
    return prior


def test_it_is_the_posterior_of_what_was_counted(prior):
    found = count_ngrams(text(), classes=5, order=3, states=12)
    chain = MarkovChain(
        torch.from_numpy(found.probabilities),
        torch.from_numpy(find_successors(found.contexts, 5)),
    )
    evidence = torch.rand(2, 8, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(prior(evidence), chain.posterior(evidence), atol=1e-5)


def test_before_counting_it_says_what_the_evidence_says():
    evidence = torch.rand(2, 8, 5, generator=torch.Generator().manual_seed(0))
    known = NGramPrior(classes=5, order=3, states=12)(evidence)
    assert torch.allclose(known.exp(), evidence / evidence.sum(-1, keepdim=True), atol=1e-6)


def test_other_weights_are_seen_at_once(prior):
    evidence = torch.rand(2, 8, 5, generator=torch.Generator().manual_seed(0))
    expected = prior(evidence)
    other = NGramPrior(classes=5, order=3, states=12)
    assert not torch.allclose(other(evidence), expected, atol=0.1)
    other.load_state_dict(prior.state_dict())
    assert torch.equal(other(evidence), expected)
    assert torch.equal(copy.deepcopy(other)(evidence), expected)


def network(prior):
    return PriorNetwork(prior, TextUNet(length=8, classes=5, inputs=10, width=8, inner_width=8,
                                        heads=2, condition_width=8))  # fmt: skip


def test_an_untrained_network_is_the_prior(prior):
    evidence = torch.softmax(torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(0)), -1)
    t = {"x": torch.tensor([0.1, 0.5, 0.9])}
    with torch.no_grad():
        found = network(prior)({"x": 2 * evidence - 1}, t)["x"]
    assert torch.allclose(found, prior(evidence), atol=1e-4)


def test_certain_evidence_and_evidence_against_all_that_was_seen(prior):
    """Vowels only, which never follow each other: no number there is rounded to nothing."""
    seen = torch.full((1, 8, 5), -1.0)
    seen[..., 3] = 1.0
    t = {"x": torch.ones(1)}
    found = network(prior)({"x": seen}, t)["x"]
    assert bool(found.isfinite().all())
    assert bool((found.argmax(-1) == 3).all())


def test_only_the_inner_network_is_trained_and_compiled(prior, monkeypatch):
    whole = network(prior)
    assert all(name.startswith("inner.") for name, _ in whole.named_parameters())
    assert list(whole.hidden_matrices()) == list(whole.inner.hidden_matrices())
    calls = []
    monkeypatch.setattr(whole.inner, "compile", lambda **options: calls.append(options))
    whole.compile(dynamic=False)
    assert calls == [{"dynamic": False}]
