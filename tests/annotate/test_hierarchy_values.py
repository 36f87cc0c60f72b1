import functools

import numpy as np
import pytest
import torch

from lapwing.annotate.hierarchy_values import PRODUCES, HierarchyValues
from lapwing.core.errors import MissingColumnError
from lapwing.credit.hae import NEEDS, hae
from lapwing.testing import episodes

OTHER, THINK, SWITCH, SUBGOAL, ACTION = 0, 1, 2, 3, 4
# One episode of replies: tags beside the spans, no tags, no subgoal, nothing, a subgoal at the end of the reply.
SPANS = [
    [OTHER, SWITCH, OTHER, OTHER, SUBGOAL, SUBGOAL, OTHER, OTHER, ACTION, OTHER],
    [SWITCH, SUBGOAL, ACTION],
    [OTHER, ACTION],
    [],
    [SWITCH, SUBGOAL],
]
# Tokens of each reply that have been seen where v_low is read.
SEEN = [7, 2, 0, 0, 2]


def batch_of(spans=SPANS, switch=None, **columns):
    tokens = [len(span) for span in spans]
    batch = episodes(
        [[0.0] * len(spans)],
        tokens_per_step=[tokens],
        span=[spans],
        switch=[[True] * len(spans) if switch is None else switch],
        **columns,
    )
    chance = np.random.default_rng(0)
    return batch.with_columns(
        token=chance.integers(4, 40, batch.num_tokens).astype(np.int32),
        context_token=chance.integers(4, 40, batch.num_steps).astype(np.int32),
    )


# Fails when v_low is read before the subgoal is complete or after the action began, or when heads are mixed up.
def test_each_head_is_read_at_its_place(make_model):
    batch = batch_of()
    made = HierarchyValues(make_model(seed=1), seed=0, clip=0.0, learning_rate=0.02)
    noisy = batch.with_columns(reward=np.random.default_rng(1).normal(size=batch.num_steps))
    for _ in range(3):
        made.learn(noisy.with_columns(**made.columns(noisy)), np.zeros(batch.num_tokens))
    columns = made.columns(batch)
    assert set(columns) == set(PRODUCES)
    critic = made.critic
    for step, seen in enumerate(SEEN):
        start = batch.token_splits[step]
        for head, count in (("v_low", seen), ("v_high", 0), ("v_term", 0)):
            row = np.concatenate([batch.context(step), batch.token[start : start + count]]).astype(np.int64)
            hidden = critic._body(input_ids=torch.from_numpy(row)[None]).last_hidden_state[0, -1]
            number = PRODUCES.index(head)
            alone = (hidden @ critic._weight[number] + critic._bias[number]).detach()
            assert columns[head][step] == pytest.approx(float(alone), abs=1e-5), (head, step)
    assert np.std([columns[head] for head in PRODUCES]) > 0.01


class Recorded(HierarchyValues):
    """A critic that shows what it is taught."""

    def learn(self, batch, advantage):
        found = {}
        self.critic.fit = lambda rows, lessons: found.update(lessons) or {}
        super().learn(batch, advantage)
        return found


# credit.md section 5, worked: four steps in two segments.
WORKED = {
    "v_low": [[0.2, 0.4, 0.5, 0.6]],
    "v_high": [[0.3, 9.0, 0.55, 9.0]],
    "v_term": [[0.4, 0.4, 0.6, 0.8]],
}


def worked(spans, **rewards):
    batch = batch_of(spans, [True, False, True, False], **WORKED)
    return batch.with_columns(reward=np.array([0.0, 0.0, 0.0, 1.0]))


@pytest.mark.parametrize("normalise", [False, True])
def test_the_targets_by_hand(model, normalise):
    batch = worked([[SWITCH, SUBGOAL, ACTION]] * 4)
    credit = functools.partial(hae, discount=0.9, lambda_=0.5, segment_lambda=0.5, normalise=normalise)
    lessons = Recorded(model, credit, NEEDS, seed=0).learn(batch, credit(batch))
    np.testing.assert_allclose(lessons["v_low"].target, [0.40275, 0.495, 0.72, 1.0])
    # A_high = .28725 and .35 where a segment opens; elsewhere v_high is not taught.
    np.testing.assert_allclose(lessons["v_high"].target, [0.3 + 0.28725, 0.55 + 0.35])
    np.testing.assert_allclose(lessons["v_high"].behavior_value, [0.3, 0.55])
    # A_term = [.0455, .095, .3, .2].
    np.testing.assert_allclose(lessons["v_term"].target, [0.4455, 0.495, 0.9, 1.0])


def test_a_missing_span_teaches_what_is_there(model):
    # The second reply has no action: its low advantage stands on its other token alone and on its switch token beside
    # A_term. The third is a plan and nothing else: no token has the low advantage alone.
    batch = worked([[SWITCH, SUBGOAL, ACTION], [SWITCH, OTHER], [SWITCH, SUBGOAL], [ACTION, ACTION]])
    credit = functools.partial(hae, discount=0.9, lambda_=0.5, segment_lambda=0.5)
    lessons = Recorded(model, credit, NEEDS, seed=0).learn(batch, credit(batch))
    np.testing.assert_allclose(lessons["v_low"].target, [0.40275, 0.495, 1.0])
    np.testing.assert_allclose(lessons["v_high"].target, [0.58725])
    np.testing.assert_allclose(lessons["v_term"].target, [0.4455, 0.495])


def test_a_subgoal_that_is_kept_teaches_the_high_level_nothing(model):
    batch = batch_of([[SUBGOAL, ACTION]] * 3, [False, False, True], v_low=[[0] * 3], v_high=[[0] * 3], v_term=[[0] * 3])
    lessons = Recorded(model, hae, NEEDS, seed=0).learn(batch, hae(batch))
    # The first step of an episode opens a segment in any case.
    assert len(lessons["v_high"].target) == 2
    assert len(lessons["v_term"].target) == 0


def test_other_credit_is_taught_the_return(model):
    batch = worked([[SWITCH, SUBGOAL, ACTION]] * 4)
    lessons = Recorded(model, seed=0, discount=0.5).learn(batch, np.zeros(4))
    np.testing.assert_allclose(lessons["v_low"].target, [0.125, 0.25, 0.5, 1.0])
    np.testing.assert_allclose(lessons["v_high"].target, [0.125, 0.5])


def test_replies_without_tokens_are_read_before_the_reply(model):
    batch = batch_of([[], []])
    columns = HierarchyValues(model, seed=0).columns(batch)
    assert all(columns[head].shape == (2,) for head in PRODUCES)


def test_a_batch_without_spans_is_refused_by_name(model):
    with pytest.raises(MissingColumnError, match=r"hierarchy_values needs the column 'span'.*policies/parsers"):
        HierarchyValues(model, seed=0).columns(episodes([[0.0]]))
