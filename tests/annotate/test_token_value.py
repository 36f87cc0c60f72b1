import functools

import numpy as np
import pytest
import torch

from lapwing.annotate.token_value import PRODUCES, TokenValue
from lapwing.core import rng
from lapwing.core.batch import EpisodeBatch
from lapwing.credit.token_gae import NEEDS, token_gae
from lapwing.games.frozen_lake import ACTIONS
from lapwing.policies.agent import InvalidRule
from lapwing.policies.contexts import Transcript
from lapwing.rollout.play import play
from lapwing.testing import episodes


def drawn(text, key):
    """Replies of three to six tokens."""
    chance = rng.generator("reply", key)
    return "hm " * int(chance.integers(4)) + f"<action> {chance.choice(ACTIONS)} </action>"


@pytest.fixture
def played(make_agent, make_match):
    def run(count=6, **settings):
        matches = [make_match(group=i, max_steps=4) for i in range(count)]
        return EpisodeBatch.pack(play(matches, {0: make_agent(drawn, **settings)}, invalid=InvalidRule()))

    return run


# Fails when the value of a token is read after it instead of before it, or within another reply.
@pytest.mark.parametrize("context", [None, Transcript()], ids=["state only", "transcript"])
def test_values_are_read_before_each_token(played, make_model, context):
    batch = played(context=context)
    made = TokenValue(make_model(seed=1), seed=0, clip=0.0, learning_rate=0.02)
    noisy = batch.with_columns(reward=np.random.default_rng(0).normal(size=batch.num_steps))
    for _ in range(3):
        made.learn(noisy.with_columns(**made.columns(noisy)), np.zeros(batch.num_tokens))
    columns = made.columns(batch)
    assert set(columns) == set(PRODUCES)
    expected, critic = [], made.critic
    for step in range(batch.num_steps):
        reply = batch.token[batch.token_splits[step] : batch.token_splits[step + 1]]
        context = batch.context(step)
        ids = torch.from_numpy(np.concatenate([context, reply]).astype(np.int64))[None]
        hidden = critic._body(input_ids=ids).last_hidden_state[0, len(context) - 1 : -1]
        expected += (hidden @ critic._weight[0] + critic._bias[0]).detach().tolist()
    np.testing.assert_allclose(columns["token_value"], expected, atol=1e-5)
    assert np.std(expected) > 0.01
    truncated = batch.truncated & ~batch.terminated
    assert truncated.any()
    np.testing.assert_array_equal(columns["final_value"] != 0, truncated)


class Recorded(TokenValue):
    """A critic that shows what it is taught."""

    def learn(self, batch, advantage):
        found = {}
        self.critic.fit = lambda rows, lessons: found.update(lessons) or {}
        super().learn(batch, advantage)
        return found["token_value"]


def test_the_targets_of_the_gae_family_by_hand(model):
    # credit.md 8.1: rewards of the tokens [0, .3, 0, 1], values [.5, .6, .4, .2], λ = ½: A = [.2, .2, .2, .8].
    batch = episodes([[0.3, 1.0]], tokens_per_step=2, token_value=[[[0.5, 0.6], [0.4, 0.2]]], final_value=[0])
    credit = functools.partial(token_gae, discount=1.0, lambda_=0.5)
    lesson = Recorded(model, credit, NEEDS, seed=0).learn(batch, credit(batch))
    np.testing.assert_allclose(lesson.target, [0.7, 0.8, 0.6, 1.0])
    np.testing.assert_allclose(lesson.behavior_value, [0.5, 0.6, 0.4, 0.2])


def test_other_credit_teaches_every_token_the_return_of_its_step(model):
    # The step without tokens teaches nothing; γ counts steps, not tokens.
    batch = episodes(
        [[1, 2, 4], [8]], tokens_per_step=[[2, 0, 1], [1]], token_value=[[[0, 0], [], [0]], [[0]]], final_value=[0, 0]
    )
    lesson = Recorded(model, seed=0, discount=0.5).learn(batch, np.zeros(4))
    np.testing.assert_allclose(lesson.target, [3.0, 3.0, 4.0, 8.0])
    np.testing.assert_array_equal(lesson.episode, [0, 0, 0, 1])


def test_a_batch_whose_replies_are_empty_has_no_values(model):
    batch = episodes([[0, 1]], tokens_per_step=0)
    made = TokenValue(model, seed=0)
    columns = made.columns(batch)
    assert columns["token_value"].shape == (0,)
    metrics = made.learn(batch.with_columns(**columns), np.zeros(0))
    assert set(metrics) == {"critic/token_value_gradient_norm", "critic/token_value_nonfinite"}
