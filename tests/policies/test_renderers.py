import dataclasses
from typing import Any

import numpy as np
import pytest

from lapwing.core.rng import generator
from lapwing.games.bandit import BanditView
from lapwing.games.chain import Chain, ChainView
from lapwing.games.connect_four import ConnectFour, ConnectFourView
from lapwing.games.expert_advice import ExpertAdvice, ExpertAdviceView
from lapwing.games.frozen_lake import FrozenLake, FrozenLakeView
from lapwing.games.key_door import KeyDoor, KeyDoorView
from lapwing.games.kuhn_poker import KuhnPoker, KuhnPokerView
from lapwing.games.matrix_game import MatrixGame, MatrixGameState
from lapwing.games.snake import Snake, SnakeView
from lapwing.games.tic_tac_toe import TicTacToe, TicTacToeView
from lapwing.policies.renderers import Coordinates, Grid

LAKE = FrozenLakeView(("SFH", "FFF", "HFG"), 1, 0, False)
SNAKE = SnakeView(4, 3, ((1, 1), (0, 1), (0, 0)), (((3, 2), (3, 1)),), ((2, 1), (0, 2)))
SHORT = SnakeView(3, 2, ((0, 1),), (), ((2, 0),))
BANDIT = BanditView(("a", "b"), False)
CHAIN = ChainView(length=8, cell=3, step=5)
ROOMS = KeyDoorView(("K_WG", "__D_", "__W_", "__W_"), row=1, column=1, carrying=False)
UNLOCKED = KeyDoorView(("__WG", "__O_", "__W_", "__W_"), row=1, column=2, carrying=False)
# row 3: _ E _ / row 2: _ P _ / row 1: P _ _
MARKS = TicTacToeView("P__" + "_P_" + "_E_")
# Three columns; the bottom row comes first.
FOUR = ConnectFourView("EPP" + "_E_" + "___", 3)
PENNIES = MatrixGame(game="matching_pennies", rounds=3)
TOSSED = MatrixGameState(1, ((0, 1),))


@dataclasses.dataclass(frozen=True)
class Riddle:
    question: str
    tries: int


@pytest.mark.parametrize(
    ("renderer", "view", "text"),
    [
        (Grid(), LAKE, "dry lake : S F H / P F F / H F G"),
        (Grid(), dataclasses.replace(LAKE, slippery=True), "slippery lake : S F H / P F F / H F G"),
        # x runs to the right, y upwards: the top row comes first.
        (Grid(), SNAKE, "board : A _ _ E / T P A T / T _ _ _"),
        (Grid(), SHORT, "board : P _ _ / _ _ A"),
        (Grid(), BANDIT, "arms a b"),
        (
            Coordinates(),
            LAKE,
            "dry lake : S F H / F F F / H F G row 1 column 0 left edge down H right F up S",
        ),
        (Coordinates(nearby=0, board=False), LAKE, "dry lake : row 1 column 0"),
        (
            Coordinates(nearby=2, board=False),
            LAKE,
            # two steps away, row by row: up 2; up 1 left 1, up 1 right 1; left 2, right 2; down 1 left 1, …; down 2
            "dry lake : row 1 column 0 left edge down H right F up S around edge edge F edge F edge F edge",
        ),
        (
            Coordinates(),
            SNAKE,
            "at 1 1 enemy +2 +1 +2 0 body -1 0 -1 -1 up _ down _ left T right A apple +1 0 , -1 +1",
        ),
        (
            Coordinates(nearby=0),
            SNAKE,
            "at 1 1 enemy +2 +1 +2 0 body -1 0 -1 -1 apple +1 0 , -1 +1",
        ),
        (
            Coordinates(bodies=False),
            SNAKE,
            "at 1 1 enemy +2 +1 up _ down _ left T right A apple +1 0 , -1 +1",
        ),
        (Coordinates(bodies=False, nearby=0), SHORT, "at 0 1 apple +2 -1"),
        (Grid(), CHAIN, "cell 3 step 5 of 8"),
        (Coordinates(), CHAIN, "cell 3 step 5 of 8"),
        (Grid(), ROOMS, "hold nothing rooms : K _ W G / _ P D _ / _ _ W _ / _ _ W _"),
        (
            Coordinates(),
            ROOMS,
            "hold nothing row 1 column 1 key -1 -1 door 0 +1 goal -1 +2 left _ down _ right D up _",
        ),
        (
            Coordinates(nearby=0),
            dataclasses.replace(ROOMS, rows=("__WG", *ROOMS.rows[1:]), carrying=True),
            "hold key row 1 column 1 door 0 +1 goal -1 +2",
        ),
        (
            Coordinates(nearby=2),
            UNLOCKED,
            "hold nothing row 1 column 2 open 0 0 goal -1 +1 left _ down W right _ up W around edge _ G _ edge _ _ W",
        ),
        (Grid(), MARKS, "board : _ E _ / _ P _ / P _ _"),
        (Coordinates(), MARKS, "own a1 b2 enemy b3 free b1 c1 a2 c2 a3 c3"),
        (Coordinates(), SHORT, "at 0 1 body up wall down _ left wall right _ apple +2 -1"),
        (Coordinates(), BANDIT, "arms a b"),
        (Grid(), ExpertAdviceView(3, 8, (2, 0, 1)), "round 3 of 8 lost a 2 b 0 c 1"),
        (Coordinates(), ExpertAdviceView(3, 8, (2, 1, 1)), "round 3 of 8 behind a 1 b 0 c 0"),
        (Grid(), FOUR, "board : _ _ _ / _ E _ / E P P"),
        (Coordinates(), FOUR, "a E b P E c P"),
        (Grid(), KuhnPokerView("Q", ()), "card Q moves none"),
        (Coordinates(), KuhnPokerView("K", ("pass", "bet")), "card K moves pass bet"),
        (Grid(), PENNIES.view(TOSSED, 1), "round 1 of 3 played tails heads"),
        (Coordinates(), PENNIES.view(TOSSED, 1), "payoffs heads -1 1 tails 1 -1 round 1 of 3 played tails heads"),
        (
            Grid(),
            MatrixGame(game="chicken", rounds=3, seen="counts").view(MatrixGameState(2, (), ((2, 0), (1, 1))), 0),
            "round 2 of 3 own swerve 2 straight 0 other swerve 1 straight 1",
        ),
        (Grid(), Riddle("why", 3), "question : why . tries : 3 ."),
        (Coordinates(), Riddle("why", 3), "question : why . tries : 3 ."),
        (Grid(), "plain words", "plain words"),
    ],
)
def test_a_view_reads_like_this(renderer, view, text):
    # Fails when rows are not reversed on Snake, or an offset loses its sign.
    assert renderer.messages(view) == [{"role": "user", "content": text}]


def test_instructions_come_first_as_a_system_message():
    system, user = Grid(instructions=True).messages(LAKE)
    assert system["role"] == "system"
    assert system["content"] == (
        "Cross the frozen lake from S to G . F is safe ice , H is a hole that ends the game . "
        "Moves are left , down , right , up ."
    )
    assert [user] == Grid().messages(LAKE)
    # A view that nobody wrote instructions for has none.
    assert Grid(instructions=True).messages(Riddle("why", 3)) == Grid().messages(Riddle("why", 3))


def random_views():
    games: tuple[Any, ...] = (
        FrozenLake(),
        FrozenLake(size=9, slippery=True),
        Snake(),
        Snake(width=3, height=7, apples=3, num_snakes=2),
        Chain(delay=2, slip=0.2),
        ExpertAdvice(),
        KeyDoor(),
        KeyDoor(size=9),
        TicTacToe(),
        ConnectFour(),
        KuhnPoker(),
        MatrixGame(rounds=3),
        MatrixGame(game="stag_hunt", rounds=3, seen="counts"),
    )
    for game in games:
        for match in range(3):
            state = game.initial(generator("start", match))
            random = np.random.default_rng(match)
            for _ in range(15):
                yield from (game.view(state, player) for player in game.players(state))
                actions = {player: random.choice(game.legal(state, player)) for player in game.players(state)}
                transition = game.step(state, actions, random)
                if transition.terminated:
                    break
                state = transition.state
    yield from (BANDIT, Riddle("why", 3), "plain words")


@pytest.mark.parametrize(
    "renderer",
    [
        Grid(),
        Grid(instructions=True),
        Coordinates(),
        Coordinates(nearby=2, instructions=True),
        Coordinates(nearby=0),
        Coordinates(bodies=False),
    ],
)
def test_every_word_that_is_shown_was_announced_and_stands_alone(renderer):
    # Fails when a word is left out of words(): the tiny tokenizer would read <unk>.
    for view in random_views():
        words = renderer.words(view)
        for message in renderer.messages(view):
            assert set(message["content"].split()) <= words
            assert message["content"] == " ".join(message["content"].split())


def test_instructions_name_every_move():
    games: tuple[Any, ...] = (FrozenLake(), Snake(), Chain(), KeyDoor(), KuhnPoker())
    for game in games:
        state = game.initial(generator("start"))
        system, _ = Grid(instructions=True).messages(game.view(state, 0))
        assert set(game.legal(state, 0)) <= set(system["content"].split())
    system, _ = Grid(instructions=True).messages(MARKS)
    assert set("abc123") <= set(system["content"].split())


def test_two_boards_that_read_alike_without_neighbours_are_one_board():
    # Lossless: with nearby=0 and all bodies, different boards never get the same text.
    game, texts = Snake(width=4, height=4, apples=2, num_snakes=2), {}
    for match in range(200):
        state, random = game.initial(generator("lossless", match)), np.random.default_rng(match)
        for _ in range(8):
            view = game.view(state, 0)
            text = Coordinates(nearby=0).messages(view)[0]["content"]
            assert texts.setdefault(text, view) == view
            transition = game.step(state, {p: str(random.choice(game.legal(state, p))) for p in (0, 1)}, random)
            if transition.terminated:
                break
            state = transition.state
    assert len(texts) > 300
