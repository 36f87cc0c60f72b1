"""Games in worker processes: the same episodes as here, bit for bit."""

import dataclasses

import numpy as np
import pytest

from lapwing import build
from lapwing.core.errors import UserError
from lapwing.games.adapters.gymnasium import from_gymnasium
from lapwing.games.adapters.pettingzoo import from_pettingzoo
from lapwing.games.frozen_lake import FrozenLake
from lapwing.games.key_door import KeyDoor
from lapwing.games.search_qa import SearchQa
from lapwing.games.snake import Snake
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.policies.agent import InvalidRule
from lapwing.policies.baselines import Heuristic, LegalRandom, Scripted
from lapwing.rollout.collector import LocalCollector
from lapwing.rollout.isolated import IsolatedCollector
from lapwing.samplers.grouped import Grouped

GAMES = {
    "lake": (FrozenLake(slippery=True), LegalRandom(), {}),
    "snake": (Snake(width=4, height=4, num_snakes=2), LegalRandom(), {1: Scripted()}),
    "tic-tac-toe": (TicTacToe(), LegalRandom(), {1: LegalRandom()}),
    "rooms": (KeyDoor(), LegalRandom(), {}),
    "search": (SearchQa(), Heuristic(), {}),
    "pole": (from_gymnasium("CartPole-v1", actions={"push left": 0, "push right": 1}), LegalRandom(), {}),
    "taxi": (from_gymnasium("Taxi-v4", options={"is_rainy": True}, legal_actions="mask"), LegalRandom(), {}),
    "hands": (from_pettingzoo("rps_v2"), LegalRandom(), {1: LegalRandom()}),
    "board": (from_pettingzoo("tictactoe_v3"), LegalRandom(), {1: LegalRandom()}),
}


@pytest.fixture(scope="module")
def pair():
    """A collector of this process and one with workers, which all tests share."""
    here, there = (
        LocalCollector(LegalRandom(), invalid=InvalidRule(), tabular=False, lookahead_states=0) for _ in range(2)
    )
    with IsolatedCollector(there) as isolated:
        yield here, isolated


def everything(episode):
    told = {field.name: getattr(episode, field.name) for field in dataclasses.fields(episode)}
    told["steps"] = [
        {
            **{field.name: getattr(step, field.name) for field in dataclasses.fields(step)},
            "decision": (step.decision.text, step.decision.context.tobytes(), step.decision.logprob.tobytes()),
        }
        for step in episode.steps
    ]
    return told


# Fails when a view, a reward, a key, or a state is another one on the other side of the pipe.
@pytest.mark.parametrize(("game", "policy", "opponents"), GAMES.values(), ids=GAMES.keys())
def test_every_shipped_game_is_played_as_it_is_here(game, policy, opponents, pair):
    matches = Grouped(game, seed=3, groups=5, group_size=3, max_steps=12, share_chance=False).draw(0)
    found = []
    for collector in pair:
        inner = getattr(collector, "_here", collector)
        inner.policy, inner.policies = policy, {0: policy, **opponents}
        found.append([everything(episode) for episode in collector.play(matches)])
    assert found[0] == found[1]
    assert len(found[0]) == 15


# Fails when the policy is asked in other batches, or when the table or the announcements are used.
def test_a_language_model_gets_the_same_batch(small):
    batches = {}
    for name in ("local", "isolated"):
        overrides = [*small, "collector.name=isolated"] if name == "isolated" else list(small)
        plan = build.plan(build.read_recipe("frozen_lake_tiny", overrides=overrides))[-1]
        stage = build.make_stage(plan, build.make_workshop(plan, 0))
        if name == "local":
            stage.collector.tabular, stage.collector.lookahead_states = False, 0
        rollout = stage.collector.collect(stage.sampler.draw(0))
        batches[name] = rollout.batch
        assert stage.collector.ledger.take() == {"rollout/failed": 0, "rollout/dropped": 0, "rollout/reissued": 0}
        stage.close()
    one, other = batches["local"], batches["isolated"]
    for field in dataclasses.fields(one):
        value, same = getattr(one, field.name), getattr(other, field.name)
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, same)
    assert one.num_steps > 50


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("collector.workers=0", "collector.workers is at least 1, not 0"),
        ("collector.step_seconds=0.0", "collector.step_seconds is a finite number above 0"),
        ("collector.start_seconds=0.0", "collector.start_seconds is a finite number above 0"),
        ("collector.memory_mb=-1.0", "collector.memory_mb is a finite number above 0"),
        ("collector.max_deaths=-1", "collector.max_deaths is at least 0"),
        ("collector.death_minutes=0.0", "collector.death_minutes is a finite number above 0"),
        ("collector.actors=2", "actors"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_work(override, words):
    with pytest.raises(UserError, match=words):
        build.plan(build.read_recipe("frozen_lake_tiny", overrides=["collector.name=isolated", override]))


def test_a_game_of_the_program_itself_is_refused():
    class Lake(FrozenLake):
        pass

    matches = Grouped(FrozenLake(), seed=3, groups=1, group_size=2, max_steps=4).draw(0)
    Lake.__module__ = "__main__"
    game = Lake()
    here = LocalCollector(LegalRandom(), invalid=InvalidRule())
    with IsolatedCollector(here) as collector, pytest.raises(UserError, match="Lake is defined in the program itself"):
        collector.play([dataclasses.replace(match, game=game) for match in matches])
    Lake.__module__ = "elsewhere"
    with IsolatedCollector(here) as collector, pytest.raises(UserError, match="Lake cannot be sent to a worker"):
        collector.play([dataclasses.replace(match, game=game) for match in matches])
