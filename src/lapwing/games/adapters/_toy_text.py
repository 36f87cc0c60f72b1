"""Transition tables of Gymnasium's toy-text environments, read from the environments themselves."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np

from lapwing.core.rng import generator
from lapwing.games.adapters._gymnasium_package import module_of
from lapwing.games.adapters._spaces import plain

# Matches and steps in which a table is held against its environment.
_MATCHES, _STEPS = 8, 60


class Row(NamedTuple):
    """What may come of an action: its probability, the state after it, the reward, and whether that is the end."""

    probability: float
    state: Any
    reward: float
    terminated: bool


class ToyTable(Protocol):
    """All that can happen in an environment."""

    def starts(self) -> list[tuple[float, Any]]:
        """Where matches begin."""
        ...

    def rows(self, state: Any, action: int) -> list[Row]:
        """What may come of an action."""
        ...

    def observation(self, state: Any) -> Any:
        """What the environment shows in a state."""
        ...

    def beside(self, state: Any) -> str:
        """What the player knows and the environment does not show, as a word; empty for nothing."""
        ...


@dataclass(frozen=True, slots=True)
class ToyState:
    """The number of a state in the environment's table.

    Attributes:
      number: of the state.
      fickle: the passenger of a Taxi will change the destination on the way.
    """

    number: int
    fickle: bool = False


@dataclass(frozen=True, slots=True)
class BlackjackState:
    """A hand of Blackjack; the dealer's second card is drawn when it is turned over, which changes no probability.

    Attributes:
      total: the player's cards with every ace as 1.
      ace: the player holds an ace that may count as 11 without a bust.
      natural: the player holds an ace, a ten, and nothing else.
      dealer: the dealer's first card, 1 to 10.
    """

    total: int
    ace: bool
    natural: bool
    dealer: int


def toy_table(env: Any) -> ToyTable | None:
    """The table of an environment; None where there is none, or where the environment does not keep to it."""
    inner = env.unwrapped
    table: ToyTable
    if type(inner).__name__ == "BlackjackEnv" and hasattr(module_of(env), "deck"):
        table = _BlackjackTable(env)
    elif isinstance(getattr(inner, "P", None), dict) and hasattr(inner, "initial_state_distrib"):
        table = _NumberedTable(inner)
    else:
        return None
    return table if _is_kept(table, env) else None


def _is_kept(table: ToyTable, env: Any) -> bool:
    """Play a little: everything that happens is in the table."""
    for match in range(_MATCHES):
        shown, _ = env.reset(seed=match)
        may_be = {state for p, state in table.starts() if p > 0.0 and plain(table.observation(state)) == plain(shown)}
        drawn = generator("toy table", match)
        for _ in range(_STEPS):
            action = int(env.action_space.start + drawn.integers(env.action_space.n))
            shown, reward, terminated, _, _ = env.step(action)
            try:
                found = [row for state in may_be for row in table.rows(state, action) if row.probability > 0.0]
            except (LookupError, TypeError, ValueError):  # another table by the same name
                return False
            may_be = {
                row.state
                for row in found
                if (row.reward, row.terminated) == (float(reward), bool(terminated))
                and plain(table.observation(row.state)) == plain(shown)
            }
            if not may_be:
                return False
            if terminated:
                break
    return True


def blind_return(table: ToyTable, actions: Sequence[int], steps: int) -> float:
    """The most that anybody gets on average who always does the same, or anything at random.

    Args:
      table: of the environment.
      actions: those that there are to choose from.
      steps: after which a match is cut.

    Returns:
      In units of reward.
    """
    starts = table.starts()
    index: dict[Any, int] = {}
    for _, state in starts:
        index.setdefault(state, len(index))
    found = []
    for state in (pending := list(index)):  # grows while it is walked
        for action, number in enumerate(actions):
            for row in table.rows(state, number):
                if row.state not in index:
                    index[row.state] = len(index)
                    if not row.terminated:
                        pending.append(row.state)
                found.append((index[state], action, row.probability, index[row.state], row.reward, not row.terminated))
    here, action, probability, there, reward, goes_on = (np.array(column) for column in zip(*found, strict=True))
    best = -np.inf
    for share in (*np.eye(len(actions)), np.full(len(actions), 1.0 / len(actions))):
        value = np.zeros(len(index))
        for _ in range(steps):
            value = np.bincount(here, share[action] * probability * (reward + goes_on * value[there]), len(index))
        best = max(best, sum(p * value[index[state]] for p, state in starts))
    return float(best)


class _NumberedTable:
    """The table that an environment has as `P`, and what Taxi's fickle passengers do beside it."""

    def __init__(self, inner: Any) -> None:
        self._p = inner.P
        self._starts = inner.initial_state_distrib
        self._taxi = inner if getattr(inner, "fickle_passenger", False) and hasattr(inner, "decode") else None

    def starts(self) -> list[tuple[float, ToyState]]:
        found = [(float(p), ToyState(number)) for number, p in enumerate(self._starts) if p > 0.0]
        if self._taxi is None:
            return found
        share = float(self._taxi.fickle_probability)
        both = [(1.0 - share, False), (share, True)]
        return [(p * q, ToyState(state.number, fickle)) for p, state in found for q, fickle in both if q > 0.0]

    def rows(self, state: ToyState, action: int) -> list[Row]:
        found = [
            Row(float(p), ToyState(int(number), state.fickle), float(reward), bool(terminated))
            for p, number, reward, terminated in self._p[state.number][action]
        ]
        return [after for row in found for after in self._changed(state, row)] if state.fickle else found

    def _changed(self, state: ToyState, row: Row) -> list[Row]:
        """The first move with the passenger in the taxi takes them elsewhere, each destination equally likely."""
        assert self._taxi is not None
        from_row, from_column, passenger, destination = self._taxi.decode(state.number)
        to_row, to_column, there, _ = self._taxi.decode(row.state.number)
        if passenger != len(self._taxi.locs) or (from_row, from_column) == (to_row, to_column):
            return [row]
        others = [place for place in range(len(self._taxi.locs)) if place != destination]
        return [
            row._replace(
                probability=row.probability / len(others),
                state=ToyState(int(self._taxi.encode(to_row, to_column, there, place))),
            )
            for place in others
        ]

    def observation(self, state: ToyState) -> int:
        return state.number

    def beside(self, state: ToyState) -> str:
        return ""


class _BlackjackTable:
    """Blackjack with an infinite deck, by the rules and the deck of Gymnasium's environment."""

    def __init__(self, env: Any) -> None:
        deck: Sequence[int] = module_of(env).deck
        self._cards = [(deck.count(card) / len(deck), card) for card in sorted(set(deck))]
        self._pays_naturals = bool(env.unwrapped.natural)
        self._is_sutton_barto = bool(env.unwrapped.sab)
        # What the dealer ends with, by the first card: (probability, score with 0 for a bust, two cards that are 21).
        self._dealer = {card: _dealt(self._cards, card) for _, card in self._cards}

    def starts(self) -> list[tuple[float, BlackjackState]]:
        found: dict[BlackjackState, float] = {}
        for p, dealer in self._cards:
            for q, first in self._cards:
                for r, second in self._cards:
                    state = _hand(first + second, 1 in (first, second), {first, second} == {1, 10}, dealer)
                    found[state] = found.get(state, 0.0) + p * q * r
        return [(p, state) for state, p in found.items()]

    def rows(self, state: BlackjackState, action: int) -> list[Row]:
        return self._hit(state) if action else self._stick(state)

    def _hit(self, state: BlackjackState) -> list[Row]:
        found = []
        for p, card in self._cards:
            after = _hand(state.total + card, state.ace or card == 1, False, state.dealer)
            bust = after.total > 21
            found.append(Row(p, after, -1.0 if bust else 0.0, bust))
        return found

    def _stick(self, state: BlackjackState) -> list[Row]:
        paid: dict[float, float] = {}
        for p, score, is_natural in self._dealer[state.dealer]:
            own = _best(state.total, state.ace)
            reward = float(own > score) - float(own < score)
            if self._is_sutton_barto and state.natural and not is_natural:
                reward = 1.0
            elif not self._is_sutton_barto and self._pays_naturals and state.natural and reward == 1.0:
                reward = 1.5
            paid[reward] = paid.get(reward, 0.0) + p
        return [Row(p, state, reward, True) for reward, p in sorted(paid.items())]

    def observation(self, state: BlackjackState) -> tuple[int, int, int]:
        return _best(state.total, state.ace), state.dealer, int(state.ace)

    def beside(self, state: BlackjackState) -> str:
        # It is worth more than another 21, and whoever was dealt it knows.
        return "natural" if state.natural else ""


def _hand(total: int, ace: bool, natural: bool, dealer: int) -> BlackjackState:
    """A hand; an ace that can only count as 1 is a card like any other."""
    return BlackjackState(total, _best(total, ace) != total, natural, dealer)


def _best(total: int, ace: bool) -> int:
    """A hand with one ace as 11 where that is no bust."""
    return total + 10 if ace and total + 10 <= 21 else total


def _dealt(cards: list[tuple[float, int]], first: int) -> list[tuple[float, int, bool]]:
    """What a dealer ends with who draws until the hand is 17 or more."""

    @cache
    def played(total: int, ace: bool) -> dict[int, float]:
        best = _best(total, ace)
        if best >= 17:
            return {0 if best > 21 else best: 1.0}
        found: dict[int, float] = {}
        for p, card in cards:
            for score, q in played(total + card, ace or card == 1).items():
                found[score] = found.get(score, 0.0) + p * q
        return found

    ends: dict[tuple[int, bool], float] = {}
    for p, second in cards:
        is_natural = {first, second} == {1, 10}
        for score, q in played(first + second, 1 in (first, second)).items():
            ends[score, is_natural] = ends.get((score, is_natural), 0.0) + p * q
    return [(p, score, is_natural) for (score, is_natural), p in ends.items()]
