"""Identical context–reply pairs go through the model once, and every token gets what its own pass would give."""

import numpy as np
import pytest

from lapwing.models.distinct import DistinctReplies
from lapwing.models.scorer import Scorer
from lapwing.testing import episodes


@pytest.fixture
def batch():
    # Five steps: 0, 2 and 4 are equal; 1 has the same context but a longer reply that begins alike; 3 has no reply.
    made = episodes([[0.0, 0.0], [0.0, 0.0, 0.0]], tokens_per_step=[[2, 3], [2, 0, 2]])
    token = np.array([5, 6, 5, 6, 7, 5, 6, 5, 6], dtype=np.int32)
    return made.with_columns(token=token, context_token=np.array([3, 3, 3, 4, 3], dtype=np.int32))


def test_equal_pairs_are_found(batch):
    found = DistinctReplies(batch, np.arange(5))
    pairs = sorted((c.tolist(), r.tolist()) for c, r in zip(found.contexts, found.replies, strict=True))
    assert pairs == [([3], [5, 6]), ([3], [5, 6, 7]), ([4], [])]
    assert sorted(found.index.tolist()) == list(range(9))


def test_a_hash_that_comes_with_the_batch_is_used(batch):
    keyed = batch.with_columns(context_key=np.array([9, 9, 8, 7, 9], dtype=np.uint64))
    assert len(DistinctReplies(keyed, np.arange(5)).contexts) == 4


def test_every_token_has_the_score_of_its_own_pass(batch, model):
    # Fails when the score of a pair is given to another token.
    steps = np.array([0, 1, 2, 4])
    found = DistinctReplies(batch, steps)
    scorer = Scorer(model, row_tokens=1, batch_tokens=1)
    got = np.full(9, np.nan)
    entropy = np.full(9, np.nan)
    for scored in found.scored(scorer, entropy=True):
        got[found.index[scored.index]] = scored.logprob.detach().numpy()
        entropy[found.index[scored.index]] = scored.entropy.detach().numpy()
    contexts = [batch.context(n) for n in steps]
    replies = [batch.token[batch.token_splits[n] : batch.token_splits[n + 1]] for n in steps]
    plain = Scorer(model).score(contexts, replies, want=("logprob", "entropy"))
    np.testing.assert_allclose(got, plain["logprob"], atol=1e-5)
    np.testing.assert_allclose(entropy, plain["entropy"], atol=1e-5)


def test_steps_of_a_part_of_the_batch_point_into_the_whole(batch):
    found = DistinctReplies(batch, np.array([4, 1]))
    assert sorted(found.index.tolist()) == [2, 3, 4, 7, 8]
    np.testing.assert_array_equal(np.sort(batch.token[found.index]), [5, 5, 6, 6, 7])
