"""Snake's rules, each drawn on a tiny board: H head, T body, A apple, h and t the second snake, . empty."""

import math

import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.core.types import Match
from lapwing.games.contract import check_game
from lapwing.games.snake import ACTIONS, Snake, SnakeState, SnakeView
from lapwing.policies.baselines import _Baseline
from lapwing.policies.renderers import Coordinates, Grid
from lapwing.rollout.play import play

RNG = generator("snake tests")


def step(game, bodies, apples, *actions, rng=RNG):
    """Play one round from a board given by bodies (head first) and apples."""
    state = SnakeState(tuple(tuple(body) for body in bodies), tuple(sorted(apples)))
    return game.step(state, dict(enumerate(actions)), rng)


@pytest.mark.parametrize(("action", "head"), [("up", (1, 2)), ("down", (1, 0)), ("left", (0, 1)), ("right", (2, 1))])
def test_each_action_moves_the_head_and_drops_the_tail(action, head):
    # . . A
    # . H .
    # . . .
    transition = step(Snake(3, 3), [[(1, 1)]], [(2, 2)], action)
    assert transition.state == SnakeState((((head),),), ((2, 2),))
    assert transition.reward == {0: 0.0}
    assert not transition.terminated
    assert transition.parts == {}


def test_the_body_follows_the_head():
    # . H T      H T .
    # . . T  →   . . T      the last cell is dropped
    # A . T      A . .
    transition = step(Snake(3, 3), [[(1, 2), (2, 2), (2, 1), (2, 0)]], [(0, 0)], "left")
    assert transition.state.bodies == (((0, 2), (1, 2), (2, 2), (2, 1)),)


def test_an_apple_is_worth_one_and_grows_the_snake_by_its_new_head():
    # . . .      . . .
    # T H A  →   T T H      and a new apple lies on one of the six free cells
    # . . .      . . .
    transition = step(Snake(3, 3), [[(1, 1), (0, 1)]], [(2, 1)], "right")
    body = ((2, 1), (1, 1), (0, 1))
    assert transition.state.bodies == (body,)
    assert transition.reward == {0: 1.0}
    assert transition.parts == {"apples": 1.0}
    (apple,) = transition.state.apples
    assert apple not in body


def test_a_new_apple_is_uniform_over_the_free_cells():
    # 2 x 2:  H A   →   T H   the free cells are (0, 0) and (1, 0)
    #         . .       A ?
    game, draws = Snake(2, 2), 2000
    drawn = [step(game, [[(0, 1)]], [(1, 1)], "right", rng=generator("apple", n)).state.apples[0] for n in range(draws)]
    share = np.mean([apple == (0, 0) for apple in drawn])
    assert set(drawn) == {(0, 0), (1, 0)}
    assert abs(share - 0.5) < 4 * math.sqrt(0.25 / draws)


def test_new_apples_come_after_all_moves():
    # Both snakes eat at once; on 3 x 2 the heads' old cells become tails, and two of two free cells get the apples.
    # H A .      T H A
    # h a .  →   t h A
    transition = step(Snake(3, 2, apples=2, num_snakes=2), [[(0, 1)], [(0, 0)]], [(1, 1), (1, 0)], "right", "right")
    assert transition.state.apples == ((2, 0), (2, 1))
    assert transition.reward == {0: 1.0, 1: 1.0}
    assert transition.parts == {"apples_0": 1.0, "apples_1": 1.0}


@pytest.mark.parametrize(("head", "action"), [((0, 2), "up"), ((0, 0), "down"), ((0, 0), "left"), ((2, 0), "right")])
def test_leaving_the_board_kills(head, action):
    transition = step(Snake(3, 3), [[head]], [(1, 1)], action)
    assert transition.terminated
    assert transition.state.bodies == ((),)
    assert transition.reward == {0: -1.0}
    assert transition.parts == {"deaths": 1.0}


def test_the_own_neck_kills():
    # T H .   moving left
    assert step(Snake(3, 2), [[(1, 0), (0, 0)]], [(2, 1)], "left").terminated


def test_the_own_tail_kills_even_though_it_is_about_to_move_away():
    # H T .   the four cells form a ring: (0,1) head, (1,1), (1,0), (0,0) tail; moving down
    # T T A
    assert step(Snake(3, 2), [[(0, 1), (1, 1), (1, 0), (0, 0)]], [(2, 0)], "down").terminated


def test_two_heads_on_one_cell_kill_both_and_leave_the_apple():
    # H A h
    # . . .
    transition = step(Snake(3, 2, num_snakes=2), [[(0, 1)], [(2, 1)]], [(1, 1)], "right", "left")
    assert transition.state == SnakeState(((), ()), ((1, 1),))
    assert transition.reward == {0: -1.0, 1: -1.0}
    assert transition.parts == {"deaths_0": 1.0, "deaths_1": 1.0}


def test_a_head_swap_kills_both():
    # H h .
    # . . A
    transition = step(Snake(3, 2, num_snakes=2), [[(0, 1)], [(1, 1)]], [(2, 0)], "right", "left")
    assert transition.state.alive == ()


def test_the_other_tail_kills_even_though_it_is_about_to_move_away():
    # H t h .   first snake right onto the tail, second right into the open
    # . . . A
    transition = step(Snake(4, 2, num_snakes=2), [[(0, 1)], [(2, 1), (1, 1)]], [(3, 0)], "right", "right")
    assert transition.state == SnakeState(((), ((3, 1), (2, 1))), ((3, 0),))
    assert transition.reward == {0: -1.0, 1: 0.0}


def test_the_cell_of_a_snake_that_dies_in_the_same_round_still_kills():
    # . A .
    # H h .   the second snake leaves the board downwards; the first runs onto its old cell
    transition = step(Snake(3, 2, num_snakes=2), [[(0, 0)], [(1, 0)]], [(1, 1)], "right", "down")
    assert transition.state.alive == ()


def test_with_two_snakes_the_game_ends_when_one_is_left_without_a_prize():
    # . h A
    # H . .   the second snake leaves the board upwards
    game = Snake(3, 2, num_snakes=2, step_reward=-0.01)
    transition = step(game, [[(0, 0)], [(1, 1)]], [(2, 1)], "right", "up")
    assert transition.terminated
    assert transition.state == SnakeState((((1, 0),), ()), ((2, 1),))
    assert transition.reward == {0: -0.01, 1: -1.0}
    assert transition.success is None


def test_the_round_of_a_death_gives_the_death_reward_and_nothing_else():
    game = Snake(3, 3, death_reward=-2, apple_reward=3, step_reward=-0.25)
    assert step(game, [[(0, 0)]], [(1, 1)], "left").reward == {0: -2.0}
    assert step(game, [[(0, 0)]], [(1, 1)], "right").reward == {0: -0.25}
    assert step(game, [[(0, 1)]], [(1, 1)], "right").reward == {0: 2.75}
    assert game.reward_range == (-2.0, 2.75)


def test_apples_stay_away_while_no_cell_is_free_and_a_full_board_ends_the_game():
    game = Snake(2, 2, apples=2)
    # T A      T H      then A at (0, 0) is eaten too:   T T
    # H A  …   T A                                      H T   no cell is free, no apple is left
    transition = step(game, [[(1, 1), (0, 1), (0, 0)]], [(1, 0)], "down")
    assert transition.state == SnakeState((((1, 0), (1, 1), (0, 1), (0, 0)),), ())
    assert transition.terminated
    assert transition.reward == {0: 1.0}
    # One move before: two apples, one is eaten, and there is no room for a second one.
    transition = step(game, [[(0, 1), (0, 0)]], [(1, 0), (1, 1)], "right")
    assert transition.state.apples == ((1, 0),)
    assert not transition.terminated


@pytest.mark.parametrize("game", [Snake(), Snake(10, 10, apples=5, num_snakes=2), Snake(2, 3, apples=4, num_snakes=2)])
def test_a_start_has_single_cells_that_never_overlap(game):
    for number in range(200):
        state = game.initial(generator("start", number))
        cells = [cell for body in state.bodies for cell in body] + list(state.apples)
        assert len(state.bodies) == game.num_players == game.num_snakes
        assert len(set(cells)) == len(cells) == game.apples + game.num_snakes
        assert state.apples == tuple(sorted(state.apples))
        assert all(type(part) is int for cell in cells for part in cell)
        assert all(0 <= x < game.width and 0 <= y < game.height for x, y in cells)
        assert game.players(state) == tuple(range(game.num_snakes))


def test_a_view_shows_the_board_from_the_own_snake():
    game = Snake(4, 3, num_snakes=2)
    state = SnakeState((((0, 0),), ((2, 2), (3, 2))), ((1, 1),))
    assert game.view(state, 0) == SnakeView(4, 3, ((0, 0),), (((2, 2), (3, 2)),), ((1, 1),))
    assert game.view(state, 1) == SnakeView(4, 3, ((2, 2), (3, 2)), (((0, 0),),), ((1, 1),))
    dead = SnakeState(((), ((2, 2), (3, 2))), ((1, 1),))
    assert game.view(dead, 1).others == ()
    assert game.players(dead) == (1,)
    assert game.legal(state, 0) == ACTIONS


@pytest.mark.parametrize(
    ("bodies", "apples", "action"),
    [
        # straight to the nearer of two apples
        ([[(1, 1)]], [(1, 2), (3, 3)], "up"),
        # A T .   the way left is around the own body: (1, 1) is the head, (1, 2), (0, 1) … are body
        # T H .
        # . . .
        ([[(1, 1), (0, 1), (0, 2), (1, 2)]], [(0, 0)], "down"),
        # no way to the apple: T T A  keep to a move that survives
        ([[(0, 0), (0, 1), (1, 1), (2, 1), (3, 1), (4, 1)]], [(4, 3)], "right"),
        # trapped in a corner: any move, the first
        ([[(0, 0), (0, 1), (1, 1), (1, 0)]], [(4, 3)], "up"),
    ],
    ids=["nearest apple", "around the body", "no way, survive", "trapped"],
)
def test_the_heuristic(bodies, apples, action):
    state = SnakeState(tuple(tuple(body) for body in bodies), tuple(apples))
    assert Snake(5, 4).heuristic(state, 0) == action


def test_the_heuristic_avoids_the_other_snake():
    # H h A   the straight way is blocked: around it, and up is the only way
    # (2 x 3 board, y = 0 below)
    state = SnakeState((((0, 0),), ((1, 0),)), ((2, 0),))
    assert Snake(3, 2, num_snakes=2).heuristic(state, 0) == "up"


@pytest.mark.parametrize(
    ("body", "moves"),
    [
        ([(0, 0)], {"up", "right"}),
        ([(1, 0), (0, 0)], {"up", "right"}),
        ([(0, 1), (1, 1), (1, 0), (0, 0)], {"up", "down"}),
        ([(0, 0), (0, 1), (1, 1), (1, 0), (2, 0)], set(ACTIONS)),
    ],
    ids=["stays on the board", "misses its neck", "its own tail is no body", "trapped: any move"],
)
def test_the_careless_opponent(body, moves):
    # The other snake's head at (1, 2) is ignored.
    state = SnakeState((((1, 2),), tuple(body)), ((2, 2),))
    game = Snake(3, 3, num_snakes=2)
    chosen = [game.scripted(state, 1, generator("opponent", number)) for number in range(100)]
    assert set(chosen) == moves


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"width": 1}, "1 x 5"),
        ({"height": 65}, "5 x 65"),
        ({"num_snakes": 5}, "not 5"),
        ({"num_snakes": 0}, "not 0"),
        ({"apples": 0}, "not 0"),
        ({"width": 2, "height": 2, "apples": 3, "num_snakes": 2}, "1 to 2 apples, not 3"),
        ({"death_reward": math.nan}, "not nan"),
    ],
)
def test_impossible_settings_are_refused_in_one_sentence(settings, found):
    with pytest.raises(UserError, match=found) as caught:
        Snake(**settings)
    assert "set game." in str(caught.value)


# Levels measured by others with the same rules, for 10 x 10, 5 apples, one careless opponent, 20 rounds, a death
# costing 2 and a round 0.01: apples and return of three policies, from 2,000 games each. The spreads of one game are
# about 0.5, 0.85 and 2.0 apples, 0.8, 1.2 and 2.2 of return; the two means may differ by four standard errors.
@pytest.mark.parametrize(
    ("name", "games", "apples", "episode_return", "spreads"),
    [
        ("uniform", 800, 0.29, -1.45, (0.5, 0.8)),
        ("scripted", 800, 0.59, 0.01, (0.85, 1.2)),
        ("heuristic", 300, 4.67, 4.46, (2.0, 2.2)),
    ],
)
def test_reference_levels(name, games, apples, episode_return, spreads):
    game = Snake(10, 10, apples=5, num_snakes=2, death_reward=-2.0, step_reward=-0.01)
    policies = {
        "uniform": lambda state, rng: ACTIONS[int(rng.integers(4))],
        "scripted": lambda state, rng: game.scripted(state, 0, rng),
        "heuristic": lambda state, rng: game.heuristic(state, 0),
    }
    totals = []
    for number in range(games):
        rng = generator("reference", name, number)
        state, eaten, total = game.initial(rng), 0.0, 0.0
        for _ in range(20):
            transition = game.step(state, {0: policies[name](state, rng), 1: game.scripted(state, 1, rng)}, rng)
            state = transition.state
            eaten += transition.parts.get("apples_0", 0.0)
            total += transition.reward[0]
            if transition.terminated:
                break
        totals.append((eaten, total))
    for mean, expected, spread in zip(np.mean(totals, axis=0), (apples, episode_return), spreads, strict=True):
        assert abs(mean - expected) < 4 * spread * math.sqrt(1 / games + 1 / 2000)


@pytest.mark.parametrize("num_snakes", [1, 2])
def test_the_score_counts_the_apples_of_the_first_snake(num_snakes):
    # Fails when the named part is not the one that a round reports: every score would be 0.
    game = Snake(width=5, height=5, num_snakes=num_snakes)
    others = (((4, 4),),) if num_snakes == 2 else ()
    state = SnakeState(bodies=(((1, 1),), *others), apples=((1, 2),))
    moves = {player: "up" if player == 0 else "left" for player in game.players(state)}
    assert game.step(state, moves, np.random.default_rng(0)).parts[game.score_part] == 1.0


# ---------------------------------------------------------------------------------------------------------------------
# Three and four snakes: k the third snake.


def test_with_three_snakes_the_others_go_on_when_one_dies():
    # H . .      . H .
    # . A .  →   . A .    the third leaves the board downwards, the others move
    # h . k      . h .
    game = Snake(3, 3, num_snakes=3)
    transition = step(game, [[(0, 2)], [(0, 0)], [(2, 0)]], [(1, 1)], "right", "right", "down")
    assert not transition.terminated
    assert transition.state == SnakeState((((1, 2),), ((1, 0),), ()), ((1, 1),))
    assert transition.reward == {0: 0.0, 1: 0.0, 2: -1.0}
    assert transition.parts == {"deaths_2": 1.0}
    assert game.players(transition.state) == (0, 1)
    assert [game.is_out(game.view(transition.state, seat)) for seat in range(3)] == [False, False, True]
    assert game.view(transition.state, 2) == SnakeView(3, 3, (), (((1, 2),), ((1, 0),)), ((1, 1),))
    # The dead gets nothing more, and is in nobody's way; the end comes when one is left.
    eaten = step(game, transition.state.bodies, [(1, 1)], "down", "right")
    assert not eaten.terminated
    assert eaten.reward == {0: 1.0, 1: 0.0, 2: 0.0}
    ended = step(game, transition.state.bodies, [(1, 1)], "up", "right")
    assert ended.terminated
    assert ended.reward == {0: -1.0, 1: 0.0, 2: 0.0}


def test_three_heads_on_one_cell_kill_all_three_and_the_fourth_wins_nothing():
    # . H . t
    # h A k t      heads meet on the apple; the fourth, alone then, ends the match
    transition = step(
        Snake(4, 3, num_snakes=4), [[(1, 2)], [(0, 1)], [(2, 1)], [(3, 2)]], [(1, 1)], "down", "right", "left", "down"
    )
    assert transition.terminated
    assert transition.reward == {0: -1.0, 1: -1.0, 2: -1.0, 3: 0.0}
    assert transition.state.apples == ((1, 1),)


@pytest.mark.parametrize("snakes", [3, 4])
def test_games_of_several_snakes_keep_the_contract(snakes):
    check_game(Snake(5, 5, apples=2, num_snakes=snakes), matches=10)


def test_the_episode_of_a_snake_that_dies_ends_there_and_those_of_the_others_go_on():
    class Course(_Baseline):
        def choose(self, ask):
            return ("up", "up", "left")[ask.player] if ask.player != 1 else ("right", "left")[ask.view.body[0][0] > 0]

    game = Snake(12, 12, num_snakes=3)
    matches = [Match(game, 0, "test", 0, group, 0, 4) for group in range(40)]
    policy = Course()
    episodes = play(matches, dict.fromkeys(range(3), policy), learners=(0, 1, 2))
    cut = 0
    for first, *others in zip(*[iter(episodes)] * 3, strict=True):
        left = len(first.final_view.others) + bool(first.final_view.body)
        for episode in (first, *others):
            is_dead = not episode.final_view.body
            # Fails when whoever is dead counts as cut off at the step cap, with a future to be valued.
            assert episode.terminated == (is_dead or left < 2)
            assert episode.truncated == (not episode.terminated)
            cut += is_dead and left == 2
    assert cut > 5


def test_a_dead_snake_is_shown_in_words_that_every_board_has():
    view = SnakeView(3, 3, (), (((1, 2),),), ((1, 1),))
    for renderer in (Grid(), Coordinates()):
        (message,) = renderer.messages(view)
        assert set(message["content"].split()) <= renderer.words(view)
