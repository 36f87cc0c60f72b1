"""Kuhn poker, the smallest poker: three cards, one bet, and an equilibrium in closed form."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lapwing.core.errors import UserError
from lapwing.core.types import Transition

ACTIONS = ("pass", "bet")
CARDS = ("J", "Q", "K")
_OVER = {("pass", "pass"), ("bet", "pass"), ("bet", "bet"), ("pass", "bet", "pass"), ("pass", "bet", "bet")}
# In thirds, how often the equilibrium that bluffs most bets: by position, card, and whether there is a bet to answer.
_BETS = {
    ("first", "J", False): 1, ("first", "Q", False): 0, ("first", "K", False): 3,
    ("first", "J", True): 0, ("first", "Q", True): 2, ("first", "K", True): 3,
    ("second", "J", False): 1, ("second", "Q", False): 0, ("second", "K", False): 3,
    ("second", "J", True): 0, ("second", "Q", True): 1, ("second", "K", True): 3,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class KuhnPokerState:
    """The card of each seat, what was done so far, and the seat that began."""

    cards: tuple[str, str]
    moves: tuple[str, ...]
    first: int


@dataclass(frozen=True, slots=True)
class KuhnPokerView:
    """The own card, and what both did so far, the player who began first."""

    card: str
    moves: tuple[str, ...]


@dataclass(frozen=True)
class KuhnPoker:
    """Bet, call or give way with one of three cards; the higher one takes the pot.

    | action | meaning |
    | --- | --- |
    | pass | check; after a bet, give way and lose the pot |
    | bet | put one more chip into the pot; after a bet, call it |

    View: the own card and the moves so far, which tell whether the player began. The other's card is hidden to the end.

    Start: both put one chip into the pot and are dealt one of the cards J < Q < K. The match ends after two passes, a
    call, or a pass after a bet.

    Reward: the chips that the player won or lost, at the end: ±1 without a bet or when somebody gives way, ±2 after a
    call. Nobody succeeds: chips count, and not how many pots. The player who begins has the value −1/18 in equilibrium;
    with `first` left out the game is fair.

    Reference: Kuhn 1950, "A Simplified Two-Person Poker", in Contributions to the Theory of Games I.
      https://doi.org/10.1515/9781400881727-010

    Attributes:
      first: the seat that begins, 0 or 1; None, the default, draws it for each match.
    """

    first: int | None = None

    num_players: ClassVar[int] = 2
    reward_range: ClassVar[tuple[float, float]] = (-2.0, 2.0)
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.first not in (None, 0, 1):
            raise UserError(f"The seat that begins is 0 or 1, not {self.first}; set game.first, or leave it out.")

    @property
    def null_ceiling(self) -> float:
        """What always betting earns against the random opponent, the best policy of those that never look."""
        return {0: 1 / 2, 1: 1 / 4, None: 3 / 8}[self.first]

    def initial(self, rng: np.random.Generator) -> KuhnPokerState:
        """Deal two of the three cards; who begins is drawn if it is not set."""
        first = int(rng.integers(2)) if self.first is None else self.first
        dealt = rng.permutation(len(CARDS))
        return KuhnPokerState((CARDS[dealt[0]], CARDS[dealt[1]]), (), first)

    def initial_outcomes(self) -> list[tuple[float, KuhnPokerState]]:
        """The six deals, for each seat that may begin."""
        seats = (0, 1) if self.first is None else (self.first,)
        deals = list(itertools.permutations(CARDS, 2))
        chance = 1.0 / (len(seats) * len(deals))
        return [(chance, KuhnPokerState(cards, (), seat)) for seat in seats for cards in deals]

    def players(self, state: KuhnPokerState) -> tuple[int, ...]:
        """The seat whose turn it is."""
        return ((state.first + len(state.moves)) % 2,)

    def view(self, state: KuhnPokerState, player: int) -> KuhnPokerView:
        """The own card, and all moves."""
        return KuhnPokerView(state.cards[player], state.moves)

    def legal(self, state: KuhnPokerState, player: int) -> tuple[str, ...]:
        """Both, always."""
        return ACTIONS

    def step(self, state: KuhnPokerState, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Add the move; at the end compare the cards."""
        return self.outcomes(state, actions)[0][1]

    def outcomes(self, state: KuhnPokerState, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        """The one outcome: all chance is in the deal."""
        (mover,) = self.players(state)
        moves = (*state.moves, actions[mover])
        after = KuhnPokerState(state.cards, moves, state.first)
        if moves not in _OVER:
            return [(1.0, Transition(after, {0: 0.0, 1: 0.0}))]
        gave_way = moves[-1] == "pass" and "bet" in moves
        winner = 1 - mover if gave_way else int(CARDS.index(state.cards[1]) > CARDS.index(state.cards[0]))
        won = 2.0 if moves[-1] == "bet" else 1.0
        reward = {winner: won, 1 - winner: -won}
        return [(1.0, Transition(after, reward, terminated=True))]

    def heuristic(self, state: KuhnPokerState, player: int) -> str:
        """Honest play: bet and call with the king alone."""
        return "bet" if state.cards[player] == "K" else "pass"

    def scripted(self, state: KuhnPokerState, player: int, rng: np.random.Generator) -> str:
        """An equilibrium, that with α = 1/3: it bluffs with one jack in three, and so on."""
        position = "first" if player == state.first else "second"
        thirds = _BETS[position, state.cards[player], "bet" in state.moves]
        return "bet" if int(rng.integers(3)) < thirds else "pass"

    def words(self) -> list[str]:
        """The cards and the moves."""
        return [*CARDS, *ACTIONS]
