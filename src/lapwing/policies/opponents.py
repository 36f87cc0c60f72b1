"""Opponents whose action distribution is known exactly."""

from collections.abc import Mapping, Sequence
from typing import Any

from lapwing.core.errors import UserError
from lapwing.core.protocols import Policy
from lapwing.core.types import Action, State
from lapwing.policies.baselines import Heuristic, Random, Scripted
from lapwing.tabular.enumerate import Opponent


def exact_opponents(opponents: Mapping[int, Policy]) -> dict[int, Opponent]:
    """The action distribution of each opponent as a function of the state.

    Args:
      opponents: policies by seat: random, heuristic, or scripted with whole numbers as its only chance.

    Raises:
      UserError: the distribution of one of them is not known exactly.
    """
    return {seat: _exact(policy, seat) for seat, policy in opponents.items()}


def _exact(policy: Policy, seat: int) -> Opponent:
    if isinstance(policy, Random):
        return _uniform
    if isinstance(policy, Heuristic):
        return lambda game, state, player: [(1.0, game.heuristic(state, player))]
    if isinstance(policy, Scripted):
        return _scripted
    raise UserError(
        f"The opponent in seat {seat} is a {type(policy).__name__}, whose action distribution is not known exactly; "
        "choose random, heuristic or scripted."
    )


def _uniform(game: Any, state: State, player: int) -> Sequence[tuple[float, Action]]:
    legal = game.legal(state, player)
    if not legal:
        raise UserError(
            f"{type(game).__name__} lists no legal actions for seat {player}; a random opponent needs them."
        )
    return [(1.0 / len(legal), action) for action in legal]


def _scripted(game: Any, state: State, player: int) -> Sequence[tuple[float, Action]]:
    """Ask the script once for every sequence of numbers that it may draw."""
    found: list[tuple[float, Action]] = []
    pending: list[tuple[int, ...]] = [()]
    while pending:
        drawn = _Drawn(pending.pop(), type(game).__name__)
        action = game.scripted(state, player, drawn)
        if drawn.next_bound:
            pending += [(*drawn.numbers, number) for number in range(drawn.next_bound)]
        else:
            found.append((drawn.probability, action))
    return found


class _Drawn:
    """Stands in for a generator: gives the numbers that it was told to, and notes how many the next one has."""

    def __init__(self, numbers: tuple[int, ...], game: str) -> None:
        self.numbers = numbers
        self.next_bound = 0
        self.probability = 1.0
        self._game = game
        self._used = 0

    def integers(self, low: int, high: int | None = None) -> int:
        low, bound = (0, int(low)) if high is None else (int(low), int(high - low))
        if self._used == len(self.numbers):
            self.next_bound = self.next_bound or bound
            return low
        self._used += 1
        self.probability /= bound
        return low + self.numbers[self._used - 1]

    def __getattr__(self, name: str) -> Any:
        raise UserError(
            f"The scripted opponent of {self._game} draws with '{name}', so that its action distribution is not known "
            "exactly; choose random or heuristic."
        )
