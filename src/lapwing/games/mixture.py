"""Several games in one run: each match is one of them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lapwing.core import registry
from lapwing.core.errors import UserError, shown
from lapwing.core.types import Action, State, Transition, View
from lapwing.games.game import for_split, outcomes

_DEFAULT = ({"name": "chain", "length": 4}, {"name": "bandit"})


@dataclass(frozen=True, slots=True)
class MixtureState:
    """Which game is played, its state, and whether nothing was decided yet."""

    number: int
    state: State
    is_first: bool = False


@dataclass(frozen=True)
class Mixture:
    """Play one of several games, drawn anew for each start; the player sees that game's view and nothing of the draw.

    | action | meaning |
    | --- | --- |
    | … | those of the game that is played |

    View: that of the game that is played.

    Start: a game by its weight, and one of its starts. All episodes of a group play the same game, so that what is
    compared within a group is of one game. Reward: that of the game that is played. What is compared over the whole
    batch (as `lite_ppo` and `whiten` over the batch do) mixes the games' scales.

    Per game the parts `<name>.played`, `<name>.return` and `<name>.won` are told: their means over all episodes are
    its share, its share times its return, and its share times its success. A game named twice is told as `<name>-2`.

    Reference: none; a way to play several games in one run.

    Attributes:
      games: tables of a game's name and settings, and of its `weight` (1 if left out); 2 to 16 of them, each with one
        player.
      split: "all", "train", "development" or "test"; set by the engine.
    """

    games: tuple[dict[str, Any], ...] = field(default=_DEFAULT, compare=False)
    split: str = "all"
    members: tuple[Any, ...] = field(init=False, repr=False)
    weights: tuple[float, ...] = field(init=False, repr=False)
    labels: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 2 <= len(self.games) <= 16:
            raise UserError(f"A mixture has 2 to 16 games, not {len(self.games)}; set game.games.")
        weights = tuple(_weight(entry) for entry in self.games)
        members = tuple(for_split(_made(entry), self.split) for entry in self.games)
        names = [str(entry["name"]) for entry in self.games]
        labels = [n if names[:i].count(n) == 0 else f"{n}-{names[:i].count(n) + 1}" for i, n in enumerate(names)]
        for name, value in (("members", members), ("labels", tuple(labels))):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "weights", tuple(weight / sum(weights) for weight in weights))

    @property
    def num_players(self) -> int:
        """Always one."""
        return 1

    @property
    def reward_range(self) -> tuple[float, float]:
        """The lowest and the highest of any game."""
        return min(g.reward_range[0] for g in self.members), max(g.reward_range[1] for g in self.members)

    @property
    def restorable(self) -> bool:
        """Whether every game's states can be stepped again."""
        return all(game.restorable for game in self.members)

    @property
    def has_success(self) -> bool:
        """Whether every game knows success."""
        return all(getattr(game, "has_success", False) for game in self.members)

    @property
    def null_ceiling(self) -> float | None:
        """The mean of the games' own, by their weights; None where one has none."""
        found = [getattr(game, "null_ceiling", None) for game in self.members]
        known = [weight * ceiling for weight, ceiling in zip(self.weights, found, strict=True) if ceiling is not None]
        return sum(known) if len(known) == len(found) else None

    def for_split(self, split: str) -> "Mixture":
        """Every game restricted to one split."""
        return dataclasses.replace(self, split=split)

    def initial(self, rng: np.random.Generator) -> MixtureState:
        """Draw a game, and one of its starts."""
        number = int(rng.choice(len(self.members), p=self.weights))
        return MixtureState(number, self.members[number].initial(rng), is_first=True)

    def initial_of_each(self, rng: np.random.Generator) -> list[MixtureState]:
        """A start of every game, for those who ask what may be seen and said."""
        return [MixtureState(i, game.initial(rng), is_first=True) for i, game in enumerate(self.members)]

    def players(self, state: MixtureState) -> tuple[int, ...]:
        """Always the one player."""
        return self.members[state.number].players(state.state)

    def view(self, state: MixtureState, player: int) -> View:
        """That of the game that is played."""
        return self.members[state.number].view(state.state, player)

    def legal(self, state: MixtureState, player: int) -> Sequence[Action] | None:
        """Those of the game that is played."""
        return self.members[state.number].legal(state.state, player)

    def step(self, state: MixtureState, actions: Mapping[int, Action], rng: np.random.Generator) -> Transition:
        """A step of the game that is played."""
        return self._told(state, self.members[state.number].step(state.state, actions, rng))

    def words(self) -> list[str]:
        """What the views and replies of any game may hold besides what its starts show."""
        return sorted({word for game in self.members for word in getattr(game, "words", list)()})

    def __getattr__(self, name: str) -> Any:
        """What every game has, the mixture has: exact outcomes, and a heuristic."""
        if name.startswith("_") or name not in ("outcomes", "initial_outcomes", "heuristic"):
            raise AttributeError(name)
        if not all(callable(getattr(game, name, None)) for game in self.members):
            raise AttributeError(name)
        return {"outcomes": self._outcomes, "initial_outcomes": self._starts, "heuristic": self._heuristic}[name]

    def _outcomes(self, state: MixtureState, actions: Mapping[int, Action]) -> list[tuple[float, Transition]]:
        return [(p, self._told(state, t)) for p, t in outcomes(self.members[state.number], state.state, actions)]

    def _starts(self) -> list[tuple[float, MixtureState]]:
        return [
            (weight * p, MixtureState(number, state, is_first=True))
            for number, (weight, game) in enumerate(zip(self.weights, self.members, strict=True))
            for p, state in game.initial_outcomes()
        ]

    def _heuristic(self, state: MixtureState, player: int) -> Action:
        return self.members[state.number].heuristic(state.state, player)

    def _told(self, state: MixtureState, transition: Transition) -> Transition:
        label = self.labels[state.number]
        outcome = 0.0 if transition.outcome is None else transition.outcome[0]
        parts = {f"{label}.return": transition.reward[0] + outcome, **transition.parts}
        if state.is_first:
            parts[f"{label}.played"] = 1.0
        if transition.success is not None:
            parts[f"{label}.won"] = float(transition.success[0])
        return dataclasses.replace(transition, state=MixtureState(state.number, transition.state), parts=parts)


def _weight(entry: Mapping[str, Any]) -> float:
    weight = entry.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0.0 < weight < math.inf:
        raise UserError(f"The weight of a game is a number above 0; found {shown(weight)} in game.games.")
    return float(weight)


def _made(entry: Mapping[str, Any]) -> Any:
    """The game that a table names.

    Raises:
      UserError: there is none, its settings are wrong, or several players play it.
    """
    settings = {key: value for key, value in entry.items() if key not in ("name", "weight")}
    if not isinstance(entry.get("name"), str):
        raise UserError("Each of game.games needs a name, as in { name = 'chain', weight = 2.0 }.")
    make = registry.resolve("games", entry["name"])
    try:
        game = make(**settings)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"game.games: {entry['name']} does not take these settings: {error}.") from None
    if game.num_players != 1:
        raise UserError(f"A mixture is of games for one player, and {entry['name']} has {game.num_players}.")
    return game
