"""The nine protocols that the rooms of Lapwing meet at."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from lapwing.core.rollout import Rollout
from lapwing.core.types import (
    Action,
    Ask,
    Completion,
    Decision,
    Group,
    Match,
    Memory,
    Prompt,
    Request,
    State,
    Transition,
    View,
)


@runtime_checkable
class Game(Protocol):
    """Rules as functions of state: a frozen dataclass of settings, with no text and no hidden memory.

    `State` and `View` are hashable and serialisable; an action is a string, or frozen with `str()` as its
    canonical text. All chance comes from the `rng` argument. Optional methods: `initial_outcomes()` and
    `outcomes(state, actions)` enumerate chance exactly; `heuristic(state, player)` is a simple strategy;
    `words()` lists the vocabulary of the views; `for_split(split)` restricts the starts to one split.
    """

    @property
    def num_players(self) -> int:
        """How many seats the game has."""
        ...

    @property
    def reward_range(self) -> tuple[float, float]:
        """Lowest and highest reward of one step."""
        ...

    @property
    def restorable(self) -> bool:
        """Whether a state can be stepped again from the middle of a match."""
        ...

    def initial(self, rng: np.random.Generator) -> State:
        """Draw an initial state."""
        ...

    def players(self, state: State) -> tuple[int, ...]:
        """Who decides now; several players decide at once."""
        ...

    def view(self, state: State, player: int) -> View:
        """What the player may know."""
        ...

    def legal(self, state: State, player: int) -> Sequence[Action] | None:
        """The legal actions in their canonical order, or None where actions are open-ended."""
        ...

    def step(self, state: State, actions: Mapping[int, Action], rng: np.random.Generator) -> Transition:
        """Play one step; the argument `state` is left as it is."""
        ...


class Policy(Protocol):
    """Decides; driven in batches."""

    version: int

    def act_many(self, asks: Sequence[Ask]) -> list[tuple[Decision, Memory]]:
        """Decide every ask; the order of the answers is the order of the asks."""
        ...


class Generator(Protocol):
    """Samples replies."""

    max_tokens: int

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One reply for each request, in order."""
        ...

    def prefetch(self, prompts: Sequence[Prompt]) -> None:
        """The prompts may be asked for soon; a hint that changes no result."""
        ...


class Sampler(Protocol):
    """Draws the matches of an iteration and reviews each finished group."""

    def draw(self, iteration: int) -> list[Match]:
        """The matches to play in this iteration."""
        ...

    def review(self, group: Group) -> bool:
        """Whether the finished group is accepted for training."""
        ...

    def columns(self, rollout: Rollout, collect: Callable[[Sequence[Match]], Rollout]) -> dict[str, np.ndarray]:
        """Columns that need further matches, which `collect` plays; most samplers have none."""
        ...

    def state(self) -> dict[str, Any]:
        """What must be saved for an exact resume, as JSON."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        ...


class Collector(Protocol):
    """Plays matches with a policy."""

    def collect(self, matches: Sequence[Match]) -> Rollout:
        """Play all matches to their end; episodes come in the order of the matches."""
        ...


class Annotator(Protocol):
    """Adds columns to a batch."""

    def columns(self, batch: Any) -> dict[str, np.ndarray]:
        """The new columns by name."""
        ...


@runtime_checkable
class Critic(Annotator, Protocol):
    """An annotator that learns beside the policy."""

    @property
    def ready(self) -> bool:
        """Whether the policy may learn from its columns; until then the critic learns alone."""
        ...

    def learn(self, batch: Any, advantage: np.ndarray) -> dict[str, float]:
        """Learn from what was played and from the advantage as the credit gave it; metrics by name."""
        ...

    def state(self) -> dict[str, Any]:
        """What must be saved for an exact resume, as tensors by name."""
        ...

    def restore(self, tensors: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        ...
