"""The rotated game is the inner one with its seats renamed, and nothing else."""

import dataclasses

import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.core.types import Match
from lapwing.games.contract import check_game
from lapwing.games.game import initial_state
from lapwing.games.rotated import Rotated, RotatedState
from lapwing.games.snake import Snake, SnakeState
from lapwing.games.tic_tac_toe import TicTacToe, TicTacToeState, TicTacToeView, _has_line
from lapwing.policies.baselines import Random
from lapwing.rollout.play import play

SNAKE = {"name": "snake", "num_snakes": 2, "width": 4, "height": 4}


@pytest.mark.parametrize("game", [Rotated(), Rotated(game=SNAKE)], ids=["in turns", "at once"])
def test_it_keeps_the_contract(game):
    check_game(game, matches=6)


def test_every_seat_is_drawn_as_often_as_any_other():
    shifts = [Rotated().initial(generator("rotated", n)).shift for n in range(1000)]
    assert set(shifts) == {0, 1}
    assert abs(sum(shifts) / 1000 - 0.5) < 4 * 0.5 / 1000**0.5


def test_a_match_by_hand_from_the_second_seat():
    game = Rotated()  # the inner seat 0 begins
    state = RotatedState(1, TicTacToeState("_" * 9, 0))
    assert game.players(state) == (1,)
    for player, cell in ((1, "a1"), (0, "a2"), (1, "b1"), (0, "b2")):
        assert game.players(state) == (player,)
        transition = game.step(state, {player: cell}, generator("none"))
        state = transition.state
    # Row 1 holds the marks of who begins, player 1 here; player 0 sees them as the other's.
    assert game.view(state, 1) == TicTacToeView("PP_EE____")
    assert game.view(state, 0) == TicTacToeView("EE_PP____")
    assert game.heuristic(state, 1) == "c1"
    ended = game.step(state, {1: "c1"}, generator("none"))
    assert ended.terminated
    # Fails when rewards or success keep the inner seats.
    assert ended.reward == {1: 1.0, 0: -1.0}
    assert ended.success == {1: True, 0: False}


def test_parts_of_a_seat_are_told_under_who_sits_there():
    game = Rotated(game=SNAKE)
    inner = SnakeState(bodies=(((0, 0),), ((3, 3),)), apples=((0, 1),))
    moves = {0: "right", 1: "up"}  # player 1 is the inner seat 0 and eats, player 0 the inner seat 1 and dies
    told = game.step(RotatedState(1, inner), moves, generator("apple"))
    assert told.parts == {"apples_1": 1.0, "deaths_0": 1.0}
    assert told.reward == {1: 1.0, 0: -1.0}
    assert game.score_part == "apples_0"


def test_a_group_shares_its_seats_and_matches_are_those_of_the_game():
    game = Rotated()
    for number in range(6):
        matches = [Match(game, 3, "train", 0, number, member, 9) for member in range(3)]
        (start,) = {initial_state(match) for match in matches}
        episodes = play(matches[:1], {0: Random(), 1: Random()}, learners=(0, 1))
        begins = episodes[start.shift]
        assert len(begins.steps) >= len(episodes[1 - start.shift].steps)


def test_chance_is_enumerated_over_seats_and_starts():
    assert Rotated().initial_outcomes() == [(0.5, RotatedState(shift, TicTacToeState("_" * 9, 0))) for shift in (0, 1)]
    ((probability, transition),) = Rotated().outcomes(RotatedState(1, TicTacToeState("_" * 9, 0)), {1: "b2"})
    assert (probability, transition.state) == (1.0, RotatedState(1, TicTacToeState("____0____", 1)))
    # Values against a fixed opponent are the mean of those of both seats.
    from lapwing.policies.opponents import exact_opponents
    from lapwing.tabular.enumerate import enumerate_game
    from lapwing.tabular.value_iteration import optimal_values

    def value(game, starts):
        table = enumerate_game(game, starts, opponents=exact_opponents({1: Random()}), max_states=20_000)
        return float(table.start @ optimal_values(table, 9)[9])

    seats = [value(TicTacToe(first=seat), [TicTacToeState("_" * 9, seat)]) for seat in (0, 1)]
    rotated = value(Rotated(), [state for _, state in Rotated().initial_outcomes()])
    assert rotated == pytest.approx(sum(seats) / 2)


def test_training_begins_after_an_opening_and_nothing_else_does():
    game = Rotated(opening=4)
    moves = {split: [] for split in ("train", "development", "test")}
    for split, found in moves.items():
        for number in range(500):
            state = game.for_split(split).initial(generator("opening", split, number))
            cells = state.state.cells
            found.append(9 - cells.count("_"))
            # Who moves is who would: the inner first seat after an even number of moves.
            assert state.state.mover == found[-1] % 2
    assert set(moves["development"]) == set(moves["test"]) == {0}
    # Four moves never end the game, so that each number from 0 to 4 is as likely.
    for number in range(5):
        assert abs(moves["train"].count(number) / 500 - 0.2) < 4 * (0.16 / 500) ** 0.5
    # Fails when an opening may end the game: of nine moves at random many would.
    long = Rotated(opening=9).for_split("train")
    for number in range(200):
        state = long.initial(generator("long", number))
        assert long.legal(state, long.players(state)[0])
        assert not _has_line(state.state.cells, "0")
        assert not _has_line(state.state.cells, "1")
    assert not hasattr(game.for_split("train"), "initial_outcomes")
    assert hasattr(game, "initial_outcomes")
    assert hasattr(game.for_split("test"), "initial_outcomes")
    check_game(long, matches=4)


def test_what_the_game_has_not_the_rotated_one_has_not():
    assert not hasattr(Rotated(game=SNAKE), "outcomes")
    assert not hasattr(Rotated(), "guess")
    assert Rotated(game=SNAKE) != Rotated()
    assert dataclasses.replace(Rotated()) == Rotated()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": "chain"}, "has one"),
        ({"first": 0}, "needs a name"),
        ({"name": "tic_tac_tow"}, "tic_tac_toe"),
        ({"name": "tic_tac_toe", "frist": 0}, "does not take these settings"),
        ({"name": "tic_tac_toe", "first": 2}, "first"),
    ],
)
def test_what_cannot_be_rotated_is_refused(entry, words):
    with pytest.raises(UserError, match=words):
        Rotated(game=entry)


def test_an_impossible_opening_is_refused():
    with pytest.raises(UserError, match="opening"):
        Rotated(opening=-1)


def test_three_seats_rotate_too():
    # Seat i sits on (i + 2) mod 3, so that the inner seats 0, 1, 2 hold players 1, 2, 0.
    class Three(Snake):
        num_players = 3

    game = Rotated()
    object.__setattr__(game, "inner", Three())
    assert [game._seat(RotatedState(2, None), player) for player in range(3)] == [2, 0, 1]
    assert [game._sitting(RotatedState(2, None), seat) for seat in range(3)] == [1, 2, 0]
