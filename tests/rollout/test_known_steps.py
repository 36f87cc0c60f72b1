"""Equal steps are made once, and play is what it would be if each were made for itself."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import GameError
from lapwing.core.types import Transition
from lapwing.games.frozen_lake import FrozenLake
from lapwing.games.key_door import KeyDoor
from lapwing.games.snake import Snake
from lapwing.games.tic_tac_toe import TicTacToe
from lapwing.policies.baselines import LegalRandom, Scripted
from lapwing.rollout.arena import Here
from lapwing.rollout.play import play


class Apart(Here):
    """Makes every step for itself."""

    def begin(self, matches):
        found = super().begin(matches)
        for standing in self._standing.values():
            standing.known = None
        return found


@dataclass(frozen=True)
class Counts:
    """Go or draw a number; `made` counts the steps that were really made."""

    made: list = dataclasses.field(default_factory=list, compare=False)
    trouble: str = ""
    restorable: bool = True

    num_players: ClassVar[int] = 1
    reward_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def initial(self, rng):
        return self._state(0)

    def players(self, state):
        return (0,)

    def view(self, state, player):
        return ("at", self._number(state))

    def legal(self, state, player):
        return ("go", "draw")

    def step(self, state, actions, rng):
        self.made.append((self._number(state), actions[0]))
        if self.trouble == "fails" and len(self.made) == 1:
            raise ValueError("once")
        number = self._number(state) + (1 if actions[0] == "go" else int(rng.integers(10, 10**6)))
        return Transition(self._state(number), {0: 0.5})

    def _state(self, number):
        return [number] if self.trouble == "lists" else number

    def _number(self, state):
        return state[0] if self.trouble == "lists" else state


class Does(LegalRandom):
    """Plays one action for ever."""

    def __init__(self, action):
        super().__init__()
        self.action = action

    def choose(self, ask):
        return self.action


def group(make_match, game, members=6, groups=1, max_steps=3, **settings):
    return [
        make_match(game=game, group=g, member=m, max_steps=max_steps, **settings)
        for g in range(groups)
        for m in range(members)
    ]


def told(episodes):
    """All columns of the batch, bit for bit, and what the steps hold besides."""
    batch = EpisodeBatch.pack(episodes)
    columns = {name: (array.dtype, array.tobytes()) for name, array in batch._arrays().items()}
    steps = [(s.view, s.action, s.state, s.parts, s.steps_left) for e in episodes for s in e.steps]
    return columns, steps, [(e.final_view, e.success, e.terminated, e.truncated) for e in episodes]


# Fails when a step is shared by matches whose chance differs, or the last step of a match by one that goes on.
@pytest.mark.parametrize("share_chance", [True, False], ids=["shared chance", "own chance"])
@pytest.mark.parametrize(
    "game",
    [
        Snake(width=3, height=3),
        Snake(width=4, height=4, num_snakes=2, apples=2),
        FrozenLake(map_name="4x4", slippery=True),
        KeyDoor(),
        TicTacToe(),
    ],
    ids=["snake", "two snakes", "slippery lake", "key and door", "tic tac toe"],
)
def test_play_is_the_same_bit_for_bit(make_match, game, share_chance):
    matches = [
        make_match(game=game, group=g, member=m, max_steps=3 + 4 * (m % 3), share_chance=share_chance)
        for g in range(6)
        for m in range(12)
    ]
    policies = {0: LegalRandom(), 1: LegalRandom() if isinstance(game, TicTacToe) else Scripted()}
    learners = tuple(range(game.num_players))
    shared = play(matches, policies, learners=learners)
    assert told(shared) == told(play(matches, policies, learners=learners, arena=Apart()))


# Fails when nothing is shared, or what draws is shared beyond those who share their chance.
@pytest.mark.parametrize(
    ("action", "settings", "made"),
    [
        ("go", {}, 3),
        ("go", {"groups": 4}, 3),
        ("draw", {}, 3),
        ("draw", {"groups": 4}, 12),
        ("draw", {"share_chance": False}, 18),
    ],
)
def test_equal_steps_are_made_once(make_match, action, settings, made):
    game = Counts()
    play(group(make_match, game, **settings), {0: Does(action)})
    assert len(game.made) == made


def test_a_match_that_ends_here_is_another_step_than_one_that_goes_on(make_match):
    game = Counts()
    matches = [make_match(game=game, member=member, max_steps=1 + member) for member in range(3)]
    episodes = play(matches, {0: Does("go")})
    assert [len(episode.steps) for episode in episodes] == [1, 2, 3]
    assert sorted(game.made) == [(0, "go"), (0, "go"), (1, "go"), (1, "go"), (2, "go")]


def test_games_do_not_share_their_steps(make_match):
    # Fails when only the state is compared: what a step pays depends on the settings.
    cheap, dear = Snake(width=3, height=3, death_reward=-0.25), Snake(width=3, height=3)
    matches = [*group(make_match, cheap, max_steps=8), *group(make_match, dear, max_steps=8)]
    low, high = play(matches, {0: Does("up")})[::6]
    assert (low.steps[-1].reward, high.steps[-1].reward) == (-0.25, -1.0)


@pytest.mark.parametrize("game", [Counts(trouble="lists"), Counts(restorable=False)], ids=["lists", "handles"])
def test_what_cannot_be_compared_or_stepped_twice_is_stepped_each_time(make_match, game):
    assert len(play(group(make_match, game), {0: Does("go")})) == 6
    assert len(game.made) == 18


class Odd:
    """A state that cannot say whether it is another one's equal."""

    def __init__(self, number):
        self.number = number

    def __hash__(self):
        return 1

    def __eq__(self, other):
        raise ValueError("ambiguous")


@dataclass(frozen=True)
class Odds(Counts):
    """Has odd states."""

    def _state(self, number) -> Any:
        return Odd(number)

    def _number(self, state):
        return state.number


def test_states_whose_comparison_fails_are_stepped_each_time(make_match):
    game = Odds()
    assert len(play(group(make_match, game), {0: Does("go")})) == 6
    assert len(game.made) > 6


def test_a_failure_is_not_remembered(make_match):
    # Fails when the second member is told of the error that the first one met.
    game, arena = Counts(trouble="fails"), Here()
    assert len(play(group(make_match, game), {0: Does("go")}, arena=arena)) == 6
    assert arena.reissued == 1
    assert len(game.made) == 4


def test_nothing_is_known_of_an_earlier_play(make_match):
    # Fails when what a game did is kept for ever.
    game, arena = Counts(), Here()
    for _ in range(2):
        play(group(make_match, game), {0: Does("go")}, arena=arena)
    assert len(game.made) == 6


def test_a_step_that_breaks_the_rules_fails_for_every_member(make_match):
    @dataclass(frozen=True)
    class Pays(Counts):
        def step(self, state, actions, rng):
            return Transition(state, {0: 7.0})

    with pytest.raises(GameError, match="outside its reward_range"):
        play(group(make_match, Pays()), {0: Does("go")})
