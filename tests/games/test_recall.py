import itertools

import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.games.contract import check_game
from lapwing.games.recall import FORWARD, SIGNS, Recall, RecallState, RecallView
from lapwing.tabular.enumerate import enumerate_game
from lapwing.tabular.value_iteration import optimal_values


def walk(game, sign, actions):
    """The transitions of one walk past a sign."""
    state, found = RecallState(sign, 0), []
    for action in actions:
        found.append(game.step(state, {0: action}, generator("unused")))
        state = found[-1].state
    return found


def test_the_door_of_the_sign_at_the_end_wins():
    found = walk(Recall(length=2), "green", [FORWARD, FORWARD, "green"])
    assert [t.terminated for t in found] == [False, False, True]
    assert [t.reward[0] for t in found] == [0.0, 0.0, 1.0]
    assert found[-1].success == {0: True}


@pytest.mark.parametrize(
    "actions",
    [[FORWARD, FORWARD, "red"], [FORWARD, FORWARD, FORWARD], ["green"], [FORWARD, "green"]],
    ids=["the other door", "past the doors", "at the sign", "on the way"],
)
def test_everything_else_loses_at_once(actions):
    last = walk(Recall(length=2), "green", actions)[-1]
    assert (last.terminated, last.reward[0], last.success) == (True, 0.0, {0: False})


def test_the_sign_is_seen_in_the_first_cell_and_nowhere_else():
    game = Recall(length=2)
    assert game.view(RecallState("red", 0), 0) == RecallView(0, 2, "red")
    for cell in (1, 2):
        assert game.view(RecallState("red", cell), 0) == game.view(RecallState("green", cell), 0)


def best_without_memory(game, window):
    """The best mean return of all deterministic policies of the last `window` views, by trying every one of them."""
    signs = SIGNS[: game.signs]
    reads = {}
    for sign, cell in itertools.product(signs, range(game.length + 1)):
        views = tuple(game.view(RecallState(sign, c), 0) for c in range(max(0, cell - window + 1), cell + 1))
        reads[sign, cell] = views
    places = list(dict.fromkeys(reads.values()))
    best = 0.0
    for choice in itertools.product((FORWARD, *signs), repeat=len(places)):
        policy = dict(zip(places, choice, strict=True))
        won = 0.0
        for sign in signs:
            state = RecallState(sign, 0)
            while True:
                transition = game.step(state, {0: policy[reads[sign, state.cell]]}, generator("unused"))
                state = transition.state
                if transition.terminated:
                    won += transition.reward[0] / game.signs
                    break
        best = max(best, won)
    return best


@pytest.mark.parametrize(
    ("window", "optimum"), [(1, 0.5), (2, 0.5), (3, 1.0)], ids=["the view alone", "one step before", "two steps before"]
)
def test_the_optimum_of_those_who_forget_is_a_guess(window, optimum):
    # Fails when the sign is seen twice, or a wasted move could carry it along.
    assert best_without_memory(Recall(length=2), window) == optimum


def test_who_knows_the_sign_wins_always():
    game = Recall(length=3, signs=4)
    table = enumerate_game(game, [state for _, state in game.initial_outcomes()])
    values = optimal_values(table, 4)
    assert [values[4, table.index[state]] for _, state in game.initial_outcomes()] == [1.0] * 4


def test_the_teachers_walk_and_guess():
    game = Recall(length=2, signs=3)
    doors = RecallState("green", 2)
    assert game.heuristic(RecallState("green", 1), 0) == FORWARD
    assert game.heuristic(doors, 0) == "red"
    assert {game.scripted(doors, 0, generator("guess", n)) for n in range(60)} == {"red", "green", "blue"}


def test_the_ceiling_is_that_of_the_best_who_draws_every_decision_alike():
    game = Recall(length=4, signs=2)
    shares = [i / 1000 for i in range(1001)]
    assert game.null_ceiling == pytest.approx(max(q**4 * (1 - q) / 2 for q in shares), abs=1e-6)


@pytest.mark.parametrize("settings", [{"length": 0}, {"length": 65}, {"signs": 1}, {"signs": 7}])
def test_impossible_corridors_are_refused(settings):
    with pytest.raises(UserError, match=r"set game\."):
        Recall(**settings)


@pytest.mark.parametrize("game", [Recall(), Recall(length=1, signs=6)])
def test_the_contract(game):
    check_game(game, matches=10, max_steps=20)
