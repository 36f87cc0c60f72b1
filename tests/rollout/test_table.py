"""Play on a table gives what play step by step gives."""

import dataclasses

import numpy as np
import pytest

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import LapwingError
from lapwing.games.bandit import Bandit
from lapwing.games.frozen_lake import FrozenLake
from lapwing.games.snake import Snake
from lapwing.generation.transformers import Transformers
from lapwing.models.chat_format import ChatFormat
from lapwing.policies.agent import Agent, InvalidRule
from lapwing.policies.contexts import StateOnly, Transcript
from lapwing.policies.parsers import Bare, Tags
from lapwing.policies.renderers import Grid
from lapwing.rollout.collector import LocalCollector
from lapwing.rollout.play import play
from lapwing.rollout.table import fits
from lapwing.samplers.grouped import Grouped

GAMES = {
    "dry": FrozenLake(size=3),
    "slippery": FrozenLake(size=3, slippery=True),
    "fixed": FrozenLake(map_name="4x4", slippery=True),
    "bandit": Bandit(),
}
RULES = {
    "default": InvalidRule(penalty=0.5),
    "chosen default": InvalidRule(default_action="up"),
    "random legal": InvalidRule(rule="random_legal", penalty=1.0),
    "forfeit": InvalidRule(rule="forfeit", penalty=1.0),
}


@pytest.fixture
def agent(model, tokenizer):
    def make(context=None, parser=None, **settings):
        generator = Transformers(model, tokenizer, **{"max_tokens": 1, "cache": False, "temperature": 3.0, **settings})
        return Agent(
            renderer=Grid(),
            context=context or StateOnly(),
            parser=parser or Bare(),
            tokenizer=tokenizer,
            generator=generator,
            chat=ChatFormat(tokenizer, ends=settings.get("ends", ())),
        )

    return make


def drawn(game, **settings):
    given = {"groups": 3, "group_size": 8, "max_steps": 5, "share_chance": False, **settings}
    return Grouped(game, seed=3, **given).draw(2)


def assert_same_batch(one: EpisodeBatch, other: EpisodeBatch):
    for f in dataclasses.fields(one):
        if f.name == "extra":
            assert set(one.extra) == set(other.extra)
        elif f.name.endswith("logprob"):
            np.testing.assert_allclose(getattr(one, f.name), getattr(other, f.name), atol=1e-5)
        else:
            np.testing.assert_array_equal(getattr(one, f.name), getattr(other, f.name), err_msg=f.name)
    for name, values in one.extra.items():
        np.testing.assert_array_equal(values, other.extra[name], err_msg=name)


@pytest.mark.parametrize(("share", "max_tokens"), [(True, 1), (False, 1), (False, 3)])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
def test_the_batch_is_that_of_play_step_by_step(agent, tokenizer, game, rule, share, max_tokens):
    # Fails when a key differs, an outcome is drawn another way, or a penalty or a final context is lost.
    if rule.default_action is not None and game is GAMES["bandit"]:
        rule = InvalidRule()
    matches = drawn(game, share_chance=share, group_size=8 if max_tokens == 1 else 40)
    # Of longer replies those are valid that say an action and then a token that ends them: here any other.
    actions = ["left", "down", "right", "up", *Bandit()._actions]
    ends = frozenset(range(len(tokenizer))) - set(tokenizer.convert_tokens_to_ids(actions))
    settings = {"max_tokens": max_tokens, **({"ends": ends} if max_tokens > 1 else {})}
    collector = LocalCollector(agent(**settings), invalid=rule)
    assert fits(collector.policy, matches, rule)
    slow = EpisodeBatch.pack(play(matches, {0: agent(**settings)}, invalid=rule))
    assert (np.diff(slow.token_splits) > 1).any() == (max_tokens > 1)
    assert 0 < slow.valid.sum() < slow.num_steps
    assert_same_batch(collector.collect(matches).batch, slow)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_episodes_made_on_demand_are_those_of_play(agent, rule):
    matches = drawn(GAMES["fixed"])
    slow = play(matches, {0: agent(max_tokens=2)}, invalid=rule)
    for one, other in zip(LocalCollector(agent(max_tokens=2), invalid=rule).play(matches), slow, strict=True):
        for f in dataclasses.fields(one):
            if f.name not in ("steps", "final_context"):
                assert getattr(one, f.name) == getattr(other, f.name), f.name
        assert (one.final_context is None) == (other.final_context is None)
        for step, same in zip(one.steps, other.steps, strict=True):
            fields = ("action", "view", "view_key", "action_key", "next_view_key", "reward", "domain_reward")
            for name in (*fields, "state", "steps_left"):
                assert getattr(step, name) == getattr(same, name), name
            for name in ("action", "valid", "text", "reason", "extends", "stop_reason"):
                assert getattr(step.decision, name) == getattr(same.decision, name), name
            np.testing.assert_array_equal(step.decision.context, same.decision.context)
            np.testing.assert_array_equal(step.decision.token, same.decision.token)
            np.testing.assert_allclose(step.decision.logprob, same.decision.logprob, atol=1e-5)


def test_a_rollout_hands_its_groups_to_the_sampler(agent):
    rollout = LocalCollector(agent(), invalid=InvalidRule()).collect(drawn(GAMES["dry"]))
    groups = rollout.groups()
    assert [group.index for group in groups] == [0, 1, 2]
    assert [episode.match.group for group in groups for episode in group.episodes] == [0] * 8 + [1] * 8 + [2] * 8
    assert len(rollout.episodes[2:5]) == 3


def test_a_second_iteration_on_the_same_table_is_that_of_a_fresh_one(agent):
    sampler = Grouped(GAMES["slippery"], seed=5, groups=2, group_size=4, max_steps=6)
    used = LocalCollector(agent(), invalid=InvalidRule())
    used.collect(sampler.draw(0))
    fresh = LocalCollector(agent(), invalid=InvalidRule())
    assert_same_batch(used.collect(sampler.draw(1)).batch, fresh.collect(sampler.draw(1)).batch)


def test_what_a_table_cannot_play_is_left_to_play_step_by_step(agent):
    matches = drawn(GAMES["dry"])
    assert not fits(agent(context=Transcript()), matches, InvalidRule())
    assert not fits(agent(max_tokens=2, cache=True), matches, InvalidRule())
    assert fits(agent(max_tokens=2), matches, InvalidRule())
    assert not fits(agent(max_tokens=2, parser=Tags(spans=True)), matches, InvalidRule())
    assert not fits(agent(), matches, InvalidRule(rule="retry"))
    assert not fits(agent(), Grouped(Snake(), seed=0, groups=1, group_size=2, max_steps=2).draw(0), InvalidRule())
    assert not fits(agent(), [], InvalidRule())
    # Two games have two tables.
    assert not fits(agent(), [*matches, *drawn(GAMES["slippery"])], InvalidRule())


@dataclasses.dataclass(frozen=True)
class Cracked(FrozenLake):
    """Fails in one way, and only there."""

    where: int = 1
    method: str = "outcomes"

    def crack(self, state, method):
        if method == self.method and state.position == self.where:
            raise ValueError("the ice is broken")

    def initial(self, rng):
        state = FrozenLake.initial(self, rng)
        self.crack(state, "initial")
        return state

    def view(self, state, player):
        self.crack(state, "view")
        return FrozenLake.view(self, state, player)

    def legal(self, state, player):
        self.crack(state, "legal")
        return FrozenLake.legal(self, state, player)

    def outcomes(self, state, actions):
        self.crack(state, "outcomes")
        found = FrozenLake.outcomes(self, state, actions)
        if self.method != "reward" or state.position != self.where:
            return found
        return [(p, dataclasses.replace(transition, reward={0: float("nan")})) for p, transition in found]


# F28, F33. Fails when a table hides what a game does wrong, or when the whole play fails with one match.
@pytest.mark.parametrize("lookahead", [0, 32])
@pytest.mark.parametrize("method", ["view", "legal", "outcomes", "reward"])
def test_a_game_that_fails_on_the_table_is_played_one_by_one(agent, method, lookahead):
    # Seen from the start, 1 is the cell to the right.
    broken, sound = Cracked(map_name="4x4", method=method), Cracked(map_name="4x4", where=99)
    collector = LocalCollector(agent(), invalid=RULES["default"], lookahead_states=lookahead)
    matches = drawn(broken)
    episodes = collector.play(matches)
    missing = len(matches) - len(episodes)
    assert 0 < missing < len(matches)
    slow = LocalCollector(agent(), invalid=RULES["default"], tabular=False).play(drawn(sound))
    texts = {e.match.identifier: [step.decision.text for step in e.steps] for e in slow}
    assert all(texts[e.match.identifier] == [step.decision.text for step in e.steps] for e in episodes)
    assert all(step.state.position != 1 for episode in episodes for step in episode.steps)
    assert collector.ledger.failed == missing == len(collector.take_faults())
    # A sound game is played on the table again.
    assert len(collector.collect(drawn(sound)).episodes) == len(matches)


def test_a_start_that_fails_fails_its_group_alone(agent):
    collector = LocalCollector(agent(), invalid=RULES["default"])
    with pytest.raises(LapwingError, match=r"All 24 matches failed .*ValueError: the ice is broken"):
        collector.collect(drawn(Cracked(map_name="4x4", where=0, method="initial")))
