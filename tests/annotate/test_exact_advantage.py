"""The exact advantage against matches that the engine played, and what is refused."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from lapwing import build
from lapwing.annotate._truth import Places, Situation, Truth
from lapwing.annotate.exact_advantage import ExactAdvantage
from lapwing.core.errors import LapwingError, UserError
from lapwing.core.ragged import reverse_discounted_sum
from lapwing.core.types import Match, Transition
from lapwing.games.chain import Chain
from lapwing.games.frozen_lake import FrozenLake
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.generation.transformers import Transformers
from lapwing.models.tiny import tiny_model, tiny_tokenizer
from lapwing.policies.agent import Agent, InvalidRule
from lapwing.policies.baselines import Random, Scripted
from lapwing.policies.contexts import StateOnly
from lapwing.policies.parsers import Bare, Tags
from lapwing.policies.renderers import Coordinates
from lapwing.rollout.collector import LocalCollector

LAKE = FrozenLake(map_name="4x4", slippery=True)


def make(game, rule=None, *, max_steps=8, max_tokens=1, opponents=None, seed=3):
    """A small untrained model whose legal replies are likely enough to be seen, and its situation."""
    renderer, parser = Coordinates(), Bare()
    start = game.initial(np.random.default_rng(0))
    words = renderer.words(game.view(start, 0)) | parser.words(game.legal(start, 0)) | {"LEFT"}
    tokenizer = tiny_tokenizer(words)
    model = tiny_model(len(tokenizer), seed=seed, hidden=16, layers=1, heads=2, intermediate=32).eval()
    agent = Agent(
        renderer=renderer,
        context=StateOnly(),
        parser=parser,
        tokenizer=tokenizer,
        generator=Transformers(model, tokenizer, max_tokens=max_tokens, cache=False),
    )
    situation = Situation(agent, game, rule or InvalidRule(), max_steps, opponents or {}, lambda: [start])
    return model, situation


def played(situation, episodes, groups=1):
    matches = [
        Match(situation.game, 0, "train", 0, member % groups, member, situation.max_steps, share_chance=False)
        for member in range(episodes)
    ]
    collector = LocalCollector(situation.agent, opponents=situation.opponents, invalid=situation.invalid)
    return collector.collect(matches).batch


RULES = {
    "default": InvalidRule("default", 0.5, "right"),
    "random_legal": InvalidRule("random_legal", 0.5),
    "forfeit": InvalidRule("forfeit", 0.5),
    "retry": InvalidRule("retry", 0.5, retries=2),
}


@pytest.mark.parametrize("rule", RULES)
def test_returns_from_every_step_agree_with_the_exact_values(rule):
    model, situation = make(LAKE, RULES[rule])
    batch = played(situation, 3000)
    truth = Truth(model, Places(situation, situation.starts(), max_states=100))
    returns = batch.episode_return
    assert abs(returns.mean() - truth.solution.expected_return) < 4 * returns.std() / np.sqrt(len(returns))
    # The return from a step on has, given the step's state and reply, the exact action value as its mean.
    view, left, level, action = truth.places.locate(batch)
    value = truth.solution.action_values[level, left, truth.places.state_of_view[view], action]
    surprise = reverse_discounted_sum(batch.reward, 1.0, batch.step_splits) - value
    for at in range(8):
        for is_invalid in (False, True):
            chosen = (left == at + 1) & (~batch.valid == is_invalid)
            if chosen.sum() > 50:
                error = surprise[chosen].std() / np.sqrt(chosen.sum())
                assert abs(surprise[chosen].mean()) < 4.5 * max(error, 1e-3), (at, is_invalid)
    assert (level.max() > 0) == (rule == "retry")


def test_the_column_is_the_advantage_of_each_reply():
    model, situation = make(LAKE, RULES["default"])
    batch = played(situation, 400)
    (column,) = ExactAdvantage(model, situation=situation).columns(batch).values()
    truth = Truth(model, Places(situation, situation.starts(), max_states=100))
    assert column.shape == (batch.num_steps,)
    np.testing.assert_array_equal(column, truth.advantage(batch))
    # First step, reply "right": Q − V, both looked up by hand.
    start = truth.places.table.index[situation.starts()[0]]
    legal = truth.places.table.legal[start]
    first = batch.step_splits[:-1]
    q, v = truth.solution.action_values[0, 8, start], truth.solution.values[0, 8, start]
    from lapwing.core.storage import key_of

    for number, name in enumerate(legal):
        chosen = batch.valid[first] & (batch.action_key[first] == np.uint64(key_of(name)))
        assert chosen.any()
        np.testing.assert_array_equal(column[first[chosen]], q[number] - v)
    np.testing.assert_array_equal(column[first[~batch.valid[first]]], q[-1] - v)


def test_new_weights_are_read_for_every_batch():
    model, situation = make(LAKE)
    annotator, batch = ExactAdvantage(model, situation=situation), played(situation, 50)
    before = annotator.columns(batch)["exact_advantage"]
    other, _ = make(LAKE, seed=4)
    model.load_state_dict(other.state_dict())
    assert np.abs(annotator.columns(batch)["exact_advantage"] - before).max() > 1e-4


def test_all_tokens_that_parse_to_an_action_count():
    model, situation = make(LAKE)
    truth = Truth(model, Places(situation, situation.starts(), max_states=100))
    tokens = situation.agent.tokenizer.convert_tokens_to_ids(["left", "LEFT"])
    prompt = situation.agent.prompt(truth.places.views[0], None)
    import torch

    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt.token.tolist()])).logits[0, -1]
    expected = torch.softmax(logits.double(), dim=-1)[tokens].sum().item()
    assert truth.policy[0, 0] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(truth.policy.sum(axis=1), 1.0)


def test_longer_replies_have_the_probability_of_the_composed_one():
    model, situation = make(LAKE, max_tokens=2)
    truth = Truth(model, Places(situation, situation.starts(), max_states=100))
    agent, row = situation.agent, truth.policy[0]
    from lapwing.models.scorer import Scorer

    prompt = agent.prompt(truth.places.views[0], None)
    replies = [agent.reply(action) for action in truth.places.legal[0]]
    assert {len(reply) for reply in replies} == {2}
    logprob = Scorer(model).score([prompt.token] * 4, replies)["logprob"].reshape(4, 2).sum(axis=1)
    np.testing.assert_allclose(row[:4], np.exp(logprob), rtol=1e-5)
    assert row[4] == pytest.approx(1 - row[:4].sum())


# With first=None either seat begins, so that this is also the game in which seat 0 does.
@pytest.mark.parametrize("policy", [Random(), Scripted()])
def test_against_a_fixed_opponent(policy):
    game = TicTacToe(first=None)
    model, situation = make(game, max_steps=9, opponents={1: policy})
    starts = [state for _, state in game.initial_outcomes()]
    situation = replace(situation, starts=lambda: starts)
    batch = played(situation, 1500, groups=20)
    truth = Truth(model, Places(situation, starts, max_states=20_000))
    view, left, level, action = truth.places.locate(batch)
    value = truth.solution.action_values[level, left, truth.places.state_of_view[view], action]
    surprise = (reverse_discounted_sum(batch.reward, 1.0, batch.step_splits) - value)[batch.step_splits[:-1]]
    assert abs(surprise.mean()) < 4 * surprise.std() / np.sqrt(len(surprise))
    # Every mark on the board, also one that was there before the first decision, took a step.
    marks = np.array([9 - seen.cells.count("_") for seen in truth.places.views])
    np.testing.assert_array_equal(left, 9 - marks[view])


def test_a_reward_that_is_owed_may_be_hidden():
    model, situation = make(Chain(length=5, delay=2), max_steps=5)
    batch = played(situation, 300)
    truth = Truth(model, Places(situation, situation.starts(), max_states=1000))
    assert truth.places.hides
    now = Truth(model, Places(replace(situation, game=Chain(length=5)), situation.starts(), max_states=1000))
    # Payment later changes the value of a state and no advantage: the same views, the same numbers.
    assert not now.places.hides
    np.testing.assert_allclose(truth.advantage(batch), now.advantage(batch), atol=1e-12)
    np.testing.assert_allclose(truth.solution.expected_return, now.solution.expected_return, atol=1e-12)


@dataclass(frozen=True)
class Door:
    """A coin decides which of two doors wins, and is not shown."""

    num_players: ClassVar[int] = 1
    restorable: ClassVar[bool] = True

    def initial(self, rng):
        return "a"

    def players(self, state):
        return (0,)

    def view(self, state, player):
        return "door"

    def legal(self, state, player):
        return ("left", "right")

    def outcomes(self, state, actions):
        won = float((state == "a") == (actions[0] == "left"))
        return [(1.0, Transition("end", {0: won}, terminated=True))]


def test_a_hidden_state_that_matters_is_refused():
    _, situation = make(LAKE)
    from lapwing.annotate._truth import check_hidden

    with pytest.raises(UserError, match="Door hides a part of its state that matters"):
        check_hidden(Places(replace(situation, game=Door()), ["a", "b"], max_states=10))


def test_agents_that_cannot_be_read_are_refused():
    model, situation = make(LAKE)
    places = Places(situation, situation.starts(), max_states=100)
    situation.agent.parser = Tags(think=True)
    with pytest.raises(UserError, match="needs direct replies"):
        Truth(model, places)
    situation.agent.parser = Bare()
    situation.agent.teacher = Random()
    with pytest.raises(UserError, match="played by a teacher"):
        Truth(model, places)
    situation.agent.teacher = None
    situation.agent.generator = situation.agent.generator.greedily()
    with pytest.raises(UserError, match="greedy"):
        Truth(model, places)


def test_steps_that_do_not_fit_are_refused():
    model, situation = make(LAKE)
    batch = played(situation, 20)
    annotator = ExactAdvantage(model, situation=replace(situation, max_steps=1))
    with pytest.raises(LapwingError, match="more steps than max_steps"):
        annotator.columns(batch)
    with pytest.raises(LapwingError, match="cannot be reached"):
        ExactAdvantage(model, situation=situation).columns(
            batch.with_columns(view_key=np.full(batch.num_steps, 7, dtype=np.uint64))
        )
    with pytest.raises(LapwingError, match="seat 0"):
        ExactAdvantage(model, situation=situation).columns(batch.with_columns(player=np.ones(20, dtype=np.int64)))


ORACLE = ("annotate=[{name='exact_advantage'}]", "credit={name='oracle'}")


def test_a_recipe_plays_and_learns_with_it(small, tmp_path):
    import lapwing

    run = lapwing.train(
        "frozen_lake_tiny", run=tmp_path / "run", overrides=[*small, *ORACLE, "iterations=2", "sampler.revisit=0.4"]
    )
    assert run.evaluation["episodes"] == 12


@pytest.mark.parametrize(
    ("recipe", "overrides", "found"),
    [
        ("frozen_lake_think_tiny", (), "needs direct replies"),
        ("frozen_lake_fixed_tiny", ("policy.context={name='transcript'}",), "reads the current state only"),
        ("snake_5x5_tiny", (), "Snake cannot be enumerated"),
        ("frozen_lake_fixed_tiny", ("annotate=[{name='exact_advantage', max_states=5}]",), "more than 5 states"),
    ],
)
def test_what_cannot_be_solved_is_refused_before_any_work(recipe, overrides, found):
    with pytest.raises(UserError, match=found):
        build.plan(build.read_recipe(recipe, overrides=[*ORACLE, *overrides]))
