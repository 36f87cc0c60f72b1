"""Contextual bandits: which arm pays best depends on what is seen before each pull."""

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from string import ascii_lowercase
from typing import ClassVar

import numpy as np

from lapwing.core.errors import UserError, nearest
from lapwing.core.rng import generator
from lapwing.core.types import BestKnown, Transition
from lapwing.stats.bandit_index import lin_ucb

SPLITS = ("all", "train", "development", "test")
_SPLIT_OF_PART = ("test",) * 4 + ("development",) * 2 + ("train",) * 14
# The features' weights of an arm sum to at most this, in hundredths, so that chances stay within 0.05 and 0.95.
_MOST_WEIGHT = 45
# The clairvoyant's mean payoff is averaged over so many instances.
_INSTANCES = 2000
Weights = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class ContextualBanditState:
    """What the arms are worth, what is seen now, and what was learnt so far.

    Attributes:
      weights: of each feature for each arm, in hundredths.
      context: the features now, each −1 or 1.
      round: pulls made.
      gram: for each arm Σ x xᵀ over its pulls, row by row, where x is 1 and then the features.
      moment: for each arm Σ payoff · x.
      last: the arm that was pulled last and what it paid; (−1, 0) before the first pull.
    """

    weights: Weights
    context: tuple[int, ...]
    round: int
    gram: tuple[tuple[int, ...], ...]
    moment: tuple[tuple[int, ...], ...]
    last: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ContextualBanditView:
    """What a player may know: everything but the weights."""

    context: tuple[int, ...]
    round: int
    horizon: int
    gram: tuple[tuple[int, ...], ...]
    moment: tuple[tuple[int, ...], ...]
    last_arm: int
    last_payoff: int


@dataclass(frozen=True)
class ContextualBandit:
    """Look at some features, pull one of several arms; what an arm pays is linear in the features.

    | action | meaning |
    | --- | --- |
    | a, b, c, … | pull the first, second, third, … arm |

    View: the features of this round, each −1 or 1; the rounds made and left; for each arm what was seen when it was
    pulled and what it paid, as the sums that a linear regression needs; the last arm and payoff.

    Start: each arm gets a hidden weight w for each feature, drawn from −0.45 / features … 0.45 / features in steps
    of 0.01; a hash of all weights decides the split. In each round every feature is −1 or 1, each with probability
    one half. An arm pays 1 with probability 0.5 + Σ w · feature, else 0. The match ends after `horizon` rounds.

    Reward: what the arm pays. The part `regret` is the probability of the arm that is best in this context, minus
    that of the one that was pulled; `best` is 1 where they are the same. There is no success.

    Known answers: who knows the weights has regret 0. LinUCB is the heuristic.

    Reference: Nie et al. 2024, "EVOLvE: Evaluating and Optimizing LLMs For Exploration".
      https://arxiv.org/abs/2410.06238; Li et al. 2010, "A Contextual-Bandit Approach to Personalized News Article
      Recommendation". https://doi.org/10.1145/1772690.1772758

    Attributes:
      arms: 2 to 20.
      features: 1 to 5.
      horizon: number of rounds, 1 to 1,000.
      split: "all", "train", "development" or "test".
    """

    arms: int = 3
    features: int = 2
    horizon: int = 25
    split: str = "all"

    num_players: ClassVar[int] = 1
    reward_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = False
    oracles: ClassVar[tuple[str, ...]] = ("lin_ucb", "thompson", "greedy")

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("arms", self.arms, 2, 20),
            ("features", self.features, 1, 5),
            ("horizon", self.horizon, 1, 1000),
        ):
            if not low <= value <= high:
                raise UserError(f"{name} is {low} to {high:,}, not {value}; set game.{name}.")
        if self.split not in SPLITS:
            raise UserError(f"There is no split '{self.split}'; {nearest(self.split, SPLITS)}")

    @property
    def best_known(self) -> BestKnown:
        """The mean return of those who know the weights."""
        score = self.horizon * _clairvoyant(self.arms, self.features)
        return BestKnown(score, f"the best arm of every round, mean over {_INSTANCES:,} drawn instances")

    @property
    def null_ceiling(self) -> float:
        """Half of the way from 0.5 a round, which is what the blind expect, to the best."""
        return self.horizon * (0.5 + _clairvoyant(self.arms, self.features)) / 2.0

    def for_split(self, split: str) -> "ContextualBandit":
        """The same game with its instances restricted to one split."""
        return replace(self, split=split)

    def initial(self, rng: np.random.Generator) -> ContextualBanditState:
        """Draw weights of the split, and the first context."""
        while True:
            weights = _drawn_weights(rng, self.arms, self.features)
            if self.split == "all" or split_of(weights) == self.split:
                break
        d = self.features + 1
        return ContextualBanditState(
            weights,
            tuple(int(x) for x in 2 * rng.integers(2, size=self.features) - 1),
            0,
            ((0,) * (d * d),) * self.arms,
            ((0,) * d,) * self.arms,
            (-1, 0),
        )

    def players(self, state: ContextualBanditState) -> tuple[int, ...]:
        """Always the one player."""
        return (0,)

    def view(self, state: ContextualBanditState, player: int) -> ContextualBanditView:
        """The features and what was learnt, not the weights."""
        arm, payoff = state.last
        return ContextualBanditView(
            state.context, state.round, self.horizon, state.gram, state.moment, last_arm=arm, last_payoff=payoff
        )

    def legal(self, state: ContextualBanditState, player: int) -> tuple[str, ...]:
        """One letter per arm."""
        return tuple(ascii_lowercase[: self.arms])

    def step(self, state: ContextualBanditState, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Pull an arm, and draw the next context."""
        arm = ascii_lowercase.index(actions[0])
        paid = int(rng.random() < _chance(state, arm))
        context = tuple(int(x) for x in 2 * rng.integers(2, size=self.features) - 1)
        return self._pulled(state, arm, paid, context)

    def outcomes(self, state: ContextualBanditState, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        """Both payoffs, with every next context."""
        arm = ascii_lowercase.index(actions[0])
        chance = _chance(state, arm)
        contexts = list(itertools.product((-1, 1), repeat=self.features))
        if state.round + 1 == self.horizon:
            contexts = [state.context]
        return [
            (weight / len(contexts), self._pulled(state, arm, paid, context))
            for paid, weight in ((1, chance), (0, 1.0 - chance))
            for context in contexts
        ]

    def heuristic(self, state: ContextualBanditState, player: int) -> str:
        """LinUCB, which knows no more than the player; of equal arms the first."""
        value, bonus = lin_ucb(*regression(self.view(state, player)))
        return ascii_lowercase[int(np.argmax(value + bonus))]

    def words(self) -> list[str]:
        """The names of the arms."""
        return list(ascii_lowercase[: self.arms])

    def _pulled(self, state: ContextualBanditState, arm: int, paid: int, context: tuple[int, ...]) -> Transition:
        x = (1, *state.context)
        is_last = state.round + 1 == self.horizon
        after = ContextualBanditState(
            state.weights,
            state.context if is_last else context,
            state.round + 1,
            _added(state.gram, arm, [p * q for p in x for q in x]),
            _added(state.moment, arm, [paid * p for p in x]),
            (arm, paid),
        )
        chances = [_chance(state, other) for other in range(self.arms)]
        regret = max(chances) - chances[arm]
        parts = {"regret": regret, "best": float(regret == 0.0)}
        return Transition(after, {0: float(paid)}, terminated=is_last, parts=parts)


def regression(view: ContextualBanditView) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `lin_ucb` takes: Σ x xᵀ [arms, d, d], Σ payoff · x [arms, d], and x [d] of this round."""
    d = len(view.context) + 1
    gram = np.array(view.gram, dtype=np.float64).reshape(len(view.gram), d, d)
    return gram, np.array(view.moment, dtype=np.float64), np.array([1, *view.context], dtype=np.float64)


@lru_cache(maxsize=1 << 16)
def split_of(weights: Weights) -> str:
    """The split that an instance belongs to, by the hash of its weights."""
    part = int.from_bytes(hashlib.blake2b(repr(weights).encode(), digest_size=8).digest(), "little")
    return _SPLIT_OF_PART[part % len(_SPLIT_OF_PART)]


def _chance(state: ContextualBanditState, arm: int) -> float:
    """The probability that an arm pays in this context, rounded only once."""
    return (50 + sum(w * x for w, x in zip(state.weights[arm], state.context, strict=True))) / 100.0


def _added(rows: tuple[tuple[int, ...], ...], arm: int, amounts: list[int]) -> tuple[tuple[int, ...], ...]:
    row = tuple(before + now for before, now in zip(rows[arm], amounts, strict=True))
    return (*rows[:arm], row, *rows[arm + 1 :])


def _drawn_weights(rng: np.random.Generator, arms: int, features: int) -> Weights:
    most = _MOST_WEIGHT // features
    drawn = rng.integers(-most, most + 1, size=(arms, features))
    return tuple(tuple(int(weight) for weight in row) for row in drawn)


@lru_cache(maxsize=64)
def _clairvoyant(arms: int, features: int) -> float:
    """Mean payoff of the best arm of a round; by symmetry any one context stands for all."""
    # No chance of a match: the instances that the average is taken over are always the same.
    drawn = generator("contextual bandit", arms, features)
    best = [max(sum(row) for row in _drawn_weights(drawn, arms, features)) for _ in range(_INSTANCES)]
    return 0.5 + float(np.mean(best)) / 100.0
