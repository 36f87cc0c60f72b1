from typing import Any

from lapwing.games.bandit import Bandit, BanditState
from lapwing.games.frozen_lake import FrozenLake
from lapwing.games.game import for_split, has_exact_outcomes, outcomes
from lapwing.games.snake import Snake

LAKE: Any = FrozenLake()
SNAKE: Any = Snake()


def test_a_split_restricts_games_that_have_splits_and_leaves_others_alone():
    assert for_split(LAKE, "test") == FrozenLake(split="test")
    assert for_split(SNAKE, "test") == SNAKE


def test_exact_outcomes_are_announced_by_their_method():
    assert has_exact_outcomes(LAKE)
    assert not has_exact_outcomes(SNAKE)
    assert [p for p, _ in outcomes(Bandit(arms=(0.25,)), BanditState(pulled=False), {0: "a"})] == [0.25, 0.75]
