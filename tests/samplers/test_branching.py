import numpy as np
import pytest

from lapwing.core.errors import LapwingError, UserError
from lapwing.credit.vine import vine
from lapwing.games.frozen_lake import FrozenLake
from lapwing.generation.transformers import Transformers
from lapwing.policies.agent import Agent, InvalidRule
from lapwing.policies.baselines import LegalRandom
from lapwing.policies.contexts import StateOnly
from lapwing.policies.parsers import Bare
from lapwing.policies.renderers import Grid
from lapwing.rollout.collector import LocalCollector
from lapwing.samplers.branching import Branching, _mean_returns
from lapwing.tabular.enumerate import enumerate_game
from lapwing.tabular.policy_evaluation import policy_values, uniform_policy
from lapwing.testing import episodes

GAME = FrozenLake(map_name="4x4", slippery=True)
SETTINGS = {"groups": 1, "group_size": 6, "max_steps": 8, "share_chance": False}


def played(collector, **settings):
    sampler = Branching(GAME, seed=1, **{**SETTINGS, **settings})
    rollout = collector.collect(sampler.draw(0))
    return rollout, sampler.columns(rollout, collector.collect)


@pytest.fixture
def collector(model, tokenizer):
    generator = Transformers(model, tokenizer, max_tokens=1, cache=False)
    agent = Agent(renderer=Grid(), context=StateOnly(), parser=Bare(), tokenizer=tokenizer, generator=generator)
    return LocalCollector(agent, invalid=InvalidRule(penalty=1.0))


def test_branches_measure_the_exact_value_of_a_known_policy():
    # Fails when branches begin elsewhere, play for another number of steps, or share their chance.

    game = FrozenLake(size=3, frozen_probability=1.0, slippery=True)
    collector = LocalCollector(LegalRandom(), invalid=InvalidRule())
    sampler = Branching(game, seed=1, branches=500, **SETTINGS)
    rollout = collector.collect(sampler.draw(0))
    branches = []
    columns = sampler.columns(rollout, lambda matches: branches.extend(matches) or collector.collect(matches))
    assert not any(match.share_chance for match in branches)
    steps = [step for episode in rollout.episodes for step in episode.steps]
    table = enumerate_game(game, [steps[0].state])
    values = policy_values(table, uniform_policy(table), 8)
    exact = np.array([values[step.steps_left, table.index[step.state]] for step in steps])
    # Four standard errors of a mean of 500 zeros and ones.
    assert exact.max() > 0.1
    assert np.all(np.abs(columns["branch_value"] - exact) <= 4 * np.sqrt(exact * (1 - exact) / 500) + 1e-9)


def test_the_next_value_is_that_of_the_next_step_and_0_at_the_end(collector):
    rollout, columns = played(collector, branches=3)
    last = rollout.batch.step_splits[1:] - 1
    inner = np.setdiff1d(np.arange(rollout.batch.num_steps), last)
    np.testing.assert_array_equal(columns["next_branch_value"][last], 0.0)
    np.testing.assert_array_equal(columns["next_branch_value"][inner], columns["branch_value"][inner + 1])
    advantage = vine(rollout.batch.with_columns(**columns))
    assert np.isfinite(advantage).all()


def test_equal_states_with_equally_many_steps_left_have_one_value(collector):
    rollout, columns = played(collector, branches=3)
    seen = {}
    steps = [step for episode in rollout.episodes for step in episode.steps]
    for step, value in zip(steps, columns["branch_value"], strict=True):
        assert seen.setdefault((step.state, step.steps_left), value) == value
    assert len(seen) < len(steps)


def test_the_episodes_are_those_of_plain_groups(collector):
    from lapwing.samplers.grouped import Grouped

    rollout, _ = played(collector, branches=2)
    plain = collector.collect(Grouped(GAME, seed=1, **SETTINGS).draw(0))
    np.testing.assert_array_equal(rollout.batch.token, plain.batch.token)


def test_impossible_settings_are_refused():
    with pytest.raises(UserError, match="branches is at least 1"):
        Branching(GAME, seed=0, branches=0)


# Fails when a state whose branches all failed is taken to be worth 0.
def test_a_state_without_a_branch_has_no_value():
    with pytest.raises(LapwingError, match="All branches of a state failed or missed the deadline"):
        _mean_returns(episodes([[1.0], [2.0]], group=[0, 0]), 2)
