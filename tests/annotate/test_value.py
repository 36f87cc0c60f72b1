import functools

import numpy as np
import pytest
import torch

from lapwing.annotate.value import PRODUCES, Value
from lapwing.core import rng
from lapwing.core.batch import EpisodeBatch, merged_reward
from lapwing.core.errors import LapwingError, UserError
from lapwing.core.protocols import Critic
from lapwing.core.storage import key_of
from lapwing.credit.gae import NEEDS, gae
from lapwing.games.frozen_lake import ACTIONS, FrozenLake
from lapwing.policies.agent import InvalidRule
from lapwing.policies.contexts import Transcript
from lapwing.rollout.play import play
from lapwing.stats.explained_variance import explained_variance
from lapwing.tabular.enumerate import enumerate_game
from lapwing.tabular.policy_evaluation import policy_values
from lapwing.testing import episodes

SHARES = (0.1, 0.4, 0.4, 0.1)  # left, down, right, up


def drawn(text, key):
    """A reply that does not look at the map."""
    return f"<action> {ACTIONS[rng.generator('action', key).choice(4, p=SHARES)]} </action>"


@pytest.fixture
def played(make_agent, make_match):
    def run(count=12, max_steps=4, **settings):
        matches = [make_match(group=i, max_steps=max_steps) for i in range(count)]
        return EpisodeBatch.pack(play(matches, {0: make_agent(drawn, **settings)}, invalid=InvalidRule()))

    return run


@pytest.fixture
def made(make_model):
    """A critic that no longer says 0."""
    made = Value(make_model(seed=1), seed=0)
    with torch.no_grad():
        made.critic._weight.copy_(torch.linspace(-1.0, 1.0, made.critic._weight.shape[1])[None])
    return made


def alone(made, context):
    body, critic = made.critic._body, made.critic
    hidden = body(input_ids=torch.from_numpy(context.astype(np.int64))[None]).last_hidden_state[0, -1]
    return float((hidden @ critic._weight[0] + critic._bias[0]).detach())


# Fails when the value is read before the last token of the context, or after the first of the reply.
@pytest.mark.parametrize("context", [None, Transcript()], ids=["state only", "transcript"])
def test_values_are_read_at_the_end_of_each_context(played, made, context):
    batch = played(context=context)
    columns = made.columns(batch)
    assert set(columns) == set(PRODUCES)
    expected = [alone(made, batch.context(n)) for n in range(batch.num_steps)]
    np.testing.assert_allclose(columns["value"], expected, atol=1e-5)
    assert np.std(expected) > 0.01


# Fails when the final value of an episode that the rules ended is read, or that of another episode.
def test_only_a_truncated_episode_has_a_final_value(played, made):
    batch = played(count=30)
    assert batch.truncated.any()
    assert batch.terminated.any()
    final = made.columns(batch)["final_value"]
    for episode in range(batch.num_episodes):
        low, high = batch.final_context_splits[episode : episode + 2]
        expected = alone(made, batch.final_context_token[low:high]) if batch.truncated[episode] else 0.0
        assert final[episode] == pytest.approx(expected, abs=1e-5)


def test_equal_contexts_go_through_the_body_once(played, made):
    batch = played(count=40)
    sizes = []
    made.critic._body.register_forward_hook(
        lambda body, args, kwargs, out: sizes.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    made.columns(batch)
    once = sum(sizes)
    sizes.clear()
    made.columns(EpisodeBatch.concatenate([batch] * 5))
    assert sum(sizes) == once


def test_values_do_not_depend_on_the_hash_of_the_context(played, made):
    batch = played()
    extra = {name: column for name, column in batch.extra.items() if name != "context_key"}
    without = EpisodeBatch(**{n: batch.column(n) for n in batch._arrays() if n not in batch.extra}, extra=extra)
    np.testing.assert_array_equal(made.columns(without)["value"], made.columns(batch)["value"])


class Recorded(Value):
    """A critic that shows what it is taught."""

    def learn(self, batch, advantage):
        found = {}
        self.critic.fit = lambda rows, lessons: found.update(lessons) or {}
        super().learn(batch, advantage)
        return found


def test_the_targets_of_the_gae_family_by_hand(model):
    # γ = λ = ½: δ_1 = 1 − 0.4 = 0.6, δ_0 = 0 + ½·0.4 − 0.2 = 0, A_0 = ¼·0.6 = 0.15; targets A + V = [0.35, 1.0].
    batch = episodes([[0, 1]], value=[[0.2, 0.4]], final_value=[0.0])
    credit = functools.partial(gae, discount=0.5, lambda_=0.5)
    made = Recorded(model, credit, NEEDS, seed=0)
    lesson = made.learn(batch, credit(batch))["value"]
    np.testing.assert_allclose(lesson.target, [0.35, 1.0])
    np.testing.assert_allclose(lesson.behavior_value, [0.2, 0.4])
    np.testing.assert_array_equal(lesson.episode, [0, 0])


def test_other_credit_is_taught_the_discounted_return(model):
    # The outcome 4 belongs to the last step: 1 + 4 = 5, 0 + ½·5, 2 + ½·2.5; the other episode is its own.
    batch = episodes([[2, 0, 1], [3]], outcome=[4, 0], value=[[9, 9, 9], [9]], final_value=[0, 0])
    made = Recorded(model, None, ("view_key",), seed=0, discount=0.5)
    np.testing.assert_allclose(made.learn(batch, np.full(4, 77.0))["value"].target, [3.25, 2.5, 5.0, 3.0])


def test_gae_at_lambda_one_is_taught_the_return(model):
    batch = episodes([[0, 0, 1], [1, -1]], value=[[0.3, 0.1, 0.2], [0.5, 0.6]], final_value=[0, 0])
    made = Recorded(model, gae, NEEDS, seed=0)
    target = made.learn(batch, gae(batch, discount=1.0, lambda_=1.0))["value"].target
    np.testing.assert_allclose(target, [1, 1, 1, 0, -1], atol=1e-12)
    assert merged_reward(batch).sum() == pytest.approx(1.0)


def test_an_advantage_of_tokens_does_not_fit_a_critic_of_steps(model):
    batch = episodes([[0, 1]], value=[[0, 0]], final_value=[0], tokens_per_step=2)
    with pytest.raises(LapwingError, match=r"'value' needs an advantage \[N\]"):
        Value(model, gae, NEEDS, seed=0).learn(batch, np.zeros(4))


def test_a_critic_is_a_critic_and_metrics_have_its_name(model, played):
    batch = played()
    made = Value(model, seed=0)
    assert isinstance(made, Critic)
    metrics = made.learn(batch.with_columns(**made.columns(batch)), np.zeros(batch.num_steps))
    assert set(metrics) == {
        "critic/value_loss",
        "critic/value_explained_variance",
        "critic/value_gradient_norm",
        "critic/value_nonfinite",
    }


def test_a_warm_up_ends_after_its_iterations(model, played):
    batch = played(count=2)
    made = Value(model, seed=0, warm_up=2)
    ready = []
    for _ in range(4):
        ready.append(made.ready)
        made.learn(batch.with_columns(**made.columns(batch)), np.zeros(batch.num_steps))
    assert ready == [False, False, True, True]


def test_settings_are_tried_without_a_model():
    Value.check(discount=1.0, learning_rate=1e-3)
    with pytest.raises(UserError, match="discount"):
        Value.check(discount=1.1)
    with pytest.raises(UserError, match="warm_up"):
        Value.check(discount=1.0, warm_up=-1)


# Fails when the target's sign is turned, the reads are those of another step, or the outcome of learning is lost.
@pytest.mark.parametrize("credited", [True, False], ids=["advantage plus value", "return"])
def test_the_values_of_a_policy_that_never_changes_become_the_exact_ones(played, make_model, credited):
    game = FrozenLake(map_name="4x4")
    table = enumerate_game(game, [game.initial(rng.generator("start"))])
    policy = np.where(table.is_legal, np.array(SHARES), 0.0)
    assert all(actions in (ACTIONS, ()) for actions in table.legal)
    exact = policy_values(table, policy, 200)[200]
    credit = functools.partial(gae, discount=1.0, lambda_=0.95)
    model = make_model(seed=1, hidden=32, intermediate=64)
    made = Value(model, credit if credited else None, NEEDS if credited else (), seed=0, learning_rate=3e-3, clip=0.0)
    matches = played(count=600, max_steps=200)
    state_of = {key_of(game.view(state, 0)): index for index, state in enumerate(table.states)}
    position = np.array([state_of[int(key)] for key in matches.view_key])
    for _ in range(60):
        batch = matches.with_columns(**made.columns(matches))
        made.learn(batch, credit(batch))
    value = made.columns(matches)["value"]
    assert explained_variance(value, exact[position]) > 0.8
    assert abs(np.mean(value - exact[position])) < 0.05
