"""Games that are broken on purpose, each in one way, and each caught."""

import dataclasses
import itertools
import random
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from lapwing.core.errors import GameError
from lapwing.core.rng import generator
from lapwing.core.types import Transition
from lapwing.games.contract import check_game, transcript, transcript_digest


@dataclass(frozen=True)
class Place:
    """How far the walker has come."""

    place: Any


@dataclass(frozen=True)
class Walk:
    """Sound: start at 0 or 1, "wait" or "go"; going succeeds half of the time; 1 is paid at 3, where the walk ends."""

    num_players: ClassVar[int] = 1
    reward_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = True

    def initial(self, rng):
        return Place(int(rng.random() < 0.5))

    def initial_outcomes(self):
        return [(0.5, Place(0)), (0.5, Place(1))]

    def players(self, state):
        return (0,)

    def view(self, state, player):
        return state

    def legal(self, state, player):
        return ("wait", "go")

    def step(self, state, actions, rng):
        return self.at(state.place + int(actions[0] == "go" and rng.random() < 0.5))

    def outcomes(self, state, actions):
        if actions[0] == "wait":
            return [(1.0, self.at(state.place))]
        return [(0.5, self.at(state.place)), (0.5, self.at(state.place + 1))]

    def heuristic(self, state, player):
        return "go"

    def words(self):
        return ["0", "1", "2", "3"]

    def at(self, place):
        ended = place == 3
        return Transition(
            Place(place),
            {0: float(ended)},
            terminated=ended,
            success={0: True} if ended else None,
            outcome={0: 0.5} if ended else None,
            parts={"goals": 1.0} if ended else {},
        )


def changed(**methods):
    """A walk with other methods or constants."""
    kind = dataclass(frozen=True)(type("Broken", (Walk,), methods))
    return kind()


def with_transition(**fields):
    """A walk whose transitions have other fields."""
    return changed(at=lambda self, place: dataclasses.replace(Walk.at(self, place), **fields), **NO_OUTCOMES)


def with_view(view):
    return changed(view=lambda self, state, player: view)


def starting_at(place):
    return changed(initial=lambda self, rng: Place(place), **NO_OUTCOMES)


class Missing:
    """Hides an inherited method from hasattr."""

    def __get__(self, instance, owner):
        raise AttributeError


NO_OUTCOMES = {"outcomes": Missing(), "initial_outcomes": Missing()}


def test_a_sound_game_passes():
    check_game(Walk(), other_process=False)


# ---- games that pass though they lack something -----------------------------------------------------------------


@dataclass(frozen=True)
class Duel:
    """Two players name heads or tails at once; the first wins if they agree. No optional methods."""

    num_players: ClassVar[int] = 2
    reward_range: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    restorable: ClassVar[bool] = True

    def initial(self, rng):
        return ()

    def players(self, state):
        return (0, 1)

    def view(self, state, player):
        return (player, *state)

    def legal(self, state, player):
        return ("heads", "tails")

    def step(self, state, actions, rng):
        won = 1.0 if actions[0] == actions[1] else -1.0
        return Transition((actions[0], actions[1]), {0: won, 1: -won}, terminated=True)


@dataclass(frozen=True)
class Echo:
    """Any text is an action, and it comes back in the view."""

    num_players: ClassVar[int] = 1
    reward_range: ClassVar[tuple[float, float]] = (0.0, 0.0)
    restorable: ClassVar[bool] = True

    def initial(self, rng):
        return ("",)

    def players(self, state):
        return (0,)

    def view(self, state, player):
        return state

    def legal(self, state, player):
        return None

    def step(self, state, actions, rng):
        return Transition((actions[0],), {0: 0.0})


@dataclass(frozen=True)
class Tape:
    """Not restorable: it remembers outside the state how often it was stepped, but starts afresh with each match."""

    memory: SimpleNamespace = field(default_factory=SimpleNamespace, init=False, compare=False)

    num_players: ClassVar[int] = 1
    reward_range: ClassVar[tuple[float, float]] = (0.0, 1000.0)
    restorable: ClassVar[bool] = False

    def initial(self, rng):
        self.memory.steps = 0
        return Place(0)

    def players(self, state):
        return (0,)

    def view(self, state, player):
        return state

    def legal(self, state, player):
        return range(200)

    def step(self, state, actions, rng):
        self.memory.steps += 1
        return Transition(Place(self.memory.steps), {0: float(self.memory.steps)}, terminated=self.memory.steps == 5)


def too_many_starts(self):
    raise GameError("too many")


@pytest.mark.parametrize(
    "game",
    [Duel(), Echo(), Tape(), changed(initial_outcomes=too_many_starts), changed(**NO_OUTCOMES, heuristic=Missing())],
    ids=["two players", "open-ended", "not restorable", "starts not listed", "nothing optional"],
)
def test_a_sound_game_passes_without_what_is_optional(game):
    check_game(game, max_steps=20, other_process=False)


def test_a_game_that_is_not_restorable_must_say_so():
    @dataclass(frozen=True)
    class Pretender(Tape):
        restorable: ClassVar[bool] = True

    with pytest.raises(GameError, match="steps one state twice"):
        check_game(Pretender())


# ---- broken games -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nothing:
    """No game at all."""


class Thawed(Walk):
    """Its settings can be changed."""


Thawed.__dataclass_params__ = SimpleNamespace(frozen=False)  # pyright: ignore[reportAttributeAccessIssue]


def changes_the_state(self, state, actions, rng):
    object.__setattr__(state, "place", state.place + 1)
    return Walk.at(self, min(state.place, 3))


def changes_the_actions(self, state, actions, rng):
    transition = Walk.step(self, state, actions, rng)
    actions.clear()
    return transition


def refuses_to_wait(self, state, actions, rng):
    if actions[0] == "wait":
        raise ValueError("nobody waits here")
    return Walk.step(self, state, actions, rng)


def uses_global_chance(self, state, actions, rng):
    return Walk.at(self, state.place + (random.random() < 0.5))


def starts_by_global_chance(self, rng):
    return Place(random.randrange(10**9))


def pays_every_walker(self, state, actions, rng):
    return dataclasses.replace(Walk.step(self, state, actions, rng), reward={0: 2.0})


def goes_too_often(self, state, actions, rng):
    return self.at(state.place + int(actions[0] == "go" and rng.random() < 0.8))


def jumps_rarely(self, state, actions, rng):
    luck = rng.random()
    return self.at(state.place + (2 if luck < 0.02 and state.place < 2 else int(actions[0] == "go" and luck < 0.5)))


def knows_only_waiting(self, state, actions):
    return [(1.0, self.at(state.place))]


def outcomes_of(*probabilities):
    def outcomes(self, state, actions):
        return [(p, self.at(min(state.place + number, 3))) for number, p in enumerate(probabilities)]

    return outcomes


COUNTER = itertools.count()


def counting():
    return next(COUNTER)


BROKEN = {
    "no dataclass": (SimpleNamespace(), "no frozen dataclass"),
    "not frozen": (Thawed(), "no frozen dataclass"),
    "methods missing": (Nothing(), "has no num_players"),
    "no players": (changed(num_players=0), "num_players 0"),
    "players as float": (changed(num_players=1.0), "num_players 1.0"),
    "reward range upside down": (changed(reward_range=(1.0, 0.0)), "reward_range"),
    "reward range without end": (changed(reward_range=(0.0, np.inf)), "reward_range"),
    "reward range one number": (changed(reward_range=1.0), "reward_range"),
    "restorable unclear": (changed(restorable="yes"), "restorable 'yes'"),
    "words are numbers": (changed(words=lambda self: [1, 2]), "words that are no strings"),
    "start by global chance": (changed(initial=starts_by_global_chance), "two different states from one seed"),
    "start not listed": (changed(initial_outcomes=lambda self: [(1.0, Place(7))]), "not among initial_outcomes"),
    "starts sum to 2": (changed(initial_outcomes=lambda self: [(1.0, Place(0)), (1.0, Place(1))]), "their sum is 1"),
    "nobody decides": (changed(players=lambda self, state: ()), r"lets \(\) decide"),
    "one decides twice": (changed(players=lambda self, state: (0, 0)), r"lets \(0, 0\) decide"),
    "a list decides": (changed(players=lambda self, state: [0]), r"lets \[0\] decide"),
    "a stranger decides": (changed(players=lambda self, state: (1,)), "seats are integers from 0 to 0"),
    "no legal action": (changed(legal=lambda self, state, player: (), heuristic=Missing()), "at least one action"),
    "legal is a text": (changed(legal=lambda self, state, player: "go"), "at least one action"),
    "legal is a set": (changed(legal=lambda self, state, player: {"go"}), "at least one action"),
    "blank in an action": (changed(legal=lambda self, state, player: ("go ",), heuristic=Missing()), "no blanks"),
    "empty action": (changed(legal=lambda self, state, player: ("",), heuristic=Missing()), "is not empty"),
    "two actions, one text": (changed(legal=lambda self, state, player: ("go", "1", 1)), "one text"),
    "unhashable action": (changed(legal=lambda self, state, player: ("go", ["x"])), "an action that is not hashable"),
    "legal actions change": (
        changed(legal=lambda self, state, player: ("go", f"wait {counting()}")),
        "other legal actions when it is asked again",
    ),
    "illegal heuristic": (changed(heuristic=lambda self, state, player: "fly"), "heuristic that plays 'fly'"),
    "legal action refused": (changed(step=refuses_to_wait), "fails in step: ValueError: nobody waits here"),
    "view fails": (changed(view=lambda self, state, player: state.nothing), "fails in view: AttributeError"),
    "step changes the state": (changed(step=changes_the_state), "changes the state that step was given"),
    "step changes the actions": (changed(step=changes_the_actions), "changes the actions that step was given"),
    "step by global chance": (changed(step=uses_global_chance, **NO_OUTCOMES), "steps one state twice"),
    "no transition": (changed(step=lambda self, state, actions, rng: (state, 0.0, False)), "returns tuple from step"),
    "reward above its range": (changed(step=pays_every_walker), r"outside its reward_range \(0.0, 1.0\)"),
    "reward not a number": (with_transition(reward={0: float("nan")}), "finite float"),
    "reward as int": (with_transition(reward={0: 1}), "finite float"),
    "reward as NumPy": (with_transition(reward={0: np.float64(1.0)}), "finite float"),
    "reward of nobody": (with_transition(reward={}), "one entry per player"),
    "reward of a stranger": (with_transition(reward={0: 0.0, 1: 0.0}), "one entry per player"),
    "reward without player": (with_transition(reward=0.0), "one entry per player"),
    "terminated as NumPy": (with_transition(terminated=np.bool_(False)), "returns terminated"),
    "success as int": (with_transition(success={0: 1}), "finite bool"),
    "success unannounced": (changed(has_success=False), "announce it with has_success"),
    "success untold": (with_transition(success=None), "ends without saying who succeeded"),
    "outcome infinite": (with_transition(outcome={0: float("inf")}), "finite float"),
    "part as int": (with_transition(parts={"goals": 1}), "reward part 'goals': 1"),
    "state after it unhashable": (with_transition(state=Place([1])), "a state that is not hashable"),
    "state unhashable": (starting_at([1, 2]), "a state that is not hashable"),
    "state with an object": (starting_at(object()), "a state with a object in it"),
    "view with a NumPy number": (with_view(Place(np.int64(4))), "a view with a int64 in it"),
    "view unhashable": (with_view({"place": 1}), "a view that is not hashable"),
    "view without end": (with_view((1.0, float("inf"))), "a view with inf in it"),
    "view changes": (changed(view=lambda self, state, player: counting()), "another view when it is asked again"),
    "outcomes sum to 0.9": (changed(outcomes=outcomes_of(0.5, 0.4)), "their sum is 1"),
    "negative probability": (changed(outcomes=outcomes_of(1.5, -0.5)), "none is negative"),
    "outcome missing": (changed(outcomes=knows_only_waiting), "not among the outcomes"),
    "rare outcome missing": (changed(step=jumps_rarely), "not among the outcomes"),
    "outcomes too rare": (changed(step=goes_too_often), "though outcomes gives it probability 0.5"),
}


@pytest.mark.parametrize(("game", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_game_is_caught(game, message):
    with pytest.raises(GameError, match=message):
        check_game(game, matches=40)


@dataclass(frozen=True)
class KeepsItsFirstStart(Walk):
    """Draws the start once and keeps it, as an environment does that draws its map in the constructor."""

    memory: list = field(default_factory=list, init=False, compare=False)
    initial_outcomes: ClassVar[Any] = Missing()

    def initial(self, rng):
        if not self.memory:
            self.memory.append(Walk.initial(self, rng))
        return self.memory[0]


@dataclass(frozen=True)
class PaysLessEachMatch(Walk):
    """Remembers how often it was started."""

    memory: list = field(default_factory=list, init=False, compare=False)

    outcomes: ClassVar[Any] = Missing()

    def initial(self, rng):
        self.memory.append(None)
        return Walk.initial(self, rng)

    def step(self, state, actions, rng):
        transition = Walk.step(self, state, actions, rng)
        return dataclasses.replace(transition, reward={0: 1.0 / len(self.memory)})


@dataclass(frozen=True)
class CountsItsInstances(Walk):
    """Every further instance is another game."""

    instances: ClassVar[Any] = itertools.count()

    def __post_init__(self):
        object.__setattr__(self, "number", next(self.instances))

    def view(self, state, player):
        return (state.place, self.number)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (PaysLessEachMatch, "differently after other matches"),
        (CountsItsInstances, "differently in a second instance"),
    ],
)
def test_memory_outside_the_state_is_caught(kind, message):
    with pytest.raises(GameError, match=rf"{message}.*seed 0; see it again with check_game\(game, matches=3, seed=0\)"):
        check_game(kind(), matches=3)


def test_a_start_that_is_drawn_once_is_caught():
    # Seeds 0 and on give start 0 or 1; the first instance keeps that of seed 0, so the first other one differs.
    starts = [Walk().initial(generator(seed, "check", "initial")).place for seed in range(10)]
    other = next(seed for seed, start in enumerate(starts) if start != starts[0])
    with pytest.raises(GameError, match=f"second instance.*seed {other};"):
        check_game(KeepsItsFirstStart(), matches=10)


@dataclass(frozen=True)
class Unlucky(Walk):
    """Pays too much in one match of ten."""

    def initial(self, rng):
        return Place(-int(rng.integers(10)))

    def initial_outcomes(self):
        return [(0.1, Place(-start)) for start in range(10)]

    def at(self, place):
        return Walk.at(self, place) if place > -9 else Transition(Place(place), {0: 5.0})


def test_the_message_names_the_smallest_seed_and_that_seed_shows_it():
    starts = [Unlucky().initial(generator(seed, "check", "initial")).place for seed in range(100)]
    smallest = starts.index(-9)
    assert smallest > 0
    with pytest.raises(GameError, match=rf"step 0, seed {smallest}; .*check_game\(game, matches=1, seed={smallest}\)"):
        check_game(Unlucky(), matches=100)
    with pytest.raises(GameError, match=r"player 0 with 5\.0"):
        check_game(Unlucky(), matches=1, seed=smallest)
    check_game(Unlucky(), matches=smallest, other_process=False)


def test_a_transcript_depends_on_the_seed_alone():
    assert transcript(Walk(), 3) == transcript(Walk(), 3)
    assert transcript(Walk(), 3) != transcript(Walk(), 4)
    assert len(transcript(Walk(), 3, max_steps=1)) == 2


def test_a_digest_covers_all_its_matches():
    digest = transcript_digest(Walk(), 0, matches=2)
    assert len(digest) == 32
    assert digest == transcript_digest(Walk(), 0, matches=2)
    assert digest != transcript_digest(Walk(), 0, matches=3)
    assert digest != transcript_digest(Walk(), 1, matches=2)
