from collections import deque

import numpy as np
import pytest
from scipy.stats import chisquare

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.types import Answer, Ask, ToolCall
from lapwing.games.bandit import Bandit
from lapwing.games.frozen_lake import FrozenLake
from lapwing.games.search_qa import SearchQa
from lapwing.games.snake import Snake, SnakeState
from lapwing.policies.baselines import (
    Demonstrator,
    Guess,
    Heuristic,
    Human,
    LegalRandom,
    NoisyExpert,
    Optimal,
    Random,
    Scripted,
    complete,
)
from lapwing.policies.parsers import Invalid
from lapwing.rollout.play import play


def ask(game, state=None, *, key=0, steps_left=8, player=0):
    state = game.initial(rng.generator("start")) if state is None else state
    legal = game.legal(state, player)
    return Ask(game.view(state, player), legal, None, key, game, state, player, steps_left)


def actions(policy, asks):
    return [decision.action for decision, _ in policy.act_many(asks)]


@pytest.mark.parametrize("policy", [Random(), LegalRandom()])
def test_random_play_is_uniform_and_belongs_to_its_key(policy):
    asks = [ask(FrozenLake(map_name="4x4"), key=rng.fold(0, "random", i)) for i in range(4000)]
    drawn = actions(policy, asks)
    assert chisquare([drawn.count(action) for action in asks[0].legal]).pvalue > 1e-3
    assert actions(policy, asks[::-1])[::-1] == drawn


def test_a_decision_of_a_baseline_has_no_tokens():
    ((decision, memory),) = LegalRandom().act_many([ask(FrozenLake())])
    assert decision.valid
    assert decision.text == decision.action
    assert len(decision.token) == len(decision.context) == len(decision.logprob) == 0
    assert memory is None


def test_the_heuristic_is_the_games_own():
    game = FrozenLake(map_name="4x4")
    assert actions(Heuristic(), [ask(game)]) == [game.heuristic(game.initial(rng.generator("start")), 0)]


@pytest.mark.parametrize(
    ("policy", "what"),
    [
        (Heuristic(), "no heuristic"),
        (Scripted(), "no scripted opponent"),
        (Guess(), "no guess"),
        (Demonstrator(), "no demonstrations; choose another teacher"),
    ],
)
def test_a_game_without_the_strategy_is_named(policy, what):
    class Bare:
        def legal(self, state, player):
            return ("a",)

        def view(self, state, player):
            return state

    with pytest.raises(UserError, match=f"Bare has {what}"):
        policy.act_many([ask(Bare(), "state")])


def test_a_random_policy_needs_a_list_of_actions():
    question = ask(FrozenLake())
    question.legal = None
    with pytest.raises(UserError, match="lists no legal actions"):
        LegalRandom().act_many([question])


def shortest_way(rows):
    """Steps from S to G around the holes."""
    size = len(rows)
    frontier, seen = deque([(0, 0, 0)]), {(0, 0)}
    while frontier:
        row, column, steps = frontier.popleft()
        if rows[row][column] == "G":
            return steps
        for cell in ((row, column - 1), (row + 1, column), (row, column + 1), (row - 1, column)):
            inside = 0 <= cell[0] < size and 0 <= cell[1] < size
            if inside and cell not in seen and rows[cell[0]][cell[1]] != "H":
                seen.add(cell)
                frontier.append((*cell, steps + 1))
    raise AssertionError("no way")


def test_optimal_play_crosses_every_dry_lake_by_a_shortest_way(make_match):
    # Fails when ties among actions are not broken towards the sooner end.
    matches = [make_match(game=FrozenLake(size=5), group=group, max_steps=30) for group in range(15)]
    for episode in play(matches, {0: Optimal()}):
        assert episode.success
        assert len(episode.steps) == shortest_way(episode.steps[0].view.rows)


def test_optimal_play_knows_how_many_steps_are_left():
    # Fails when the policy for many steps is used for one, or one that was solved for fewer steps for many.
    from lapwing.games.frozen_lake import FrozenLakeState

    game = FrozenLake(size=3, slippery=True)
    state = FrozenLakeState(("SFF", "FHF", "FFG"), 5)  # row 1, column 2; the goal below, the hole on the left
    #   One step left: left, down and right reach the goal with 1/3 each, up never does; left is the first.
    #   More steps left: of the three only right cannot slip into the hole.
    policy = Optimal()
    assert actions(policy, [ask(game, state, steps_left=1)]) == ["left"]
    assert actions(policy, [ask(game, state, steps_left=50)]) == ["right"]
    assert actions(policy, [ask(game, state, steps_left=1)]) == ["left"]


def test_optimal_play_reaches_the_best_value_on_slippery_ice(make_match):
    # Fails when the steps that are left are not taken into account: the value of this map differs with them.
    from lapwing.tabular.enumerate import enumerate_game
    from lapwing.tabular.value_iteration import optimal_values

    game = FrozenLake(map_name="4x4", slippery=True)
    table = enumerate_game(game, [game.initial(rng.generator("start"))])
    value = optimal_values(table, 10)[10, 0]
    matches = [make_match(game=game, group=group, max_steps=10) for group in range(3000)]
    wins = [bool(episode.success) for episode in play(matches, {0: Optimal()})]
    assert np.mean(wins) == pytest.approx(value, abs=4 * np.sqrt(value * (1 - value) / len(wins)))


def test_optimal_play_pulls_the_best_arm():
    assert actions(Optimal(), [ask(Bandit(arms=(0.2, 0.9, 0.5)), steps_left=1)]) == ["b"]


def test_a_game_that_is_too_large_is_refused():
    with pytest.raises(UserError):
        Optimal(max_states=3).act_many([ask(FrozenLake(map_name="4x4"))])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_noisy_expert_plays_its_share_of_expert_moves(share):
    # A random move of four is the expert's with probability 1/4 besides.
    game = Bandit(arms=(0.1, 0.2, 0.9, 0.3))
    drawn = actions(NoisyExpert(expert_share=share), [ask(game, key=i, steps_left=1) for i in range(4000)])
    expected = share + (1 - share) / 4
    assert drawn.count("c") / 4000 == pytest.approx(expected, abs=4 * np.sqrt(max(expected * (1 - expected), 0) / 4000))
    if share < 1:
        assert min(drawn.count(arm) for arm in "abd") > 4000 * (1 - share) / 4 * 0.8


def test_a_noisy_expert_can_follow_the_heuristic():
    game = FrozenLake(map_name="4x4")
    expert = NoisyExpert(expert_share=1.0, expert="heuristic")
    assert actions(expert, [ask(game)]) == actions(Heuristic(), [ask(game)])


@pytest.mark.parametrize("setting", [{"expert_share": 1.2}, {"expert_share": -0.1}, {"expert": "oracle"}])
def test_impossible_experts_are_refused(setting):
    with pytest.raises(UserError):
        NoisyExpert(**setting)


def test_a_person_is_asked_until_the_answer_is_an_action():
    answers = iter(["", "north", "r", "DOWN"])
    refusals = []

    def typed(question, refused):
        refusals.append(refused)
        return next(answers)

    person = Human(typed)
    game = FrozenLake(map_name="4x4")
    assert actions(person, [ask(game), ask(game)]) == ["right", "down"]
    wanted = "type one of left, down, right, up"
    assert refusals == ["", wanted, wanted, ""]


@pytest.mark.parametrize(
    ("text", "legal", "expected"),
    [
        ("up", ("up", "upper"), "up"),
        ("u", ("up", "upper"), None),
        ("UPP", ("up", "upper"), "upper"),
        ("", ("up",), None),
        ("yes", None, "yes"),
        # Where anything may be typed, case is the person's.
        (' search {"Query": "Rome"} ', None, 'search {"Query": "Rome"}'),
        (" ", None, None),
    ],
)
def test_a_unique_beginning_of_a_name_is_enough(text, legal, expected):
    found = complete(text, legal)
    assert isinstance(found, Invalid) if expected is None else found == expected


def test_the_scripted_opponent_keeps_off_the_walls_and_belongs_to_its_key():
    game = Snake(width=4, height=4, num_snakes=2)
    state = SnakeState((((2, 2),), ((0, 0),)), ((3, 3),))
    asks = [ask(game, state, key=key, player=1) for key in range(60)]
    drawn = actions(Scripted(), asks)
    assert set(drawn) == {"up", "right"}
    assert actions(Scripted(), asks[::-1])[::-1] == drawn


SEARCH = SearchQa(entities=60, relations=2, values=4)


def searching(count, step=0):
    """Asks at the start of different questions, or after the gold call."""
    found = []
    for key in range(count):
        state = SEARCH.initial(rng.generator("start", key))
        for _ in range(step):
            state = SEARCH.step(state, {0: SEARCH.heuristic(state, 0)}, rng.generator("none")).state
        found.append(ask(SEARCH, state, key=rng.fold(0, "demonstrated", key)))
    return found


def right(question):
    return Answer(question.state.task.answers[0])


def test_the_guess_answers_at_once_and_is_right_about_as_often_as_the_most_frequent_value():
    asks = searching(400)
    guessed = actions(Guess(), asks)
    assert all(isinstance(action, Answer) for action in guessed)
    share = np.mean([action == right(question) for action, question in zip(guessed, asks, strict=True)])
    assert abs(share - SEARCH.mode_share) < 0.1
    # One guess for each relation, whatever the name.
    assert len(set(guessed)) <= SEARCH.relations
    assert actions(Guess(), asks[::-1])[::-1] == guessed


def test_a_perfect_demonstrator_calls_and_copies():
    assert actions(Demonstrator(), searching(40)) == actions(Heuristic(), searching(40))
    assert actions(Demonstrator(), searching(40, 1)) == [right(question) for question in searching(40, 1)]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_demonstrator_calls_as_often_as_it_is_told(share):
    asks = searching(600)
    drawn = actions(Demonstrator(call_share=share), asks)
    called = np.mean([isinstance(action, ToolCall) for action in drawn])
    assert abs(called - share) <= 4 * np.sqrt(share * (1 - share) / len(asks))
    # What it draws belongs to the ask, and not to its place among others.
    assert actions(Demonstrator(call_share=share), asks[::-1])[::-1] == drawn


@pytest.mark.parametrize("accuracy", [0.0, 0.4, 1.0])
def test_a_demonstrator_asks_the_right_thing_as_often_as_it_is_told(accuracy):
    asks = searching(600)
    drawn = actions(Demonstrator(query_accuracy=accuracy), asks)
    assert all(isinstance(action, ToolCall) for action in drawn)
    exact = np.mean([a == b for a, b in zip(drawn, actions(Heuristic(), asks), strict=True)])
    # A query drawn in place of the gold one may be the gold one.
    assert abs(exact - accuracy) <= 4 * np.sqrt(accuracy * (1 - accuracy) / len(asks)) + 0.05


def test_a_demonstrator_that_does_not_copy_guesses():
    asks = searching(600, 1)
    hit = {}
    for accuracy in (0.0, 0.5, 1.0):
        drawn = actions(Demonstrator(copy_accuracy=accuracy), asks)
        assert all(isinstance(action, Answer) for action in drawn)
        hit[accuracy] = np.mean([action == right(question) for action, question in zip(drawn, asks, strict=True)])
    assert hit[1.0] == 1.0
    assert hit[0.0] < 0.5
    assert abs(hit[0.5] - (1.0 + hit[0.0]) / 2) < 0.1


@pytest.mark.parametrize("name", ["call_share", "query_accuracy", "copy_accuracy"])
@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_no_probability_is_refused(name, share):
    with pytest.raises(UserError, match=rf"{name} is a probability in \[0, 1\], not {share}"):
        Demonstrator(**{name: share})
