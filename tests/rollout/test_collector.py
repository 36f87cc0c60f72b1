import numpy as np
import pytest

from lapwing.games.frozen_lake import FrozenLake
from lapwing.games.snake import Snake
from lapwing.generation.transformers import Transformers
from lapwing.policies.agent import Agent, InvalidRule
from lapwing.policies.baselines import Heuristic, LegalRandom, Scripted
from lapwing.policies.contexts import StateOnly, Transcript
from lapwing.policies.parsers import Bare
from lapwing.policies.renderers import Grid
from lapwing.rollout.collector import LocalCollector
from lapwing.samplers.grouped import Grouped


@pytest.fixture
def agent(model, tokenizer):
    def make(context=None, **settings):
        generator = Transformers(model, tokenizer, **{"max_tokens": 2, "cache": False, **settings})
        return Agent(
            renderer=Grid(), context=context or StateOnly(), parser=Bare(), tokenizer=tokenizer, generator=generator
        )

    return make


def matches(**settings):
    return Grouped(FrozenLake(slippery=True), seed=3, groups=4, group_size=3, max_steps=6, **settings).draw(0)


@pytest.mark.parametrize("context", [StateOnly(), Transcript()], ids=["state only", "transcript"])
@pytest.mark.parametrize("cache", [True, False])
def test_announcing_states_changes_no_episode(agent, context, cache):
    # Fails when an announced distribution is stored under the key of another context.
    plain, announced = (
        LocalCollector(agent(context, cache=cache), invalid=InvalidRule(), lookahead_states=states).play(matches())
        for states in (0, 32)
    )
    assert len(plain) == 12
    for one, other in zip(plain, announced, strict=True):
        assert [s.decision.token.tolist() for s in one.steps] == [s.decision.token.tolist() for s in other.steps]
        for step, same in zip(one.steps, other.steps, strict=True):
            np.testing.assert_allclose(step.decision.logprob, same.decision.logprob, atol=1e-5)


def test_announced_states_are_computed_before_play(agent):
    # Fails when nothing is announced; then every step of the lockstep computes its own few contexts.
    policy = agent(max_tokens=1)
    collector = LocalCollector(policy, invalid=InvalidRule(), lookahead_states=64)
    collector._announce(matches())
    computed = policy.generator.tokens_computed
    assert computed > 0
    collector.play(matches())
    assert policy.generator.tokens_computed == computed


def test_episodes_come_in_the_order_of_the_matches_and_the_late_are_counted(agent):
    drawn = matches()
    collector = LocalCollector(agent(), invalid=InvalidRule())
    assert [episode.match for episode in collector.play(drawn)] == drawn
    assert collector.dropped == 0
    late = LocalCollector(agent(), invalid=InvalidRule(), deadline_seconds=0.0)
    assert late.play(drawn) == []
    assert late.dropped == len(drawn)


def test_the_learner_sits_on_seat_0_and_opponents_on_the_others():
    game = Snake(width=4, height=4, num_snakes=2)
    drawn = Grouped(game, seed=0, groups=3, group_size=2, max_steps=5).draw(0)
    episodes = LocalCollector(LegalRandom(), opponents={1: Scripted()}, invalid=InvalidRule()).play(drawn)
    assert [episode.player for episode in episodes] == [0] * 6


def test_a_collector_plays_baselines_and_teachers_too(agent):
    assert len(LocalCollector(Heuristic(), invalid=InvalidRule()).play(matches())) == 12
    taught = agent()
    taught.teacher = Heuristic()
    episodes = LocalCollector(taught, invalid=InvalidRule()).play(matches())
    assert all(step.decision.valid for episode in episodes for step in episode.steps)
    assert taught.generator.tokens_computed == 0
