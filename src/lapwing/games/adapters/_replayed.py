"""States for environments that remember by themselves: what was done since the seed, and live copies beside it.

An environment of another library is an object that changes. Here a state of it is plain data: the seed that it was
begun with, every move since with the seed of that move's chance, and the scene that this led to. Whoever steps a state
gets the environment that stands there: the very object, if nobody stepped it on, else a copy, else a new one that is
played there again from its seed. So a match that only goes forward costs one step of the environment a step.

An adapter writes one class of live environments with the two methods of `Live`, and hands its constructor to
`Replayer`, which gives `initial` and `step` as a game has them; views, players and legal actions are read from
`state.scene`.
"""

import copy
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from lapwing.core.errors import GameError, UserError, nearest
from lapwing.core.rng import generator
from lapwing.core.types import Action, Transition

# How a state is stepped again: from a deep copy, from the seed, or not at all.
MODES = ("copy", "replay", "never")
_SEEDS = 2**31
_PROBED = 24
# Environments that wait for another match.
_SPARE = 8


@dataclass(frozen=True, slots=True)
class Moved:
    """What one step of a live environment did.

    Attributes:
      scene: what there is to see now: hashable plain data, of which the adapter makes views and legal actions.
      reward: of each player.
      terminated: the match ended by its rules.
      success, outcome, parts: as in `Transition`.
      drew: whether the step may have drawn a random number; if not, equal moves give equal states.
    """

    scene: Any
    reward: Mapping[int, float]
    terminated: bool = False
    success: Mapping[int, bool] | None = None
    outcome: Mapping[int, float] | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    drew: bool = True


class Live(Protocol):
    """An environment in the middle of a match. Where `copy.deepcopy` works on it, states can be copied.

    One may have a method `follow(actions, chance)` that does what `advance` does and looks at nothing: the way back to
    a state is gone with it, but for the last step.
    """

    def begin(self, seed: int) -> Any:
        """Begin a match anew, with nothing left of an earlier one, and return the first scene."""
        ...

    def advance(self, actions: Mapping[int, Action], chance: int) -> Moved:
        """Step it; all that it draws comes from the seed `chance`."""
        ...


@dataclass(frozen=True)
class ReplayedState:
    """Where a match of an environment stands: how it came there, and what there is to see.

    Attributes:
      seed: the environment was begun with.
      moves: for each step its actions by player, and the seed of its chance, 0 where nothing was drawn.
      scene: what there is to see.
    """

    seed: int
    moves: tuple[tuple[tuple[tuple[int, Action], ...], int], ...]
    scene: Any

    def __hash__(self) -> int:
        # The moves determine the scene. A step asks for the hash several times, and moves may be many.
        found = self.__dict__.get("_hash")
        if found is None:
            found = self.__dict__["_hash"] = list(_hashes(self))[-1]
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Without the hash, which differs between processes, and without the environment."""
        return {"seed": self.seed, "moves": self.moves, "scene": self.scene}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def _hashes(state: ReplayedState) -> Iterator[int]:
    """The hashes of all states on the way to a state, its own the last."""
    found = hash(state.seed)
    yield found
    for move in state.moves:
        found = hash((found, move))
        yield found


class Replayer:
    """Starts and steps the states of one kind of environment, in one process."""

    def __init__(
        self, make: Callable[[], Live], *, mode: str = "copy", keep: int = 1024, begins_clean: bool = False
    ) -> None:
        """Know no environment yet.

        Args:
          make: gives a new environment.
          mode: one of `MODES`; `probed_mode` finds out which.
          keep: so many environments are kept, those that were used last.
          begins_clean: an environment that is done with can begin another match, as nothing is left of the first.

        Raises:
          UserError: there is no such mode.
        """
        if mode not in MODES:
            raise UserError(f"There is no way '{mode}' to restore a state; {nearest(mode, MODES)}")
        self.mode = mode
        self._make = make
        self._keep = keep
        self._begins_clean = begins_clean
        self._spare: list[Live] = []
        # By the hashes of states, which have 61 bits.
        self._live: OrderedDict[int, Live] = OrderedDict()
        # States that were asked for more than once are worth a copy of their own.
        self._copies: OrderedDict[int, Live] = OrderedDict()

    def initial(self, rng: np.random.Generator) -> ReplayedState:
        """Begin a match."""
        return self.begun(int(rng.integers(_SEEDS)))

    def begun(self, seed: int) -> ReplayedState:
        """Begin a match with this seed of the environment."""
        live = self._new()
        state = ReplayedState(seed, (), live.begin(seed))
        self._remember(state, live)
        return state

    def step(self, state: ReplayedState, actions: Mapping[int, Action], rng: np.random.Generator) -> Transition:
        """Step a state, which stays as it is.

        Raises:
          GameError: the environment cannot be restored and was stepped from here before, or it went another way now.
        """
        chance = int(rng.integers(1, _SEEDS))
        live = self._take(state)
        moved = live.advance(actions, chance)
        move = (tuple(sorted(actions.items())), chance if moved.drew else 0)
        after = ReplayedState(state.seed, (*state.moves, move), moved.scene)
        after.__dict__["_hash"] = hash((hash(state), move))
        if not moved.terminated:
            self._remember(after, live)
        else:
            self._put_by(live)
        return Transition(after, moved.reward, moved.terminated, moved.success, moved.outcome, moved.parts)

    def _remember(self, state: ReplayedState, live: Live) -> None:
        if self.mode == "never":
            # Equal states of two matches each have an environment of their own.
            state.__dict__["_live"] = live
        else:
            self._put_by(_put(self._live, state, live, self._keep))

    def _new(self) -> Live:
        return self._spare.pop() if self._spare else self._make()

    def _put_by(self, live: Live | None) -> None:
        if self._begins_clean and live is not None and len(self._spare) < _SPARE:
            self._spare.append(live)

    def _take(self, state: ReplayedState) -> Live:
        """The environment that stands at a state; it is the caller's now."""
        if self.mode == "never":
            live = state.__dict__.pop("_live", None)
            if live is None:
                raise GameError(
                    "A state of this environment was stepped twice, or by another process, but it cannot be restored."
                )
            return live
        live = self._live.pop(hash(state), None)
        if live is not None:
            return live
        if self.mode == "replay":
            return self._played_again(state)
        kept = self._copies.get(hash(state))
        if kept is None:
            live = self._played_again(state)
            _put(self._copies, state, copy.deepcopy(live), self._keep)
            return live
        self._copies.move_to_end(hash(state))
        return copy.deepcopy(kept)

    def _played_again(self, state: ReplayedState) -> Live:
        """An environment that is stepped to a state, from the last copy on the way there or from its seed."""
        hashes = list(_hashes(state))
        done = next((number for number in range(len(hashes) - 1, -1, -1) if hashes[number] in self._copies), None)
        if done is None or done == len(state.moves):
            live, done = self._new(), 0
            scene = live.begin(state.seed)
        else:
            live, scene = copy.deepcopy(self._copies[hashes[done]]), None
        follow = getattr(live, "follow", live.advance)
        for actions, chance in state.moves[done:-1]:
            follow(dict(actions), chance)
        for actions, chance in state.moves[max(done, len(state.moves) - 1) :]:
            scene = live.advance(dict(actions), chance).scene
        if scene != state.scene:
            raise GameError(
                "An environment went another way when it was played again with the same seeds and actions, so its "
                "states cannot be restored; set game.restore = 'never'."
            )
        return live


def _put(kept: OrderedDict[int, Live], state: ReplayedState, live: Live, most: int) -> Live | None:
    """The environment that made room, if one did."""
    kept[hash(state)] = live
    return kept.popitem(last=False)[1] if len(kept) > most else None


def probed_mode(make: Callable[[], Live], choose: Callable[[Any, np.random.Generator], Mapping[int, Action]]) -> str:
    """Play an environment a few times, to see how its states can be restored.

    Its steps have to be the same bits: in a second one with the same seeds, whatever the random generators are at that
    all code of a process shares, and from a deep copy that was made in the middle.

    Args:
      make: gives a new environment.
      choose: the actions of all who decide in a scene, drawn at random.

    Returns:
      "copy", "replay" or "never".
    """
    once, _ = _probe(make, choose, shared=1)
    again, _ = _probe(make, choose, shared=2)
    if once != again:
        return "never"
    middle = max(1, len(once) // 2)
    try:
        copied, rest = _probe(make, choose, shared=3, copy_at=middle)
    except Exception:
        return "replay"  # what cannot be copied raises whatever it likes
    return "copy" if copied == once and rest == once[middle:] else "replay"


def _probe(
    make: Callable[[], Live],
    choose: Callable[[Any, np.random.Generator], Mapping[int, Action]],
    *,
    shared: int,
    copy_at: int = 0,
) -> tuple[list[Any], list[Any]]:
    """What a match showed, and what a copy from its middle showed that was played on after it."""
    chosen: list[Mapping[int, Action]] = []
    seen: list[Any] = []
    twin: Live | None = None
    with _shared_generators(shared):
        live = make()
        scene = live.begin(1)
        seen.append(scene)
        while len(seen) < _PROBED:
            if len(seen) == copy_at:
                twin = copy.deepcopy(live)
            actions = choose(scene, generator("probe", len(seen)))
            chosen.append(actions)
            moved = live.advance(actions, len(seen))
            scene = moved.scene
            seen.append((scene, dict(moved.reward), moved.terminated))
            if moved.terminated:
                break
        if twin is None:
            return seen, []
        after = [(number, actions) for number, actions in enumerate(chosen, 1) if number >= copy_at]
        found = [twin.advance(actions, number) for number, actions in after]
    return seen, [(moved.scene, dict(moved.reward), moved.terminated) for moved in found]


@contextmanager
def _shared_generators(seed: int) -> Iterator[None]:
    """Put the random generators that all code of a process shares somewhere else, and back."""
    kept, kept_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(kept)
        np.random.set_state(kept_numpy)  # noqa: NPY002
