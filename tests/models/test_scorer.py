import numpy as np
import pytest
import torch

from lapwing.models.scorer import Questions, Scorer

RNG = np.random.default_rng(3)
CONTEXTS = [RNG.integers(4, 40, size=length).astype(np.int32) for length in (3, 7, 1, 12, 5)]
# Shared contexts, a whole pair twice, a reply that begins another one, and a reply without tokens.
CONTEXTS = [*CONTEXTS, CONTEXTS[1], CONTEXTS[1], CONTEXTS[3], CONTEXTS[0]]
REPLIES = [RNG.integers(4, 40, size=length).astype(np.int32) for length in (2, 4, 1, 3, 6)]
REPLIES = [*REPLIES, REPLIES[1], REPLIES[1][:2], RNG.integers(4, 40, size=5).astype(np.int32), np.zeros(0, np.int32)]


def plain(model, temperature=1.0):
    """Log-probability and entropy of every reply token, one sequence at a time; with gradient."""
    logprob, entropy = [], []
    for context, reply in zip(CONTEXTS, REPLIES, strict=True):
        ids = torch.from_numpy(np.concatenate([context, reply]).astype(np.int64))
        rows = torch.log_softmax(model(ids[None]).logits[0, len(context) - 1 : -1] / temperature, dim=-1)
        logprob.append(rows.gather(1, ids[len(context) :, None])[:, 0])
        entropy.append(-(rows.exp() * rows).sum(-1))
    return torch.cat(logprob), torch.cat(entropy)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_scores_are_those_of_each_pair_alone(model, temperature):
    # Fails when the node before the token is off by one, or the temperature is left out.
    scores = Scorer(model, temperature=temperature).score(CONTEXTS, REPLIES, want=("logprob", "entropy"))
    logprob, entropy = plain(model, temperature)
    np.testing.assert_allclose(scores["logprob"], logprob, atol=1e-5)
    np.testing.assert_allclose(scores["entropy"], entropy, atol=1e-5)


@pytest.mark.parametrize(("row_tokens", "batch_tokens"), [(1, 1), (20, 20), (20, 60), (1000, 1)])
def test_the_sizes_of_micro_batches_do_not_matter(model, row_tokens, batch_tokens):
    # Fails when nodes are counted from the first row of all instead of the first of the micro-batch.
    want = ("logprob", "entropy")
    whole = Scorer(model).score(CONTEXTS, REPLIES, want=want)
    small = Scorer(model, row_tokens=row_tokens, batch_tokens=batch_tokens).score(CONTEXTS, REPLIES, want=want)
    for name in want:
        np.testing.assert_allclose(small[name], whole[name], atol=1e-6)


def test_every_token_is_in_exactly_one_micro_batch(model):
    scorer = Scorer(model, row_tokens=8, batch_tokens=8)
    with torch.no_grad():
        parts = list(scorer.micro_batches(CONTEXTS, REPLIES))
    assert len(parts) > 3
    assert sorted(np.concatenate([part.index for part in parts]).tolist()) == list(range(sum(map(len, REPLIES))))
    assert all(part.entropy is None for part in parts)


def test_the_gradient_of_micro_batches_adds_up_to_that_of_one_plain_batch(make_model):
    # Fails when a pair that occurs twice is counted once.
    model = make_model(seed=2)
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=sum(map(len, REPLIES)))).float()
    logprob, entropy = plain(model)
    (weight * (logprob + 0.3 * entropy)).sum().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    for row_tokens, batch_tokens in [(160, 16384), (10, 10)]:
        model.zero_grad()
        scorer = Scorer(model, row_tokens=row_tokens, batch_tokens=batch_tokens)
        for part in scorer.micro_batches(CONTEXTS, REPLIES, entropy=True):
            assert part.entropy is not None
            (weight[torch.from_numpy(part.index)] * (part.logprob + 0.3 * part.entropy)).sum().backward()
        for parameter, gradient in zip(model.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)


def test_replies_without_tokens_have_no_scores(model):
    nothing = np.zeros(0, dtype=np.int32)
    scores = Scorer(model).score([CONTEXTS[0], CONTEXTS[1]], [nothing, nothing], want=("logprob", "entropy"))
    assert scores["logprob"].shape == scores["entropy"].shape == (0,)
    assert Scorer(model).score([], [])["logprob"].shape == (0,)


def test_scoring_keeps_no_gradient(make_model):
    model = make_model()
    Scorer(model).score(CONTEXTS, REPLIES)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_replies_inside_one_sequence_are_those_of_their_own_contexts(model):
    # A transcript of three replies, and another sequence that is the same: 3 4 | 5 6 | 7 | 8 | 9 | 10 11
    token = np.array([3, 4, 5, 6, 7, 8, 9, 10, 11], dtype=np.int32)
    contexts, replies = [token[:2], token[:5], token[:7]], [token[2:4], token[5:6], token[7:9]]
    asked = Questions(
        [token[:8], token[:8]], np.array([0, 0, 1, 0, 1]), np.array([1, 2, 4, 6, 7]), token[[2, 3, 5, 7, 8]]
    )
    want = ("logprob", "entropy")
    scorer = Scorer(model)
    found, expected = scorer.score_answers(asked, want=want), Scorer(model).score(contexts, replies, want=want)
    for name in want:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
    assert scorer.tokens == 8
