"""The eleven protocols that the rooms of Lapwing meet at."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
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
    Verdict,
    View,
)


@runtime_checkable
class Game(Protocol):
    """Rules as functions of state: a frozen dataclass of settings, with no text and no hidden memory.

    `State` and `View` are hashable and serialisable; an action is a string, or frozen with `str()` as its
    canonical text. All chance comes from the `rng` argument. Optional methods: `initial_outcomes()` and
    `outcomes(state, actions)` enumerate chance exactly; `heuristic(state, player)` is a simple strategy;
    `is_out(view)` says of a player that it never decides again, though others do; `words()` lists the vocabulary of the
    views; `for_split(split)` restricts the starts to one split;
    `best_known`, a `BestKnown`, is the best mean return that is known where the optimum cannot be computed;
    `null_ceiling`, a float, is the mean return in at most 100 steps that nobody exceeds who never looks at the view:
    no-op, random, echo and spam (`lapwing.policies.null_agents`); with several players in seat 0 against random play.
    Either may be None for settings of which it is not known.
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
    """Draws the matches of an iteration and reviews each finished group.

    Optional: `metrics()` gives numbers for the log, of the iteration that was drawn last; with it the counts of the
    review are logged as well. `adaptive` says whether what is drawn depends on reviews; without it, it may.
    """

    def draw(self, iteration: int) -> list[Match]:
        """The matches to play in this iteration."""
        ...

    def review(self, group: Group) -> Verdict:
        """Whether the finished group is accepted for training, and what is to be played besides.

        The groups that it asks for are reviewed in their turn; a sampler bounds how often it asks.
        """
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
    """Plays matches with a policy.

    Optional: `take_faults()` gives what went wrong, `waiting_for()` says what is being waited for, `metrics` are
    counts for the log, and `close()` ends what runs elsewhere.
    """

    @property
    def ledger(self) -> Any:
        """What became of every match, as `lapwing.rollout.ledger` counts it."""
        ...

    def collect(self, matches: Sequence[Match]) -> Rollout:
        """Play all matches to their end; episodes come in the order of the matches."""
        ...


@runtime_checkable
class RemoteCollector(Collector, Protocol):
    """A collector that plays elsewhere, with copies of the learner's model."""

    @property
    def ahead(self) -> int:
        """How many iterations it plays while the learner updates, 0 or 1."""
        ...

    @property
    def metrics(self) -> dict[str, float]:
        """Its counts by name, for the log."""
        ...

    def publish(self, version: int) -> None:
        """The learner's weights changed in place to this version."""
        ...

    def begin(self, matches: Sequence[Match]) -> None:
        """Play these with the weights of now; `collect` asks for them later, by the very same list."""
        ...

    def close(self) -> None:
        """End everything that runs elsewhere; a later call begins anew."""
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


class Learner(Protocol):
    """Turns batches with advantages and weights into new weights of what plays.

    Attributes:
      version: of the weights; it grows with every update.
      fault: why the last update was left out; empty where it was not.
      safe_point: is called before every micro-batch, and may raise: the update is given up.
    """

    version: int
    fault: str
    safe_point: Callable[[], None]

    @property
    def scorer(self) -> Any:
        """What scores replies; its `batch_tokens` may shrink where memory runs out."""
        ...

    def update(
        self,
        batch: Any,
        advantage: np.ndarray,
        weight: np.ndarray,
        *,
        progress: float = 0.0,
        given: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, float]:
        """Learn from a batch, with an advantage and a weight for each token; metrics by name."""
        ...

    def finish(self) -> None:
        """End a stage."""
        ...

    def state(self) -> dict[str, Any]:
        """What must be saved for an exact resume, as tensors by name; `version` is saved beside it."""
        ...

    def restore(self, tensors: Mapping[str, Any], version: int) -> None:
        """Take back what `state` returned."""
        ...


class Ranks(Protocol):
    """Several processes that hold the same batch and make one update together, each from its share of the pairs.

    Every rank makes the same calls in the same order. What is summed has the same shape on each.
    """

    def share(self, count: int) -> slice | np.ndarray:
        """Which of 0 … count − 1 this process scores; the shares of all ranks part them without overlap."""
        ...

    def sum_gradients(self, parameters: Sequence[Any]) -> None:
        """Replace `grad` of each parameter by its sum over the ranks; None counts as zeros on a rank without pairs."""
        ...

    def sum(self, numbers: np.ndarray) -> np.ndarray:
        """The sum over the ranks, float64, the same bits on each."""
        ...


class Coordinator(Protocol):
    """How a session acts where several processes run it; every one makes the same calls in the same order."""

    @property
    def writes(self) -> bool:
        """Whether this process writes the files of the run; exactly one does."""
        ...

    def agreed(self, answer: Any, what: str) -> Any:
        """The answer of the process that writes, on every process; `what` is asked, for error messages."""
        ...

    def largest(self, number: int, what: str) -> int:
        """The largest of the processes' numbers."""
        ...

    def save(
        self,
        target: Path,
        *,
        model: Any,
        tokenizer: Any,
        max_tokens: int,
        tensors: dict[str, Any],
        state: dict[str, Any],
        others: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a checkpoint; it is whole when this returns."""
        ...

    def load(self, checkpoint: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """The tensors and the rest of the state of a checkpoint."""
        ...
