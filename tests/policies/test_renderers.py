import dataclasses

import numpy as np
import pytest

from lapwing.core.rng import generator
from lapwing.games.bandit import BanditView
from lapwing.games.frozen_lake import FrozenLake, FrozenLakeView
from lapwing.games.snake import Snake, SnakeView
from lapwing.policies.renderers import Coordinates, Grid

LAKE = FrozenLakeView(("SFH", "FFF", "HFG"), 1, 0, False)
SNAKE = SnakeView(4, 3, ((1, 1), (0, 1), (0, 0)), (((3, 2), (3, 1)),), ((2, 1), (0, 2)))
SHORT = SnakeView(3, 2, ((0, 1),), (), ((2, 0),))
BANDIT = BanditView(("a", "b"), False)


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
        (Coordinates(), SHORT, "at 0 1 body up wall down _ left wall right _ apple +2 -1"),
        (Coordinates(), BANDIT, "arms a b"),
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
    for game in (
        FrozenLake(),
        FrozenLake(size=9, slippery=True),
        Snake(),
        Snake(width=3, height=7, apples=3, num_snakes=2),
    ):
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
    [Grid(), Grid(instructions=True), Coordinates(), Coordinates(nearby=2, instructions=True), Coordinates(nearby=0)],
)
def test_every_word_that_is_shown_was_announced_and_stands_alone(renderer):
    # Fails when a word is left out of words(): the tiny tokenizer would read <unk>.
    for view in random_views():
        words = renderer.words(view)
        for message in renderer.messages(view):
            assert set(message["content"].split()) <= words
            assert message["content"] == " ".join(message["content"].split())
