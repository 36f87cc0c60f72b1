import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.games.connect_four import ConnectFour, ConnectFourState, ConnectFourView
from lapwing.games.contract import check_game
from lapwing.policies.baselines import Heuristic, Random, Scripted
from lapwing.rollout.play import play

GAME = ConnectFour(first=0)
SMALL = ConnectFour(rows=3, columns=4, connect=3, first=0)


def cells(*rows):
    """Rows as they are read, the top one first."""
    return "".join(reversed(rows))


def played(game, moves):
    """The transitions of a match."""
    state, found = game.initial(generator("unused")), []
    for move in moves:
        found.append(game.step(state, {state.mover: move}, generator("unused")))
        state = found[-1].state
    return found


def lines(game):
    """All lines by their definition: runs of cells in one of four directions."""
    on_board = {(r, c) for r in range(game.rows) for c in range(game.columns)}
    for r, c in on_board:
        for dr, dc in ((0, 1), (1, 0), (1, 1), (1, -1)):
            line = [(r + n * dr, c + n * dc) for n in range(game.connect)]
            if set(line) <= on_board:
                yield line


def test_every_line_wins_and_there_are_69():
    # 24 across, 21 upwards, 12 and 12 aslant.
    assert len(list(lines(GAME))) == 69
    for line in lines(GAME):
        # The last disc falls onto a full column below it; the rest of the line is there already.
        for last in line:
            board = [["_"] * 7 for _ in range(6)]
            for r in range(last[0]):
                board[r][last[1]] = "1"
            for r, c in line:
                board[r][c] = "0"
            board[last[0]][last[1]] = "_"
            below_is_free = any(board[r][last[1]] == "_" for r in range(last[0]))
            if below_is_free:
                continue
            state = ConnectFourState("".join(map("".join, board)), 0)
            transition = GAME.step(state, {0: "abcdefg"[last[1]]}, generator("unused"))
            assert (transition.terminated, transition.reward) == (True, {0: 1.0, 1: -1.0})
            assert transition.success == {0: True, 1: False}


def test_discs_fall_and_a_full_column_is_not_legal():
    match = played(SMALL, "bbba")
    assert match[-1].state == ConnectFourState(cells("_0__", "_1__", "10__"), 0)
    assert SMALL.legal(match[-1].state, 0) == ("a", "c", "d")
    assert not any(transition.terminated for transition in match)


def test_a_line_does_not_go_round_the_edge():
    # c1 and d1 of the bottom row and a2 above are neighbours in the text and nowhere else.
    state = ConnectFourState(cells("____", "____", "1100")[:4] + "_" * 8, 0)
    after = SMALL.step(state, {0: "a"}, generator("unused"))
    assert not after.terminated


def test_a_full_board_without_a_line_is_a_draw():
    #  0 1 0 _      the last disc of seat 1 goes to d3
    #  1 0 1 0
    #  0 1 0 1      with four in a line asked for: only rows are that long
    game = ConnectFour(rows=3, columns=4, connect=4, first=0)
    state = ConnectFourState(cells("010_", "1010", "0101"), 1)
    transition = game.step(state, {1: "d"}, generator("unused"))
    assert (transition.terminated, transition.reward) == (True, {0: 0.0, 1: 0.0})
    assert transition.success == {0: False, 1: False}


def test_each_seat_sees_its_own_discs():
    state = ConnectFourState(cells("____", "_1__", "10__"), 0)
    assert SMALL.view(state, 0) == ConnectFourView(cells("____", "_E__", "EP__"), 4)
    assert SMALL.view(state, 1) == ConnectFourView(cells("____", "_P__", "PE__"), 4)


@pytest.mark.parametrize(
    ("board", "mover", "action"),
    [
        (("____", "____", "____"), 0, "b"),  # the middle, and of two columns the left one
        (("____", "____", "00__"), 0, "c"),  # wins
        (("____", "____", "11__"), 0, "c"),  # blocks
        (("____", "____", "_11_"), 0, "a"),  # one of two; the other is lost
        (("____", "1___", "00_1"), 0, "c"),  # wins rather than blocks
        # A disc in b would let the other finish the diagonal on top of it; of a and d the left one is taken.
        (("__1_", "__0_", "1_0_"), 0, "a"),
    ],
)
def test_the_heuristic_wins_blocks_and_gives_nothing_away(board, mover, action):
    assert SMALL.heuristic(ConnectFourState(cells(*board), mover), mover) == action


def test_the_scripted_opponent_takes_a_win_and_else_plays_at_random():
    winning = ConnectFourState(cells("____", "____", "00__"), 0)
    assert {SMALL.scripted(winning, 0, generator("s", n)) for n in range(20)} == {"c"}
    assert {SMALL.scripted(winning, 1, generator("s", n)) for n in range(100)} == set("abcd")


def test_the_heuristic_wins_nearly_always_and_blind_play_stays_below_the_ceiling(make_match):
    matches = [make_match(game=ConnectFour(), group=n, max_steps=42, share_chance=False) for n in range(60)]
    for opponent in (Random(), Scripted()):
        episodes = play(matches, {0: Heuristic(), 1: opponent})
        assert all(episode.terminated for episode in episodes)
        assert sum(bool(episode.success) for episode in episodes) >= 54


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rows": 1}, "2 to 12 rows, not 1"),
        ({"columns": 13}, "2 to 12 columns, not 13"),
        ({"connect": 8}, "2 to 7 discs"),
        ({"connect": 1}, "2 to 7 discs"),
        ({"first": 2}, "0 or 1, not 2"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        ConnectFour(**settings)


def test_other_settings_keep_the_contract():
    check_game(SMALL, other_process=False)
    check_game(ConnectFour(rows=4, columns=2, connect=3, first=1), other_process=False)


@pytest.mark.parametrize("first", [None, 0, 1])
def test_the_middle_column_stays_just_below_the_ceiling(first):
    game, returns = ConnectFour(first=first), []
    for number in range(4_000):
        rng = generator("middle", number)
        state, transition = game.initial(rng), None
        while transition is None or not transition.terminated:
            legal = game.legal(state, state.mover)
            by_rote = "d" if "d" in legal else legal[0]
            action = by_rote if state.mover == 0 else legal[int(rng.integers(len(legal)))]
            transition = game.step(state, {state.mover: action}, rng)
            state = transition.state
        returns.append(transition.reward[0])
    found = sum(returns) / len(returns)
    assert found < game.null_ceiling < found + 0.05
