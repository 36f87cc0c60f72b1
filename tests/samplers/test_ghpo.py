"""Hints: the published levels on a text solution, and the actions of an expert on the lake."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.core.rollout import Rollout
from lapwing.core.types import Decision, Episode, Group, Step, Transition
from lapwing.games.frozen_lake import FrozenLake
from lapwing.games.game import initial_state
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.rollout.ledger import Ledger
from lapwing.samplers._solutions import Solutions, prefix
from lapwing.samplers.ghpo import Ghpo, has_failed
from lapwing.training.review import play_and_review

GAME = FrozenLake(map_name="4x4")
WAY = ("down", "down", "right", "right", "down", "right")


@dataclasses.dataclass(frozen=True)
class Essay:
    """An open-ended game with a text for a solution."""

    text: str = "abcdefgh"
    num_players = 1
    reward_range = (0.0, 1.0)
    restorable = True

    def initial(self, rng):
        return 0

    def solution(self, state):
        return self.text


class Oracle:
    """Plays no game: a match succeeds where a function says so, in its first member."""

    def __init__(self, wins):
        self.wins, self.played, self.ledger = wins, [], Ledger()

    def collect(self, matches):
        self.played.append(matches)
        return Rollout.of([self.episode(match) for match in matches])

    def episode(self, match):
        won = match.member == 0 and self.wins(match)
        decision = Decision("up", True, "up", np.arange(3, dtype=np.int32), np.arange(2, dtype=np.int32), np.zeros(2))
        step = Step(decision, "up", None, 1, 2, 3, float(won), float(won), {})
        return Episode(match, 0, [step], True, False, success=won)


def sampler(game=GAME, **settings):
    return Ghpo(game, **{"seed": 1, "groups": 1, "group_size": 2, **settings})


def hint_of(match):
    return "" if match.guidance is None else match.guidance.hint


def play(one, wins, iteration=0):
    oracle = Oracle(wins)
    reviewed = play_and_review(one, oracle, one.draw(iteration))
    return oracle, reviewed


# B.33: solution "abcdefgh": levels "ab", "abcd", "abcdef"; success first at level 2: exactly 2 replays, ratio 0.5.
def test_a_text_solution_is_told_by_quarters_until_it_helps():
    one = sampler(Essay(), kind="text", expert="game")
    oracle, reviewed = play(one, lambda match: hint_of(match) == "abcd")
    assert [[hint_of(match) for match in matches] for matches in oracle.played] == [[""] * 2, ["ab"] * 2, ["abcd"] * 2]
    assert reviewed.metrics["sampler/replayed_groups"] == 2
    assert reviewed.metrics["sampler/hint_ratio"] == 0.5
    assert reviewed.kept.tolist() == [False] * 4 + [True] * 2
    assert not any(match.guidance.strip for match in oracle.played[-1])


def test_a_group_that_never_succeeds_is_kept_with_the_last_level():
    oracle, reviewed = play(sampler(Essay(), kind="text", expert="game"), lambda match: False)
    assert [hint_of(matches[0]) for matches in oracle.played] == ["", "ab", "abcd", "abcdef"]
    assert reviewed.kept.tolist() == [False] * 6 + [True] * 2
    assert reviewed.metrics["sampler/hint_ratio"] == 0.75


# B.33: a group with one success: no replay.
def test_a_group_with_one_success_gets_no_hint():
    oracle, reviewed = play(sampler(Essay(), kind="text", expert="game"), lambda match: True)
    assert len(oracle.played) == 1
    assert reviewed.kept.all()
    assert reviewed.metrics["sampler/hint_ratio"] == 0.0
    assert "sampler/hinted_success" not in reviewed.metrics


# Fails when hinted episodes count as what the policy can do alone.
def test_success_with_and_without_hints_is_measured_apart():
    one = sampler(Essay(), kind="text", expert="game", groups=2)
    # Group 0 succeeds alone; group 1 with "ab".
    _, reviewed = play(one, lambda match: match.group == 0 or hint_of(match) == "ab")
    assert reviewed.metrics["sampler/unfiltered_success"] == 0.25
    assert reviewed.metrics["sampler/hinted_success"] == 0.5
    assert reviewed.metrics["sampler/hint_ratio"] == 0.125
    # Nothing is left of it in the next iteration.
    assert play(one, lambda match: True, iteration=1)[1].metrics["sampler/hint_ratio"] == 0.0


def test_an_expert_makes_the_first_moves_and_hands_over_with_the_steps_that_are_left():
    one = sampler(max_steps=10)
    oracle, _ = play(one, lambda match: False)
    plain, *hinted = [matches[0] for matches in oracle.played]
    assert plain.start_state is None
    way = Solutions(GAME, expert="optimal", max_steps=10).of(plain)
    # The best ways are 6 moves long: 1, 3 and 4 of them are made.
    assert len(way.actions) == 6
    assert [match.max_steps for match in hinted] == [9, 7, 6]
    state = initial_state(plain)
    passed = [state]
    for action in way.actions[:-1]:
        state = GAME.step(state, {0: action}, None).state
        passed.append(state)
    assert [match.start_state for match in hinted] == [passed[1], passed[3], passed[4]]
    assert [match.start_address for match in hinted] == [(0, 0)] * 3
    assert [match.group for match in hinted] == [1, 2, 3]


def test_moves_are_named_in_words_after_a_lead_in():
    oracle, _ = play(sampler(kind="text", lead_in="the way begins:"), lambda match: False)
    names = [hint_of(matches[0]).removeprefix("the way begins: ").split() for matches in oracle.played[1:]]
    assert [len(words) for words in names] == [1, 3, 4]
    assert names[2][:3] == names[1]
    assert set(names[2]) <= set(WAY) | {"left", "up"}
    assert all(match.max_steps == 20 and match.start_state is None for match in oracle.played[-1])


def test_a_start_that_the_expert_does_not_solve_gets_no_hint():
    # Greed without foresight walks in circles on this map, and 5 steps are too few for anybody.
    for settings in ({"expert": "heuristic"}, {"max_steps": 5}):
        oracle, reviewed = play(sampler(**settings), lambda match: False)
        assert len(oracle.played) == 1
        assert reviewed.kept.all()


def test_the_first_iterations_may_all_begin_with_a_hint():
    one = sampler(start_iterations=1, start_hint=0.5, max_steps=10)
    oracle, reviewed = play(one, lambda match: match.max_steps == 6)
    assert [matches[0].max_steps for matches in oracle.played] == [7, 6]
    assert reviewed.metrics["sampler/hint_ratio"] == 0.75
    assert "sampler/unfiltered_success" in reviewed.metrics
    oracle, _ = play(one, lambda match: True, iteration=1)
    assert oracle.played[0][0].max_steps == 10


def test_levels_that_hold_nothing_are_passed_over():
    oracle, _ = play(sampler(Essay("abc"), kind="text", expert="game"), lambda match: False)
    assert [hint_of(matches[0]) for matches in oracle.played] == ["", "a", "ab"]


def test_only_success_decides_or_the_domain_return_where_there_is_no_such_notion(make_match):
    def group(success, domain):
        steps = [Step(None, "up", None, 1, 2, 3, -1.0, domain, {})]
        return Group.of(0, [Episode(make_match(), 0, steps, True, False, success=success)])

    assert has_failed(group(False, 5.0))
    assert not has_failed(group(True, 0.0))
    assert has_failed(group(None, 0.0))
    assert not has_failed(group(None, 0.5))


@given(st.integers(0, 400), st.integers(0, 100))
def test_a_prefix_has_the_floor_of_its_share(length, percent):
    parts = tuple(range(length))
    assert prefix(parts, percent / 100) == parts[: percent * length // 100]


def test_rounding_takes_no_part_away():
    assert 0.29 * 100 < 29
    assert prefix(tuple(range(100)), 0.29) == tuple(range(29))


@pytest.mark.parametrize("slippery", [False, True])
def test_solutions_succeed_and_repeat(make_match, slippery):
    game = FrozenLake(slippery=slippery)
    match = make_match(game=game, group=3, max_steps=100)
    way = Solutions(game, expert="optimal", max_steps=100).of(match)
    assert way.states[0] == initial_state(match)
    assert way == Solutions(game, expert="optimal", max_steps=100).of(match)


@pytest.mark.parametrize(
    ("game", "setting", "sentence"),
    [
        (GAME, {"kind": "texts"}, "There is no sampler.kind 'texts'; did you mean text"),
        (GAME, {"expert": "best"}, "There is no sampler.expert 'best'"),
        (GAME, {"expert": "game"}, "FrozenLake has no method solution.*choose one of optimal, heuristic"),
        (GAME, {"levels": (0.5, 0.5)}, "sampler.levels are shares"),
        (GAME, {"levels": (0.5, 1.0)}, "sampler.levels are shares"),
        (GAME, {"levels": ()}, "sampler.levels are shares"),
        (GAME, {"start_iterations": -1}, "sampler.start_iterations is at least 0"),
        (GAME, {"start_hint": 1.0}, "sampler.start_hint is a share"),
        (TicTacToe(), {}, "TicTacToe has no solutions to give away"),
        (Essay(), {}, "Essay has no method outcomes.*choose one of game"),
    ],
)
def test_impossible_settings_are_refused(game, setting, sentence):
    with pytest.raises(UserError, match=sentence):
        sampler(game, **setting)


def test_a_text_cannot_be_made():
    with pytest.raises(UserError, match="Essay's solution is a text, and no actions to make"):
        play(sampler(Essay(), expert="game"), lambda match: False)


def test_the_transition_of_a_listed_solution_is_checked_for_success(make_match):
    @dataclasses.dataclass(frozen=True)
    class Doors(Essay):
        right: bool = True

        def solution(self, state):
            return ("a", "b") if self.right else ("b",)

        def step(self, state, actions, rng):
            won = actions[0] == "b" and state == 1
            return Transition(state + 1, {0: float(won)}, terminated=won)

    def way(game):
        return Solutions(game, expert="game", max_steps=9).of(make_match(game=game))

    assert way(Doors()).actions == ("a", "b")
    assert way(Doors()).states == (0, 1)
    assert way(Doors(right=False)) is None


# Fails when the play of another address is remembered for the same state: a resumed run would remember another one.
def test_a_solution_does_not_depend_on_what_was_solved_before(make_match):
    game = FrozenLake(map_name="4x4", slippery=True)
    matches = [make_match(game=game, group=group, start=(0, group)) for group in range(12)]
    before = Solutions(game, expert="optimal", max_steps=100)
    ways = [before.of(match) for match in matches]
    assert len({None if way is None else way.actions for way in ways}) > 1
    assert ways == [Solutions(game, expert="optimal", max_steps=100).of(match) for match in matches]
