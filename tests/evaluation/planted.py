"""A sound game, and games that are broken on purpose, each in one way: `lapwing check-game planted:Name`."""

import contextlib
import dataclasses
import datetime
import itertools
import random
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from lapwing.core.types import Transition


@dataclass(frozen=True, slots=True)
class Place:
    """The rung, and how many steps were taken."""

    rung: int
    steps: int


@dataclass(frozen=True, slots=True)
class Seen:
    """The rung, and how many steps are left."""

    rung: Any
    left: int


@dataclass(frozen=True)
class Ladder:
    """Sound: reach the third rung within six steps; going up succeeds half of the time."""

    num_players: ClassVar[int] = 1
    reward_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = True
    null_ceiling: ClassVar[float] = 0.3

    def initial(self, rng):
        return Place(int(rng.random() < 0.25), 0)

    def initial_outcomes(self):
        return [(0.75, Place(0, 0)), (0.25, Place(1, 0))]

    def players(self, state):
        return (0,)

    def view(self, state, player):
        return Seen(state.rung, 6 - state.steps)

    def legal(self, state, player):
        return ("rest", "up")

    def step(self, state, actions, rng):
        return self.at(state, state.rung + int(actions[0] == "up" and rng.random() < 0.5))

    def outcomes(self, state, actions):
        if actions[0] == "rest":
            return [(1.0, self.at(state, state.rung))]
        return [(0.5, self.at(state, state.rung)), (0.5, self.at(state, state.rung + 1))]

    def heuristic(self, state, player):
        return "up"

    def at(self, state, rung):
        won = rung == 3
        ended = won or state.steps == 5
        return Transition(
            Place(rung, state.steps + 1), {0: float(won)}, terminated=ended, success={0: won} if ended else None
        )


class Missing:
    """Hides an inherited method."""

    def __get__(self, instance, owner):
        raise AttributeError


@dataclass(frozen=True)
class GlobalChance(Ladder):
    """Draws from the module random."""

    def step(self, state, actions, rng):
        return self.at(state, state.rung + int(actions[0] == "up" and random.random() < 0.5))


@dataclass(frozen=True)
class ChangesTheState(Ladder):
    """Counts the steps in the state that it was given."""

    def step(self, state, actions, rng):
        transition = Ladder.step(self, state, actions, rng)
        object.__setattr__(state, "steps", state.steps + 1)
        return transition


@dataclass(frozen=True)
class PaysTooMuch(Ladder):
    """Pays 2 to who reaches the goal with the last step."""

    def at(self, state, rung):
        transition = Ladder.at(self, state, rung)
        is_late = rung == 3 and state.steps == 5
        return dataclasses.replace(transition, reward={0: 2.0}) if is_late else transition


@dataclass(frozen=True, slots=True)
class Move:
    """An action whose text forgets how hard it is."""

    name: str
    force: int = 0

    def __str__(self):
        return self.name


@dataclass(frozen=True)
class TwoActionsOneText(Ladder):
    """Has a soft and a hard way up with the same text."""

    heuristic: ClassVar[Any] = Missing()
    outcomes: ClassVar[Any] = Missing()

    def legal(self, state, player):
        return (Move("rest"), Move("up", 1), Move("up", 2))

    def step(self, state, actions, rng):
        return self.at(state, state.rung + int(actions[0].force > 0 and rng.random() < 0.3 * actions[0].force))


@dataclass(frozen=True)
class TextInTwoCases(TwoActionsOneText):
    """Has two actions that differ in letter case only."""

    def legal(self, state, player):
        return (Move("rest"), Move("up", 1), Move("Up", 2))


@dataclass(frozen=True)
class RemembersMatches(Ladder):
    """Begins on rung 1 once it was played often."""

    initial_outcomes: ClassVar[Any] = Missing()
    _played: ClassVar[list[int]] = []

    def initial(self, rng):
        start = Ladder.initial(self, rng)
        self._played.append(start.rung)
        return start


_keep = [].append


@dataclass(frozen=True)
class KeepsEverything(Ladder):
    """Keeps every state where nobody looks."""

    def at(self, state, rung):
        transition = Ladder.at(self, state, rung)
        _keep(transition.state)
        return transition


@dataclass(frozen=True)
class OrderOfASet(Ladder):
    """Lists its actions in the order of a set, which differs from process to process."""

    null_ceiling: ClassVar[float] = 1.0
    outcomes: ClassVar[Any] = Missing()

    def legal(self, state, player):
        return tuple({"rest", "sit", "wait", "up", "climb", "rise"})

    def step(self, state, actions, rng):
        return self.at(state, state.rung + int(actions[0] in ("up", "climb", "rise") and rng.random() < 0.5))


@dataclass(frozen=True)
class SlowOnTheSecondRung(Ladder):
    """Thinks for long before its last step from the second rung."""

    def step(self, state, actions, rng):
        if state.rung == 2 and state.steps == 5:
            time.sleep(0.03)
        return Ladder.step(self, state, actions, rng)


@dataclass(frozen=True)
class NeverReturns(Ladder):
    """Waits for ever in its last step from the second rung, and lets no exception end that."""

    def step(self, state, actions, rng):
        while state.rung == 2 and state.steps == 5:
            with contextlib.suppress(Exception):
                time.sleep(0.01)
        return Ladder.step(self, state, actions, rng)


@dataclass(frozen=True)
class EndlessView(Ladder):
    """Computes for ever what is seen at the start, for one seed in four."""

    def view(self, state, player):
        while state == Place(1, 0):
            pass
        return Ladder.view(self, state, player)


@dataclass(frozen=True)
class EndlessOutcomes(Ladder):
    """Lists its outcomes for ever; nobody who plays asks for them."""

    def outcomes(self, state, actions):
        while state.rung == 1:
            pass
        return Ladder.outcomes(self, state, actions)


@dataclass(frozen=True)
class EndlessSplit(Ladder):
    """Looks for ever for the starts of a split; no check of its rules asks for them, but null agents do."""

    def for_split(self, split):
        while True:
            pass


@dataclass(frozen=True)
class PaysForTalk(Ladder):
    """Pays a third for every other step that is a way up, wherever it leads."""

    def step(self, state, actions, rng):
        return self.paid(Ladder.step(self, state, actions, rng), state, actions)

    def outcomes(self, state, actions):
        return [(p, self.paid(one, state, actions)) for p, one in Ladder.outcomes(self, state, actions)]

    def paid(self, transition, state, actions):
        talks = (state.steps % 2 == 1) == (actions[0] == "up")
        return dataclasses.replace(transition, reward={0: min(1.0, transition.reward[0] + 0.2 * talks)})


@dataclass(frozen=True)
class WrongProbabilities(Ladder):
    """Goes up more often than it says."""

    def step(self, state, actions, rng):
        return self.at(state, state.rung + int(actions[0] == "up" and rng.random() < 0.75))


@dataclass(frozen=True)
class ViewThatChanges(Ladder):
    """Counts how often it was looked at."""

    _looks: ClassVar[Any] = itertools.count()

    def view(self, state, player):
        return Seen(state.rung, next(self._looks))


@dataclass(frozen=True)
class ViewWithTheState(Ladder):
    """Hands out the state inside the view."""

    def view(self, state, player):
        return Seen(state, 6 - state.steps)


@dataclass(frozen=True)
class SilentEnd(Ladder):
    """Says who succeeded only where somebody did."""

    def at(self, state, rung):
        return dataclasses.replace(Ladder.at(self, state, rung), success={0: True} if rung == 3 else None)


@dataclass(frozen=True)
class ViewWithAList(Ladder):
    """Shows a list."""

    def view(self, state, player):
        return Seen([state.rung], 6 - state.steps)


@dataclass(frozen=True)
class RefusesToRest(Ladder):
    """Fails on a legal action on the second rung."""

    def step(self, state, actions, rng):
        if state.rung == 2 and actions[0] == "rest":
            raise ValueError("nobody rests here")
        return Ladder.step(self, state, actions, rng)


class NotFrozen(Ladder):
    """Has settings that can be changed."""

    __dataclass_params__ = None


@dataclass(frozen=True)
class BrokenTwice(PaysTooMuch):
    """Pays too much, and shows its state."""

    def view(self, state, player):
        return Seen(state, 6 - state.steps)


@dataclass(frozen=True)
class SeedsTheOthers(Ladder):
    """Seeds the module random with its own number, and draws from it: the same match, and everybody else's chance."""

    def step(self, state, actions, rng):
        random.seed(int(rng.integers(1000)))
        return self.at(state, state.rung + int(actions[0] == "up" and random.random() < 0.5))


@dataclass(frozen=True)
class GoesHome(Ladder):
    """Ends the whole process on the second rung."""

    def step(self, state, actions, rng):
        if state.rung == 2:
            raise SystemExit(0)
        return Ladder.step(self, state, actions, rng)


@dataclass(frozen=True)
class SleepsOnWednesdays(Ladder):
    """Goes by the date: every second day nobody gets up."""

    outcomes: ClassVar[Any] = Missing()

    def step(self, state, actions, rng):
        awake = datetime.date.today().toordinal() % 2
        return self.at(state, state.rung + int(actions[0] == "up" and awake and rng.random() < 0.5))


@dataclass(frozen=True)
class WrongStarts(Ladder):
    """Lists its two starts as equally likely."""

    def initial_outcomes(self):
        return [(0.5, Place(0, 0)), (0.5, Place(1, 0))]


@dataclass(frozen=True)
class WrongOnTheLastStep(Ladder):
    """Goes up more often than it says, with the last step alone."""

    def step(self, state, actions, rng):
        chance = 0.9 if state.steps == 5 else 0.5
        return self.at(state, state.rung + int(actions[0] == "up" and rng.random() < chance))


@dataclass(frozen=True)
class EarlyPraise(Ladder):
    """Says at once that somebody succeeded."""

    def at(self, state, rung):
        transition = Ladder.at(self, state, rung)
        return transition if transition.terminated else dataclasses.replace(transition, success={0: True})


@dataclass(frozen=True)
class FirstCome(Ladder):
    """Two decide at once, and who is listed first has his way."""

    num_players: ClassVar[int] = 2
    null_ceiling: ClassVar[float] = 1.0
    outcomes: ClassVar[Any] = Missing()
    heuristic: ClassVar[Any] = Missing()

    def players(self, state):
        return (0, 1)

    def step(self, state, actions, rng):
        return self.at(state, state.rung + int(next(iter(actions.values())) == "up" and rng.random() < 0.5))

    def at(self, state, rung):
        one = Ladder.at(self, state, rung)
        success = None if one.success is None else {0: one.success[0], 1: one.success[0]}
        return dataclasses.replace(one, reward={0: one.reward[0], 1: one.reward[0]}, success=success)


@dataclass(frozen=True)
class UpsideDown(Ladder):
    """Keeps every promise, prints, never ends or tells success the wrong way round: what is worth a note."""

    never: bool = False

    def at(self, state, rung):
        print("going", rung)  # noqa: T201
        one = Ladder.at(self, state, rung)
        if self.never:
            return Transition(Place(min(rung, 2), 0), {0: 0.0}, terminated=False)
        return dataclasses.replace(one, success={0: not one.success[0]}) if one.terminated else one
