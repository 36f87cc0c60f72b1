"""Bandits over a horizon: pull arms whose mean payoffs are hidden, and regret every worse one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from string import ascii_lowercase
from typing import ClassVar, Literal

import numpy as np

from lapwing.core.errors import GameError, UserError, nearest
from lapwing.core.types import BestKnown, Transition
from lapwing.stats.bandit_index import ucb1

SPLITS = ("all", "train", "development", "test")
# The best mean in hundredths, modulo 5: instances of two splits never have the same best mean.
_SPLIT_OF = {3: "development", 4: "test"}
# Gaussian payoffs are rounded to half a standard deviation and cut off at three.
_HALVES = 6
_MOST_INSTANCES = 20_000
Means = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BanditSuiteState:
    """What the arms pay, and what was pulled so far; payoffs and means are in hundredths.

    Attributes:
      means: mean payoff of each arm.
      counts: how often each arm was pulled.
      totals: what each arm paid in all.
      last: the arm that was pulled last and what it paid; (−1, 0) before the first pull.
      found_late: the best arm was pulled in the second half of the horizon.
    """

    means: Means
    counts: tuple[int, ...]
    totals: tuple[int, ...]
    last: tuple[int, int]
    found_late: bool


@dataclass(frozen=True, slots=True)
class BanditSuiteView:
    """What a player may know: everything but the means.

    Attributes:
      kind: "bernoulli" or "gaussian".
      pull, horizon: pulls made, and how many there are.
      lowest, highest: bounds of a payoff.
      scale: 1, or the standard deviation of a Gaussian payoff.
      counts, totals: how often each arm was pulled, and what it paid in all.
      last_arm, last_payoff: of the pull before; −1 and 0 before the first.
    """

    kind: str
    pull: int
    horizon: int
    lowest: float
    highest: float
    scale: float
    counts: tuple[int, ...]
    totals: tuple[float, ...]
    last_arm: int
    last_payoff: float


@dataclass(frozen=True)
class BanditSuite:
    """Pull one of several arms again and again; each pays by chance around a mean of its own, which nobody is told.

    | action | meaning |
    | --- | --- |
    | a, b, c, … | pull the first, second, third, … arm |

    View: the pulls made and left, how often each arm was pulled and what it paid in all, and the last payoff.

    Start: with `instances = "drawn"` the best mean b is drawn from gap + 0.01 … 0.99 in steps of 0.01, another arm
    has b − `gap`, all others are drawn from 0.01 … b − `gap`, and they are dealt to the arms; b decides the
    split, so that no instance is in two. With `instances = "fixed"` the best arm has 0.5 + `gap` / 2, all others have
    0.5 − `gap` / 2, and only the place of the best is drawn: EVOLvE's instances, with a gap of 0.2 for hard and 0.5
    for easy ones, the same in every split. Each arm pays 1 or 0 (`kind = "bernoulli"`), or its mean plus Gaussian noise
    that is rounded to half a standard deviation and cut off at three (`kind = "gaussian"`). The match ends after
    `horizon` pulls. There is no success: what counts is the return, and what it lacks is the regret.

    Reward: what the arm pays. The part `regret` is μ* − μ of the arm that was pulled, its expectation beside the best
    arm, and `best` is 1 where that was the best arm. With the last pull, `identified` is 1 if the best arm was pulled
    more often than any other, and `suffix_failure` is 1 if it was never pulled in the second half.

    Known answers: the best arm from the first pull on has regret 0. `lapwing.tabular.bandit_value` computes the best
    that anybody can expect who knows the instances but not which one it is, where the horizon is short. UCB1 is the
    heuristic.

    Reference: Nie et al. 2024, "EVOLvE: Evaluating and Optimizing LLMs For Exploration".
      https://arxiv.org/abs/2410.06238

    Attributes:
      arms: 2 to 20.
      horizon: number of pulls, 1 to 1,000.
      gap: between the best and the second best mean, 0.01 to 0.98, in steps of 0.01.
      kind: "bernoulli" or "gaussian".
      sigma: standard deviation of a Gaussian payoff, 0.02 to 3, in steps of 0.02.
      instances: "drawn" or "fixed".
      split: "all", "train", "development" or "test".
    """

    arms: int = 5
    horizon: int = 25
    gap: float = 0.5
    kind: Literal["bernoulli", "gaussian"] = "bernoulli"
    sigma: float = 0.5
    instances: Literal["drawn", "fixed"] = "drawn"
    split: str = "all"

    num_players: ClassVar[int] = 1
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = False
    oracles: ClassVar[tuple[str, ...]] = ("ucb1", "thompson", "greedy")

    def __post_init__(self) -> None:
        if not 2 <= self.arms <= 20:
            raise UserError(f"There are 2 to 20 arms, not {self.arms}; set game.arms.")
        if not 1 <= self.horizon <= 1000:
            raise UserError(f"The horizon is 1 to 1,000 pulls, not {self.horizon}; set game.horizon.")
        _check_steps("gap", self.gap, 1, 98, step=1)
        _check_steps("sigma", self.sigma, 2, 300, step=2)
        if self.kind not in ("bernoulli", "gaussian"):
            raise UserError(f"game.kind is 'bernoulli' or 'gaussian', not '{self.kind}'.")
        if self.instances not in ("drawn", "fixed"):
            raise UserError(f"game.instances is 'drawn' or 'fixed', not '{self.instances}'.")
        if self.instances == "fixed" and self._gap % 2:
            raise UserError(f"With fixed instances the gap is a multiple of 0.02, not {self.gap}; set game.gap.")
        if self.split not in SPLITS:
            raise UserError(f"There is no split '{self.split}'; {nearest(self.split, SPLITS)}")
        if not self._bests:
            raise UserError(f"A gap of {self.gap} leaves no best mean for split '{self.split}'; lower game.gap.")

    @property
    def reward_range(self) -> tuple[float, float]:
        """0 and 1, or three standard deviations beyond the least and the largest mean."""
        if self.kind == "bernoulli":
            return 0.0, 1.0
        return 0.01 - 3 * self.sigma, 0.99 + 3 * self.sigma

    @property
    def best_known(self) -> BestKnown:
        """The mean return of those who know the best arm beforehand."""
        score = self.horizon * float(np.mean(self._bests)) / 100.0
        return BestKnown(score, "the best arm from the first pull on, which nobody can do without being told")

    @property
    def null_ceiling(self) -> float:
        """Half of the way from the mean of all arms, which is what the blind expect, to the best one."""
        best = np.array(self._bests, dtype=np.float64)
        second = best - self._gap
        others = second if self.instances == "fixed" else (1.0 + second) / 2.0
        blind = (best + second + (self.arms - 2) * others) / self.arms
        return self.horizon * float(np.mean(best + blind)) / 200.0

    def for_split(self, split: str) -> "BanditSuite":
        """The same game with its instances restricted to one split."""
        return replace(self, split=split)

    def initial(self, rng: np.random.Generator) -> BanditSuiteState:
        """Draw an instance and deal its means to the arms."""
        best = self._bests[int(rng.integers(len(self._bests)))]
        second = best - self._gap
        others = [second] * (self.arms - 2)
        if self.instances == "drawn":
            others = [int(mean) for mean in rng.integers(1, second + 1, size=self.arms - 2)]
        means = (best, second, *others)
        return self._start(tuple(means[int(place)] for place in rng.permutation(self.arms)))

    def initial_outcomes(self) -> list[tuple[float, BanditSuiteState]]:
        """Every instance with its probability.

        Raises:
          GameError: there are more than 20,000.
        """
        return [(weight, self._start(means)) for weight, means in self.prior()]

    def prior(self) -> list[tuple[float, Means]]:
        """Every instance that may be drawn, as mean payoffs in hundredths, with its probability.

        Raises:
          GameError: there are more than 20,000.
        """
        return list(_prior(self.arms, self._gap, tuple(self._bests), self.instances == "drawn"))

    def players(self, state: BanditSuiteState) -> tuple[int, ...]:
        """Always the one player."""
        return (0,)

    def view(self, state: BanditSuiteState, player: int) -> BanditSuiteView:
        """What was pulled and paid, not the means."""
        arm, payoff = state.last
        lowest, highest = self.reward_range
        return BanditSuiteView(
            kind=self.kind,
            pull=sum(state.counts),
            horizon=self.horizon,
            lowest=lowest,
            highest=highest,
            scale=1.0 if self.kind == "bernoulli" else self.sigma,
            counts=state.counts,
            totals=tuple(total / 100.0 for total in state.totals),
            last_arm=arm,
            last_payoff=payoff / 100.0,
        )

    def legal(self, state: BanditSuiteState, player: int) -> tuple[str, ...]:
        """One letter per arm."""
        return tuple(ascii_lowercase[: self.arms])

    def step(self, state: BanditSuiteState, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Pull an arm."""
        arm = ascii_lowercase.index(actions[0])
        if self.kind == "bernoulli":
            return self._pulled(state, arm, 100 if rng.random() < state.means[arm] / 100.0 else 0)
        halves = int(np.clip(round(2.0 * rng.standard_normal()), -_HALVES, _HALVES))
        return self._pulled(state, arm, state.means[arm] + halves * self._half_sigma)

    def outcomes(self, state: BanditSuiteState, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        """Every payoff of the arm."""
        arm = ascii_lowercase.index(actions[0])
        mean = state.means[arm]
        if self.kind == "bernoulli":
            return [(p, self._pulled(state, arm, paid)) for p, paid in ((mean / 100, 100), (1 - mean / 100, 0))]
        return [
            (_half_sigmas(halves), self._pulled(state, arm, mean + halves * self._half_sigma))
            for halves in range(-_HALVES, _HALVES + 1)
        ]

    def heuristic(self, state: BanditSuiteState, player: int) -> str:
        """UCB1, which knows no more than the player; of equal arms the first."""
        view = self.view(state, player)
        value, bonus = ucb1(np.array(view.counts), np.array(view.totals), scale=view.scale)
        return ascii_lowercase[int(np.argmax(value + bonus))]

    def words(self) -> list[str]:
        """The names of the arms."""
        return list(ascii_lowercase[: self.arms])

    @property
    def _gap(self) -> int:
        return round(100 * self.gap)

    @property
    def _half_sigma(self) -> int:
        return round(50 * self.sigma)

    @property
    def _bests(self) -> list[int]:
        """The best means of the split, in hundredths."""
        if self.instances == "fixed":
            return [50 + self._gap // 2]
        every = range(self._gap + 1, 100)
        return [best for best in every if self.split in ("all", _SPLIT_OF.get(best % 5, "train"))]

    def _start(self, means: Means) -> BanditSuiteState:
        return BanditSuiteState(means, (0,) * self.arms, (0,) * self.arms, (-1, 0), found_late=False)

    def _pulled(self, state: BanditSuiteState, arm: int, paid: int) -> Transition:
        best = max(state.means)
        is_best = state.means[arm] == best
        counts = _added(state.counts, arm, 1)
        pulls = sum(counts)
        late = state.found_late or (is_best and 2 * pulls > self.horizon)
        after = BanditSuiteState(state.means, counts, _added(state.totals, arm, paid), (arm, paid), late)
        parts = {"regret": (best - state.means[arm]) / 100.0, "best": float(is_best)}
        if pulls < self.horizon:
            return Transition(after, {0: paid / 100.0}, parts=parts)
        found = state.means.index(best)
        leads = all(count < counts[found] for place, count in enumerate(counts) if place != found)
        parts |= {"identified": float(leads), "suffix_failure": float(not late)}
        return Transition(after, {0: paid / 100.0}, terminated=True, parts=parts)


def _check_steps(name: str, value: float, low: int, high: int, *, step: int) -> None:
    hundredths = round(100.0 * value) if math.isfinite(value) else -1
    if not low <= hundredths <= high or hundredths % step or abs(100.0 * value - hundredths) > 1e-6:
        raise UserError(
            f"{name} is {low / 100:g} to {high / 100:g} in steps of {step / 100:g}, not {value}; set game.{name}."
        )


def _added(numbers: tuple[int, ...], place: int, amount: int) -> tuple[int, ...]:
    return (*numbers[:place], numbers[place] + amount, *numbers[place + 1 :])


@lru_cache(maxsize=64)
def _half_sigmas(halves: int) -> float:
    """Probability that Gaussian noise, rounded to half a standard deviation and cut off at three, is `halves`."""
    low = -math.inf if halves == -_HALVES else (halves - 0.5) / 2.0
    high = math.inf if halves == _HALVES else (halves + 0.5) / 2.0
    return 0.5 * (math.erf(high / math.sqrt(2.0)) - math.erf(low / math.sqrt(2.0)))


@lru_cache(maxsize=64)
def _prior(arms: int, gap: int, bests: tuple[int, ...], is_drawn: bool) -> tuple[tuple[float, Means], ...]:
    found: dict[Means, float] = {}
    free = arms - 2 if is_drawn else 0
    if sum((best - gap) ** free for best in bests) * arms * (arms - 1) > _MOST_INSTANCES:
        raise GameError(f"A bandit suite with {arms} arms has too many instances to list; draw them.")
    for best in bests:
        second = best - gap
        fillings = _fillings(second, free) if is_drawn else [(second,) * (arms - 2)]
        for filling in fillings:
            weight = 1.0 / (len(bests) * len(fillings) * math.factorial(arms))
            for means, ways in _dealt((best, second, *filling)).items():
                found[means] = found.get(means, 0.0) + weight * ways
    return tuple((weight, means) for means, weight in found.items())


def _fillings(second: int, free: int) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = [()]
    for _ in range(free):
        found = [(*before, mean) for before in found for mean in range(1, second + 1)]
    return found


@lru_cache(maxsize=1024)
def _dealt(means: Means) -> dict[Means, int]:
    """Every order of the means, and how many permutations give it."""
    if not means:
        return {(): 1}
    found: dict[Means, int] = {}
    for place, mean in enumerate(means):
        for rest, ways in _dealt(means[:place] + means[place + 1 :]).items():
            found[(mean, *rest)] = found.get((mean, *rest), 0) + ways
    return found
