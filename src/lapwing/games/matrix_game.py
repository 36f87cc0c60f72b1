"""Repeated matrix games: two players decide at once, are paid by a table, and do so again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from lapwing.core.errors import UserError, nearest
from lapwing.core.types import Transition

_Matrix = tuple[tuple[float, ...], ...]


class _Known(NamedTuple):
    actions: tuple[str, ...]
    row: _Matrix
    column: _Matrix


def _against(actions: tuple[str, ...], row: _Matrix) -> _Known:
    return _Known(actions, row, tuple(tuple(-x for x in line) for line in row))


def _alike(actions: tuple[str, ...], row: _Matrix) -> _Known:
    """Symmetric: the column player gets what the row player would in its place."""
    return _Known(actions, row, tuple(zip(*row, strict=True)))


# What the row player gets in the numbers of the literature; the column player loses it, or gets the same in its place.
KNOWN: dict[str, _Known] = {
    "rock_paper_scissors": _against(
        ("rock", "paper", "scissors"), ((0.0, -1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 1.0, 0.0))
    ),
    "matching_pennies": _against(("heads", "tails"), ((1.0, -1.0), (-1.0, 1.0))),
    "prisoners_dilemma": _alike(("cooperate", "defect"), ((3.0, 0.0), (5.0, 1.0))),
    "stag_hunt": _alike(("stag", "hare"), ((4.0, 1.0), (3.0, 3.0))),
    "chicken": _alike(("swerve", "straight"), ((0.0, -1.0), (1.0, -10.0))),
    "coordination": _alike(("left", "right"), ((1.0, 0.0), (0.0, 1.0))),
    "battle_of_the_sexes": _Known(("opera", "football"), ((3.0, 0.0), (0.0, 2.0)), ((2.0, 0.0), (0.0, 3.0))),
}
_SEEN = ("nothing", "last", "counts", "all")
# What each script has to see.
_SCRIPTS = {
    "mixed": _SEEN,
    "tit_for_tat": ("last", "all"),
    "fictitious_play": ("counts", "all"),
    "hedge": ("counts", "all"),
}
# Probabilities of a script are rounded to so many parts, so that all its chance are whole numbers.
_PARTS = 100


@dataclass(frozen=True, slots=True)
class MatrixGameState:
    """The round, and what both players see of the rounds before, in action numbers of seat 0 and seat 1.

    `history` holds the rounds that are seen, and `counts` how often each action was played, one list per seat; what is
    not seen is not kept, so that states that look alike are one.
    """

    round: int
    history: tuple[tuple[int, int], ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class MatrixGameView:
    """The round of how many, the own actions and the other's in the rounds that are seen, and counts of both.

    `actions` and `payoffs` are the game itself: the own actions, the other's, and what the own one earns against it.
    """

    round: int
    rounds: int
    own: tuple[str, ...]
    other: tuple[str, ...]
    own_counts: tuple[int, ...]
    other_counts: tuple[int, ...]
    own_actions: tuple[str, ...]
    other_actions: tuple[str, ...]
    payoffs: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class MatrixGame:
    """Choose an action at the same time as the other player, and be paid by the table of the game, round by round.

    | action | meaning |
    | --- | --- |
    | the names of the game's actions: rock, paper, scissors; heads, tails; cooperate, defect; … | play it this round |

    View: the round, the number of rounds, the payoffs, and of the rounds before what `seen` says.

    Start: the first of `rounds` rounds. Both decide at once in each.

    Reward: in each round the payoff of the two actions to the player. There is no success.

    Reference: Shoham and Leyton-Brown 2008, "Multiagent Systems", sections 3.2 and 6.1. http://www.masfoundations.org;
      Axelrod 1984, "The Evolution of Cooperation" (payoffs of the dilemma, tit for tat).

    Attributes:
      game: "rock_paper_scissors", "matching_pennies", "prisoners_dilemma", "stag_hunt", "chicken", "coordination",
        "battle_of_the_sexes", or "custom" with `payoffs`.
      rounds: of a match, 1 to 64.
      seen: what both know of the rounds before: "nothing", the "last" round, how often each action was played
        ("counts"), or "all" of them in order.
      payoffs: of a custom game, what seat 0 gets: a list of rows, one per action of seat 0.
      other_payoffs: what seat 1 gets, in the same shape; left out, what seat 0 loses.
      actions: names of the actions of a custom game; left out, a, b, c, … One list for both seats, if there are two
        lengths the longer one.
      script: what the scripted opponent plays: "mixed" (`weights`), "tit_for_tat" (the other's last action, at first
        its own first), "fictitious_play" (the best answer to the other's counts) or "hedge" (exponential weights on
        them, to the nearest hundredth).
      weights: of the mixed script, whole numbers, one per action; left out, all alike.
      rate: of the script "hedge", in inverse units of payoff.
    """

    game: str = "rock_paper_scissors"
    rounds: int = 1
    seen: Literal["nothing", "last", "counts", "all"] = "all"
    payoffs: tuple[tuple[float, ...], ...] = ()
    other_payoffs: tuple[tuple[float, ...], ...] = ()
    actions: tuple[str, ...] = ()
    script: Literal["mixed", "tit_for_tat", "fictitious_play", "hedge"] = "mixed"
    weights: tuple[int, ...] = ()
    rate: float = 0.5

    num_players: ClassVar[int] = 2
    restorable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("payoffs", "other_payoffs"):
            rows = tuple(tuple(float(x) for x in row) for row in getattr(self, name))
            object.__setattr__(self, name, rows)
        for name in ("actions", "weights"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_table()
        self._check_settings()

    def _check_table(self) -> None:
        if self.game not in (*KNOWN, "custom"):
            raise UserError(f"There is no matrix game '{self.game}'; {nearest(self.game, (*KNOWN, 'custom'))}")
        if self.game != "custom":
            if self.payoffs or self.other_payoffs or self.actions:
                raise UserError(f"{self.game} has its own payoffs; set game.game = 'custom' to give others.")
            return
        widths = {len(row) for row in self.payoffs}
        if not self.payoffs or len(widths) != 1 or not min(widths):
            raise UserError("A custom game needs game.payoffs, a list of rows of equal length, one per action.")
        if self.other_payoffs and [len(row) for row in self.other_payoffs] != [len(row) for row in self.payoffs]:
            raise UserError("game.other_payoffs has the shape of game.payoffs.")
        if not np.isfinite([x for row in (*self.payoffs, *self.other_payoffs) for x in row]).all():
            raise UserError("The payoffs of a game are finite numbers.")
        longest = max(len(self.payoffs), *widths)
        names = self.actions or tuple("abcdefghijklmnopqrstuvwxyz"[:longest])
        if len(names) != longest or len(set(names)) < longest or not all(n and n == n.strip() for n in names):
            raise UserError(f"game.actions are {longest} different names, one per action, not {list(self.actions)}.")

    def _check_settings(self) -> None:
        if not 1 <= self.rounds <= 64:
            raise UserError(f"A match has 1 to 64 rounds, not {self.rounds}; set game.rounds.")
        for name, value, valid in (("seen", self.seen, _SEEN), ("script", self.script, _SCRIPTS)):
            if value not in valid:
                raise UserError(f"There is no game.{name} '{value}'; {nearest(value, valid)}")
        if self.seen not in _SCRIPTS[self.script]:
            raise UserError(
                f"The script {self.script} needs to see more than {self.seen}; set game.seen to "
                f"{' or '.join(_SCRIPTS[self.script])}."
            )
        sizes = {len(names) for names in self._names}
        if self.script == "tit_for_tat" and len(sizes) > 1:
            raise UserError("Tit for tat needs a game in which both seats have the same actions.")
        fits = all(type(w) is int and w >= 0 for w in self.weights) and sum(self.weights) > 0 and len(sizes) == 1
        if self.weights and not (fits and len(self.weights) in sizes):
            raise UserError(
                f"game.weights are whole numbers of at least 0, one for each of the {max(sizes)} actions of both "
                f"seats, not {list(self.weights)}."
            )
        if not 0.0 < self.rate < float("inf"):
            raise UserError(f"game.rate is a finite number above 0, not {self.rate}.")

    @property
    def reward_range(self) -> tuple[float, float]:
        """The lowest and the highest payoff of either seat."""
        every = [x for table in self.tables for row in table for x in row]
        return (min(every), max(every))

    @property
    def null_ceiling(self) -> float:
        """What the best single action earns against the random opponent; no policy earns more, whatever it looks at."""
        return self.rounds * max(sum(row) / len(row) for row in self.tables[0])

    @property
    def rotated_null_ceiling(self) -> float:
        """The same, where it is drawn on which seat that player sits."""
        columns = zip(*self.tables[1], strict=True)
        return (self.null_ceiling + self.rounds * max(sum(paid) / len(paid) for paid in columns)) / 2

    @property
    def tables(self) -> tuple[_Matrix, _Matrix]:
        """What each seat gets: both with a row per action of seat 0 and a column per action of seat 1."""
        if self.game != "custom":
            return KNOWN[self.game].row, KNOWN[self.game].column
        other = self.other_payoffs or tuple(tuple(-x for x in row) for row in self.payoffs)
        return self.payoffs, other

    def initial(self, rng: np.random.Generator) -> MatrixGameState:
        """The first round."""
        return self.initial_outcomes()[0][1]

    def initial_outcomes(self) -> list[tuple[float, MatrixGameState]]:
        """The one start."""
        counts = tuple((0,) * len(names) for names in self._names) if self.seen == "counts" else ()
        return [(1.0, MatrixGameState(0, (), counts))]

    def players(self, state: MatrixGameState) -> tuple[int, ...]:
        """Both at once."""
        return (0, 1)

    def view(self, state: MatrixGameState, player: int) -> MatrixGameView:
        """The table from the player's side, and what is seen of the rounds before."""
        names, other = self._names, 1 - player
        counts = state.counts or ((), ())
        return MatrixGameView(
            round=state.round,
            rounds=self.rounds,
            own=tuple(names[player][pair[player]] for pair in state.history),
            other=tuple(names[other][pair[other]] for pair in state.history),
            own_counts=counts[player],
            other_counts=counts[other],
            own_actions=names[player],
            other_actions=names[other],
            payoffs=self._table(player),
        )

    def legal(self, state: MatrixGameState, player: int) -> tuple[str, ...]:
        """All actions of the player, always."""
        return self._names[player]

    def step(self, state: MatrixGameState, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Pay a round."""
        return self.outcomes(state, actions)[0][1]

    def outcomes(self, state: MatrixGameState, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        """The one outcome: nothing is left to chance."""
        pair = (self._names[0].index(actions[0]), self._names[1].index(actions[1]))
        history = {"nothing": (), "counts": (), "last": (pair,), "all": (*state.history, pair)}[self.seen]
        counts = tuple(
            tuple(number + (n == action) for n, number in enumerate(row))
            for row, action in zip(state.counts, pair, strict=False)
        )
        reward = {seat: self.tables[seat][pair[0]][pair[1]] for seat in (0, 1)}
        after = MatrixGameState(state.round + 1, history, counts)
        return [(1.0, Transition(after, reward, terminated=after.round == self.rounds))]

    def heuristic(self, state: MatrixGameState, player: int) -> str:
        """The best answer to what is seen of the other's actions, to all alike if nothing is; the first of equals."""
        return self._best_answer(player, self._seen_counts(state, 1 - player))

    def scripted(self, state: MatrixGameState, player: int, rng: np.random.Generator) -> str:
        """What `script` says."""
        names, other = self._names[player], 1 - player
        if self.script == "tit_for_tat":
            return names[state.history[-1][other]] if state.history else names[0]
        counts = self._seen_counts(state, other)
        if self.script == "fictitious_play":
            return self._best_answer(player, counts)
        parts = self._hedge_parts(player, counts) if self.script == "hedge" else self.weights or (1,) * len(names)
        drawn = int(rng.integers(sum(parts)))
        return names[int(np.searchsorted(np.cumsum(parts), drawn, side="right"))]

    def words(self) -> list[str]:
        """The names of the actions, the payoffs, and the numbers up to the rounds."""
        payoffs = (f"{payoff:g}" for table in self.tables for row in table for payoff in row)
        numbers = (str(number) for number in range(self.rounds + 1))
        return list(dict.fromkeys((*self._names[0], *self._names[1], *payoffs, *numbers)))

    @property
    def _names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        row = self.tables[0]
        if self.game != "custom":
            return KNOWN[self.game].actions, KNOWN[self.game].actions
        names = self.actions or tuple("abcdefghijklmnopqrstuvwxyz")
        return names[: len(row)], names[: len(row[0])]

    def _table(self, player: int) -> _Matrix:
        """The payoffs with a row per own action."""
        table = self.tables[player]
        return table if player == 0 else tuple(zip(*table, strict=True))

    def _seen_counts(self, state: MatrixGameState, seat: int) -> list[int]:
        """How often a seat played each action, as far as it is seen."""
        if state.counts:
            return list(state.counts[seat])
        played = [pair[seat] for pair in state.history]
        return [played.count(action) for action in range(len(self._names[seat]))]

    def _best_answer(self, player: int, counts: list[int]) -> str:
        weights: Any = counts if sum(counts) else [1] * len(counts)
        gains = np.array(self._table(player)) @ np.array(weights, dtype=np.float64)
        return self._names[player][int((gains >= gains.max() - 1e-9).argmax())]

    def _hedge_parts(self, player: int, counts: list[int]) -> tuple[int, ...]:
        """Exponential weights in hundredths; what rounding leaves over goes to the largest remainders."""
        gains = self.rate * (np.array(self._table(player)) @ np.array(counts, dtype=np.float64))
        share = np.exp(gains - gains.max())
        exact = _PARTS * share / share.sum()
        parts = np.floor(exact + 1e-9).astype(np.int64)
        order = np.argsort(-(exact - parts), kind="stable")
        parts[order[: _PARTS - int(parts.sum())]] += 1
        return tuple(parts.tolist())
