import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.games.contract import check_game
from lapwing.games.tic_tac_toe import CELLS, LINES, TicTacToe, TicTacToeState, TicTacToeView
from lapwing.policies.baselines import Heuristic, Random, Scripted, _Baseline
from lapwing.rollout.play import play

GAME = TicTacToe(first=0)


class Moves(_Baseline):
    """Plays its moves one after the other."""

    def __init__(self, *moves):
        self.moves = moves

    def choose(self, ask):
        return next(move for move in self.moves if move in ask.legal)


def test_rows_columns_and_diagonals_win():
    # The lines by their definition: equal columns, equal rows, or rows and columns that run along together.
    def in_line(cells):
        columns, rows = [cell % 3 for cell in cells], [cell // 3 for cell in cells]
        diagonals = (columns == rows, [2 - column for column in columns] == rows)
        return len(set(columns)) == 1 or len(set(rows)) == 1 or any(diagonals)

    triples = [(a, b, c) for a in range(9) for b in range(a + 1, 9) for c in range(b + 1, 9)]
    assert {triple for triple in triples if in_line(triple)} == set(LINES)
    for a, b, c in LINES:
        cells = ["_"] * 9
        cells[a] = cells[b] = "0"
        transition = GAME.step(TicTacToeState("".join(cells), 0), {0: CELLS[c]}, generator("unused"))
        assert (transition.terminated, transition.reward) == (True, {0: 1.0, 1: -1.0})
        assert transition.success == {0: True, 1: False}


def test_a_full_board_without_a_line_is_a_draw_that_nobody_won():
    #   row 3:  0 1 _       the mover puts 0 on c3: no line of 0
    #   row 2:  0 1 1
    #   row 1:  1 0 0
    transition = GAME.step(TicTacToeState("100" + "011" + "01_", 0), {0: "c3"}, generator("unused"))
    assert (transition.terminated, transition.reward) == (True, {0: 0.0, 1: 0.0})
    assert transition.success == {0: False, 1: False}


def test_the_last_cell_can_still_win():
    # Fails when a full board is a draw before the line is looked for.
    transition = GAME.step(TicTacToeState("001" + "110" + "00_", 0), {0: "c3"}, generator("unused"))
    assert transition.reward == {0: 1.0, 1: -1.0}


def test_the_seats_take_turns_and_only_free_cells_are_legal():
    state = GAME.initial(generator("unused"))
    assert GAME.players(state) == (0,)
    assert GAME.legal(state, 0) == CELLS
    after = GAME.step(state, {0: "b2"}, generator("unused")).state
    assert GAME.players(after) == (1,)
    assert GAME.legal(after, 1) == ("a1", "b1", "c1", "a2", "c2", "a3", "b3", "c3")


def test_each_seat_sees_its_own_marks():
    state = TicTacToeState("01_" + "_0_" + "___", 1)
    assert GAME.view(state, 0) == TicTacToeView("PE__P____")
    assert GAME.view(state, 1) == TicTacToeView("EP__E____")


@pytest.mark.parametrize(
    ("cells", "mover", "action"),
    [
        ("_________", 0, "b2"),
        ("____0____", 1, "a1"),
        ("00_11____", 0, "c1"),  # wins rather than blocks
        ("00_1_____", 1, "c1"),  # blocks
        ("0_1_1___0", 0, "a3"),  # blocks the diagonal
        ("010_1_0_1", 1, "b3"),
    ],
)
def test_the_heuristic_wins_blocks_and_then_takes_the_best_cell(cells, mover, action):
    assert GAME.heuristic(TicTacToeState(cells, mover), mover) == action


def test_the_scripted_opponent_takes_a_win_and_else_plays_at_random():
    winning = TicTacToeState("11_00____", 1)
    assert {GAME.scripted(winning, 1, generator("s", n)) for n in range(20)} == {"c1"}
    open_board = TicTacToeState("0________", 1)
    assert {GAME.scripted(open_board, 1, generator("s", n)) for n in range(200)} == set(CELLS) - {"a1"}


def count(state, seen):
    """All states that can be reached."""
    if state in seen:
        return
    seen.add(state)
    mover = state.mover
    for action in GAME.legal(state, mover):
        ((probability, transition),) = GAME.outcomes(state, {mover: action})
        assert probability == 1.0
        if transition.terminated:
            seen.add(transition.state)
        else:
            count(transition.state, seen)


def test_it_has_as_many_positions_as_is_known():
    # 5,478 positions can be reached, as is well known.
    seen: set = set()
    count(GAME.initial(generator("unused")), seen)
    assert len({state.cells for state in seen}) == 5478


def minimax(state, memo):
    """The value for seat 0 under best play of both."""
    if state not in memo:
        values = []
        for action in GAME.legal(state, state.mover):
            transition = GAME.step(state, {state.mover: action}, generator("unused"))
            values.append(transition.reward[0] if transition.terminated else minimax(transition.state, memo))
        memo[state] = max(values) if state.mover == 0 else min(values)
    return memo[state]


def test_best_play_of_both_is_a_draw():
    assert minimax(GAME.initial(generator("unused")), {}) == 0.0


def test_who_begins_is_set_or_drawn():
    assert TicTacToe(first=1).initial_outcomes() == [(1.0, TicTacToeState("_" * 9, 1))]
    assert [p for p, _ in TicTacToe().initial_outcomes()] == [0.5, 0.5]
    begun = [TicTacToe().initial(generator("first", n)).mover for n in range(400)]
    assert abs(sum(begun) - 200) < 4 * 10


def test_the_player_who_is_not_to_move_at_the_end_is_paid_on_its_last_step(make_match):
    # Seat 0: a1, b1, c1 wins. Seat 1 moved twice, and its second step gets the −1 that came after it.
    match = make_match(game=GAME, max_steps=9)
    winner, loser = play([match], {0: Moves("a1", "b1", "c1"), 1: Moves("a3", "b3")}, learners=(0, 1))
    assert [step.action for step in winner.steps] == ["a1", "b1", "c1"]
    assert [step.reward for step in winner.steps] == [0.0, 0.0, 1.0]
    assert [step.action for step in loser.steps] == ["a3", "b3"]
    assert [step.reward for step in loser.steps] == [0.0, -1.0]
    assert (winner.success, loser.success) == (True, False)
    assert (winner.terminated, loser.terminated, loser.truncated) == (True, True, False)
    # Between two decisions the board changed twice: the next view is the next decision's.
    assert winner.steps[0].next_view_key == winner.steps[1].view_key
    assert loser.final_view == TicTacToeView("EEE___PP_")


def test_the_seat_that_does_not_begin_waits_for_its_turn(make_match):
    match = make_match(game=TicTacToe(first=1), max_steps=9)
    second, first = play([match], {0: Moves("a3", "b3"), 1: Moves("a1", "b1", "c1")}, learners=(0, 1))
    assert second.steps[0].view == TicTacToeView("E________")
    assert [step.reward for step in second.steps] == [0.0, -1.0]
    assert [step.reward for step in first.steps] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("opponent", [Random(), Scripted(), Heuristic()])
def test_the_heuristic_seldom_loses(make_match, opponent):
    matches = [make_match(game=TicTacToe(), group=n, max_steps=9, share_chance=False) for n in range(200)]
    episodes = play(matches, {0: Heuristic(), 1: opponent})
    assert len(episodes) == 200
    assert all(episode.terminated for episode in episodes)
    assert sum(episode.domain_return < 0 for episode in episodes) < 20


def test_other_settings_keep_the_contract():
    for first in (0, 1):
        check_game(TicTacToe(first=first))


def test_a_seat_that_does_not_exist_cannot_begin():
    with pytest.raises(UserError, match="not 2"):
        TicTacToe(first=2)
