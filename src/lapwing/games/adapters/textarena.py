"""TextArena: text games of one and several players as games."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np

from lapwing.core.errors import UserError, nearest, shortened
from lapwing.core.storage import canonical_json
from lapwing.core.types import BestKnown, Transition
from lapwing.games.adapters._replayed import Moved, ReplayedState, Replayer, _shared_generators

_INSTALL = 'pip install "lapwing[textarena]"'


@dataclass(frozen=True, slots=True)
class Scene:
    """Who is asked, and every message that each seat was sent, with its own replies among them."""

    mover: int
    messages: tuple[tuple[str, ...], ...]
    # Of each seat, how many messages there were when it was last asked.
    read: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TextarenaView:
    """What a seat was told."""

    text: str


@dataclass(frozen=True)
class Textarena:
    """Play a game of TextArena: seats are asked in turn and answer in any words.

    | action | meaning |
    | --- | --- |
    | any text | a reply; most games look for a move in brackets, such as [4], and say so |

    View: all messages to this seat since the start, its own replies among them; with `show = "new"` those since it was
    last asked, for contexts that remember the others.

    Start: the environment's reset with a drawn seed. What it draws later comes from a seed for each step. A reply that
    the environment cannot read is its affair: most allow one, and the second loses. Where a reply makes the
    environment itself fail, the match ends and nobody is paid (part `failed`).

    Reward: what the environment pays at the end, 0 before. Success is a reward above 0 where several play, and of 1
    where one does.

    Reference: Guertler et al. 2025, "TextArena". https://arxiv.org/abs/2504.11442

    Attributes:
      env: an id of TextArena, such as "GuessTheNumber-v0"; its wrappers play no part.
      players_count: how many seats.
      settings: keyword arguments of the environment.
      show: "all" or "new".
      rewards: lowest and highest reward.
    """

    env: str = "GuessTheNumber-v0"
    players_count: int = 1
    settings: dict[str, Any] | None = field(default=None, compare=False)
    show: Literal["all", "new"] = "all"
    rewards: tuple[float, float] = (-1.0, 1.0)

    _key: str = field(init=False, repr=False, default="")

    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.players_count < 1:
            raise UserError(f"game.players_count is a number of seats of at least 1, not {self.players_count}.")
        if self.show not in ("all", "new"):
            raise UserError(f"game.show is 'all' or 'new', not '{self.show}'.")
        object.__setattr__(self, "_key", canonical_json(self.settings or {}))

    @property
    def num_players(self) -> int:
        """As many as are set."""
        return self.players_count

    @property
    def reward_range(self) -> tuple[float, float]:
        """As it is set."""
        return float(self.rewards[0]), float(self.rewards[1])

    @property
    def best_known(self) -> BestKnown:
        """The most that it pays."""
        return BestKnown(self.reward_range[1], "the highest reward that is set; nobody can get more")

    @property
    def null_ceiling(self) -> float | None:
        """Above the 0.63 (20 matches) of who names all that it read; of the default environment alone."""
        return 0.75 if self.env == "GuessTheNumber-v0" and not self.settings else None

    def initial(self, rng: np.random.Generator) -> ReplayedState:
        """Reset the environment."""
        return _replayer(self).initial(rng)

    def players(self, state: ReplayedState) -> tuple[int, ...]:
        """Who is asked."""
        return (state.scene.mover,)

    def view(self, state: ReplayedState, player: int) -> TextarenaView:
        """The messages to a seat."""
        first = state.scene.read[player] if self.show == "new" else 0
        return TextarenaView("\n".join(state.scene.messages[player][first:]))

    def legal(self, state: ReplayedState, player: int) -> None:
        """Any text is a reply."""
        return

    def malformed(self, reason: str) -> str:
        """An unreadable reply is an empty one, which the environment judges."""
        return ""

    def step(self, state: ReplayedState, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Reply."""
        return _replayer(self).step(state, actions, rng)


class _Talk:
    """An environment in the middle of a match."""

    def __init__(self, game: Textarena) -> None:
        self.game = game
        self.env: Any = None
        self.read = [0] * game.num_players

    def begin(self, seed: int) -> Scene:
        """Reset a new environment; everything that it draws comes from the seed."""
        with _shared_generators(seed):
            self.env = _made(self.game)
            try:
                self.env.reset(num_players=self.game.num_players, seed=seed)
            except AssertionError as error:
                players = self.game.num_players
                raise UserError(f"{self.game.env} is not for {players} players: {error}; set players_count.") from error
        self.read = [0] * self.game.num_players
        return self._scene()

    def advance(self, actions: Mapping[int, str], chance: int) -> Moved:
        """Let the seat that is asked reply."""
        seats = range(self.game.num_players)
        mover = self.env.state.current_player_id
        self.read[mover] = len(self.env.state.observations[mover])
        failed = False
        with _shared_generators(chance):
            before = random.getstate(), str(np.random.get_state())  # noqa: NPY002
            try:
                done, _ = self.env.step(action=actions[mover])
            except Exception:  # a reply that its author did not think of
                done = failed = True
            drew = before != (random.getstate(), str(np.random.get_state()))  # noqa: NPY002
        if not done:
            return Moved(self._scene(), dict.fromkeys(seats, 0.0), drew=drew)
        found = {} if failed else self.env.state.rewards or {}
        paid = {seat: float(found.get(seat, 0.0)) for seat in seats}
        won = {seat: paid[seat] > 0.0 if len(seats) > 1 else paid[seat] >= 1.0 for seat in seats}
        return Moved(self._scene(), paid, True, won, parts={"failed": float(failed)}, drew=drew)

    def _scene(self) -> Scene:
        state = self.env.state
        names = state.role_mapping
        messages = []
        for seat in range(self.game.num_players):
            said = [(who, text) for who, text, _ in state.observations[seat]]
            messages.append(tuple(f"[{names.get(who, f'Player {who}')}] {text}".strip() for who, text in said))
        return Scene(int(state.current_player_id), tuple(messages), tuple(self.read))


def _made(game: Textarena) -> Any:
    textarena = _package()
    known = textarena.envs.registration.ENV_REGISTRY
    name = f"{game.env.removesuffix('-raw')}-raw"
    if name not in known:
        bare = [other for other in known if other.count("-") == 1]
        raise UserError(f"TextArena has no environment '{game.env}'; {nearest(game.env, bare)}")
    try:
        return textarena.make(name, **(game.settings or {}))
    except (TypeError, AssertionError, ValueError) as error:
        raise UserError(f"{game.env} refuses its settings {game.settings}: {error}.") from error
    except (ImportError, LookupError, OSError) as error:
        said = shortened(" ".join(str(error).replace("*", " ").split()), 200)
        raise UserError(f"{game.env} needs something that is not there: {said}") from error


@lru_cache(maxsize=64)
def _replayer(game: Textarena) -> Replayer:
    return Replayer(lambda: _Talk(game), mode="replay", keep=256)


@lru_cache(maxsize=1)
def _package() -> Any:
    try:
        import textarena
    except ImportError as error:
        raise UserError(f"The game textarena needs a package that is not installed: {_INSTALL}.") from error
    return textarena
