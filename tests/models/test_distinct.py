"""Identical context–reply pairs go through the model once, and every token gets what its own pass would give."""

import dataclasses
import tracemalloc

import numpy as np
import pytest

from lapwing.core.storage import bytes_key
from lapwing.models.distinct import DistinctReplies
from lapwing.models.scorer import Scorer
from lapwing.models.tree import grow
from lapwing.testing import episodes


@pytest.fixture
def batch():
    # Five steps: 0, 2 and 4 are equal; 1 has the same context but a longer reply that begins alike; 3 has no reply.
    made = episodes([[0.0, 0.0], [0.0, 0.0, 0.0]], tokens_per_step=[[2, 3], [2, 0, 2]])
    token = np.array([5, 6, 5, 6, 7, 5, 6, 5, 6], dtype=np.int32)
    return made.with_columns(token=token, context_token=np.array([3, 3, 3, 4, 3], dtype=np.int32))


def asked(found):
    """What stands before each token that is scored, and the token."""
    _, row, place, token = found.questions
    before = [found.questions.sequences[r][: p + 1].tolist() for r, p in zip(row, place, strict=True)]
    return sorted(zip(before, token.tolist(), strict=True))


def test_equal_pairs_are_found(batch):
    found = DistinctReplies(batch, np.arange(5))
    assert found.num_pairs == 3
    # [3] → 5 6 and [3] → 5 6 7; the third pair has no token.
    assert asked(found) == [([3], 5), ([3], 5), ([3, 5], 6), ([3, 5], 6), ([3, 5, 6], 7)]
    assert sorted(found.index.tolist()) == list(range(9))


def test_a_hash_that_comes_with_the_batch_is_used(batch):
    keyed = batch.with_columns(context_key=np.array([9, 9, 8, 7, 9], dtype=np.uint64))
    assert DistinctReplies(keyed, np.arange(5)).num_pairs == 4


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


@pytest.fixture
def transcripts():
    """Two episodes of a group that begin alike, and part at their second reply; the last context stands alone."""
    made = episodes([[0.0] * 3, [0.0] * 3], tokens_per_step=[[2, 1, 1], [2, 1, 2]])
    # 3 4 | 5 6 | 7 | 8 | 9 | 8        3 4 | 5 6 | 7 | 9 |       12 | 5 6
    return dataclasses.replace(
        made,
        token=np.array([5, 6, 8, 8, 5, 6, 9, 5, 6], dtype=np.int32),
        context_token=np.array([3, 4, 7, 9, 3, 4, 7, 12], dtype=np.int32),
        context_splits=np.array([0, 2, 3, 4, 6, 7, 8]),
        extends_previous=np.array([False, True, True, False, True, False]),
    )


def test_the_replies_of_a_transcript_lie_in_one_sequence(transcripts):
    # Fails when every step has its whole context, or the first reply of the second episode is asked again.
    found = DistinctReplies(transcripts, np.arange(6))
    assert found.num_pairs == 5
    assert sorted(s.tolist() for s in found.questions.sequences) == [[3, 4, 5, 6, 7], [3, 4, 5, 6, 7, 8, 9], [12, 5]]
    assert asked(found) == [
        ([3, 4], 5),
        ([3, 4, 5], 6),
        ([3, 4, 5, 6, 7], 8),
        ([3, 4, 5, 6, 7], 9),
        ([3, 4, 5, 6, 7, 8, 9], 8),
        ([12], 5),
        ([12, 5], 6),
    ]


def test_a_part_of_a_transcript_is_read_up_to_its_last_step(transcripts):
    found = DistinctReplies(transcripts, np.array([1, 3]))
    assert asked(found) == [([3, 4], 5), ([3, 4, 5], 6), ([3, 4, 5, 6, 7], 8)]
    assert sorted(s.tolist() for s in found.questions.sequences) == [[3, 4, 5], [3, 4, 5, 6, 7]]


def test_hashes_of_contexts_are_those_of_whole_ones(transcripts):
    # Fails when a context that extends another is hashed without it.
    whole = np.array([bytes_key(transcripts.context(n).tobytes()) for n in range(6)], dtype=np.uint64)
    keyed = DistinctReplies(transcripts.with_columns(context_key=whole), np.arange(6))
    np.testing.assert_array_equal(DistinctReplies(transcripts, np.arange(6)).index, keyed.index)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_ranks_share_the_pairs_of_transcripts(transcripts, count, model):
    # Fails when the tokens of a share are numbered as if it held all pairs.
    alone = DistinctReplies(transcripts, np.arange(6)).score(Scorer(model), want=("logprob", "entropy"))
    total = None
    for rank in range(count):
        share = DistinctReplies(transcripts, np.arange(6), ranks=Share(rank, count))
        mine = share.score(Scorer(model), want=("logprob", "entropy"))
        total = mine if total is None else {name: total[name] + mine[name] for name in mine}
    for name in alone:
        np.testing.assert_allclose(total[name], alone[name], atol=1e-5)


class Share:
    """One of several processes, which exchange nothing: what the others scored stays 0."""

    def __init__(self, rank, count):
        self.rank, self.count = rank, count

    def share(self, count):
        return np.array_split(np.arange(count), self.count)[self.rank]

    def sum(self, numbers):
        return numbers


def test_a_transcript_costs_memory_in_proportion_to_its_length():
    # Fails when the whole context of every step is kept: 400 steps of 20 tokens would take 6 MB.
    steps = 400
    made = dataclasses.replace(
        episodes([[0.0] * steps]),
        context_token=np.arange(19 * steps, dtype=np.int32),
        context_splits=19 * np.arange(steps + 1),
        extends_previous=np.arange(steps) > 0,
    )
    tracemalloc.start()
    found = DistinctReplies(made, np.arange(steps))
    tree = grow(found.questions.sequences)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(tree.node[0]) == 20 * steps - 1
    assert peak < 1e6
