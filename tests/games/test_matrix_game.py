import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.games.contract import check_game
from lapwing.games.matrix_game import KNOWN, MatrixGame, MatrixGameState
from lapwing.games.rotated import Rotated
from lapwing.policies.baselines import Scripted
from lapwing.policies.opponents import exact_opponents


def match(game, *pairs):
    """The transitions of a match in which these pairs are played."""
    state, found = game.initial(generator("unused")), []
    for row, column in pairs:
        found.append(game.step(state, {0: row, 1: column}, generator("unused")))
        state = found[-1].state
    return found


@pytest.mark.parametrize(
    ("name", "pair", "paid"),
    [
        ("rock_paper_scissors", ("rock", "scissors"), (1, -1)),
        ("rock_paper_scissors", ("rock", "paper"), (-1, 1)),
        ("rock_paper_scissors", ("paper", "rock"), (1, -1)),
        ("rock_paper_scissors", ("scissors", "scissors"), (0, 0)),
        ("matching_pennies", ("heads", "heads"), (1, -1)),
        ("matching_pennies", ("tails", "heads"), (-1, 1)),
        ("prisoners_dilemma", ("cooperate", "defect"), (0, 5)),
        ("prisoners_dilemma", ("defect", "cooperate"), (5, 0)),
        ("prisoners_dilemma", ("cooperate", "cooperate"), (3, 3)),
        ("prisoners_dilemma", ("defect", "defect"), (1, 1)),
        ("stag_hunt", ("stag", "hare"), (1, 3)),
        ("chicken", ("straight", "swerve"), (1, -1)),
        ("chicken", ("straight", "straight"), (-10, -10)),
        ("coordination", ("left", "right"), (0, 0)),
        ("battle_of_the_sexes", ("opera", "opera"), (3, 2)),
    ],
)
def test_the_payoffs(name, pair, paid):
    (transition,) = match(MatrixGame(game=name), pair)
    assert (transition.reward[0], transition.reward[1]) == paid
    assert transition.terminated


def test_no_rock_paper_scissors_action_is_better_than_another():
    table = np.array(KNOWN["rock_paper_scissors"].row)
    np.testing.assert_array_equal(table, -table.T)
    np.testing.assert_array_equal(table.sum(axis=1), 0.0)


PAIRS = (("rock", "paper"), ("paper", "paper"), ("rock", "scissors"))


@pytest.mark.parametrize(
    ("seen", "own", "other", "own_counts", "other_counts"),
    [
        ("nothing", (), (), (), ()),
        ("last", ("paper",), ("paper",), (), ()),
        ("counts", (), (), (1, 1, 0), (0, 2, 0)),
        ("all", ("rock", "paper"), ("paper", "paper"), (), ()),
    ],
)
def test_what_is_seen(seen, own, other, own_counts, other_counts):
    game = MatrixGame(rounds=3, seen=seen)
    transitions = match(game, *PAIRS)
    assert [transition.terminated for transition in transitions] == [False, False, True]
    view = game.view(transitions[1].state, 0)
    assert (view.round, view.rounds) == (2, 3)
    assert (view.own, view.other, view.own_counts, view.other_counts) == (own, other, own_counts, other_counts)
    mirrored = game.view(transitions[1].state, 1)
    assert (mirrored.own, mirrored.other_counts) == (other, own_counts)


def test_each_seat_sees_the_table_from_its_side():
    game = MatrixGame(game="custom", payoffs=((1, 2, 3), (4, 5, 6)), other_payoffs=((7, 8, 9), (10, 11, 12)))
    state = game.initial_outcomes()[0][1]
    assert game.legal(state, 0) == ("a", "b")
    assert game.legal(state, 1) == ("a", "b", "c")
    assert game.view(state, 0).payoffs == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    assert game.view(state, 1).payoffs == ((7.0, 10.0), (8.0, 11.0), (9.0, 12.0))
    assert game.reward_range == (1.0, 12.0)
    assert match(game, ("b", "c"))[0].reward == {0: 6.0, 1: 12.0}
    assert match(MatrixGame(game="custom", payoffs=((2, 0), (0, 1))), ("a", "a"))[0].reward == {0: 2.0, 1: -2.0}


def distribution(game, state):
    """What the scripted opponent of seat 1 does."""
    found = dict.fromkeys(game.legal(state, 1), 0.0)
    for probability, action in exact_opponents({1: Scripted()})[1](game, state, 1):
        found[action] += probability
    return [round(found[action], 10) for action in game.legal(state, 1)]


def test_the_mixed_script_plays_its_weights():
    assert distribution(MatrixGame(weights=(2, 1, 1)), MatrixGameState(0)) == [0.5, 0.25, 0.25]
    assert distribution(MatrixGame(game="chicken"), MatrixGameState(0)) == [0.5, 0.5]


def test_tit_for_tat_answers_with_the_others_last_action():
    game = MatrixGame(game="prisoners_dilemma", rounds=3, seen="last", script="tit_for_tat")
    assert distribution(game, game.initial_outcomes()[0][1]) == [1.0, 0.0]
    assert distribution(game, MatrixGameState(1, ((1, 0),))) == [0.0, 1.0]
    assert distribution(game, MatrixGameState(1, ((0, 1),))) == [1.0, 0.0]


def test_fictitious_play_answers_what_was_played_most():
    game = MatrixGame(rounds=9, seen="counts", script="fictitious_play")
    # Against rock twice and paper once, paper earns 2 − 0 and scissors 1 − 2.
    assert distribution(game, MatrixGameState(3, (), ((2, 1, 0), (0, 0, 3)))) == [0.0, 1.0, 0.0]
    assert game.heuristic(MatrixGameState(3, (), ((2, 1, 0), (0, 0, 3))), 0) == "rock"


def test_hedge_is_exponential_weights_in_hundredths():
    game = MatrixGame(game="matching_pennies", rounds=4, seen="counts", script="hedge", rate=0.5)
    # Seat 1 wins where they differ: against heads twice, tails gained 2 and heads −2: e / (e + 1/e) = 0.8808.
    assert distribution(game, MatrixGameState(2, (), ((2, 0), (1, 1)))) == [0.12, 0.88]
    assert distribution(game, MatrixGameState(2, (), ((1, 1), (1, 1)))) == [0.5, 0.5]
    assert distribution(MatrixGame(seen="all", script="hedge"), MatrixGameState(0)) == [0.34, 0.33, 0.33]


def test_nobody_beats_the_random_opponent_by_more_than_the_ceiling():
    assert MatrixGame(rounds=7).null_ceiling == 0.0
    assert MatrixGame(game="prisoners_dilemma", rounds=2).null_ceiling == 6.0
    # Against a random row, seat 1's first column pays 1.5, its second 0, its third 3; seat 0's best row pays 2.
    game = MatrixGame(game="custom", payoffs=((1, 2, 3), (0, 0, 0)), other_payoffs=((1, 0, 6), (2, 0, 0)), rounds=2)
    assert game.null_ceiling == 4.0
    assert Rotated(game={"name": "matrix_game", "game": "custom", "payoffs": game.payoffs,
                         "other_payoffs": game.other_payoffs, "rounds": 2}).null_ceiling == 5.0  # fmt: skip


@pytest.mark.parametrize("seen", ["nothing", "last", "counts", "all"])
def test_other_settings_keep_the_contract(seen):
    check_game(MatrixGame(game="battle_of_the_sexes", rounds=3, seen=seen), other_process=False, matches=5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"game": "prisoners_dilema"}, "did you mean prisoners_dilemma"),
        ({"game": "custom"}, "needs game.payoffs"),
        ({"game": "custom", "payoffs": ((1, 2), (3,))}, "rows of equal length"),
        ({"game": "custom", "payoffs": ((1, 2),), "other_payoffs": ((1,),)}, "the shape of"),
        ({"game": "custom", "payoffs": ((1, float("inf")),)}, "finite numbers"),
        ({"game": "custom", "payoffs": ((1, 2),), "actions": ("x", "x")}, "2 different names"),
        ({"payoffs": ((1, 2),)}, "has its own payoffs"),
        ({"rounds": 65}, "1 to 64 rounds"),
        ({"seen": "some"}, "no game.seen 'some'"),
        ({"script": "hedge", "seen": "last"}, "needs to see more than last; set game.seen to counts or all"),
        ({"game": "custom", "payoffs": ((1, 2),), "script": "tit_for_tat"}, "same actions"),
        ({"weights": (1, 2)}, "each of the 3 actions"),
        ({"weights": (0, 0, 0)}, "each of the 3 actions"),
        ({"rate": 0.0}, "above 0"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        MatrixGame(**settings)
