"""The best that can be expected of a bandit by those who know what instances there are, but not which one it is."""

import math
from typing import Any

import numpy as np

from lapwing.core.errors import UserError

_MOST_STATES = 200_000
_Tally = tuple[tuple[int, ...], tuple[int, ...]]


class BanditValue:
    """Bayes-optimal play of a bandit suite with payoffs 0 and 1, by enumeration of what may be seen.

        V(n, s) = max_a  p_a (1 + V(n + e_a, s + e_a)) + (1 − p_a) V(n + e_a, s),   p_a = E[μ_a | n, s]

    The counts n and the payoffs s are all that a player can know, and the belief follows from them: an instance has
    the weight prior · Π_a μ_a^{s_a} (1 − μ_a)^{n_a − s_a}. No policy that is not told the instance has a larger
    expected return.

    Reference: Berry and Fristedt 1985, "Bandit Problems: Sequential Allocation of Experiments", chapter 2.
      https://doi.org/10.1007/978-94-015-3711-7
    """

    def __init__(self, game: Any, *, max_states: int = _MOST_STATES) -> None:
        """Prepare; values are computed when they are asked for.

        Args:
          game: a `BanditSuite` of kind "bernoulli".
          max_states: refuse a game with more counts and payoffs than this.

        Raises:
          UserError: the payoffs are not 0 and 1, or there are too many counts.
          GameError: there are too many instances to list.
        """
        if game.kind != "bernoulli":
            raise UserError("The Bayes-optimal value is computed for payoffs of 0 and 1; set game.kind = 'bernoulli'.")
        states = num_tallies(game.arms, game.horizon)
        if states > max_states:
            raise UserError(
                f"{game.arms} arms and {game.horizon} pulls have {states:,} counts and payoffs, more than "
                f"{max_states:,}; lower game.arms or game.horizon."
            )
        prior = game.prior()
        self.horizon: int = game.horizon
        self._arms: int = game.arms
        means = np.array([means for _, means in prior], dtype=np.float64) / 100.0
        self._means = means
        self._log_weight = np.log([weight for weight, _ in prior])
        self._log_pays, self._log_fails = np.log(means), np.log1p(-means)
        self._known: dict[_Tally, tuple[float, int]] = {}

    def value(self) -> float:
        """The expected return of Bayes-optimal play from the start."""
        return self._solve((0,) * self._arms, (0,) * self._arms)[0]

    def best_arm(self, counts: tuple[int, ...], payoffs: tuple[int, ...]) -> int:
        """The arm to pull after these counts and payoffs; of equal ones the first.

        Args:
          counts: how often each arm was pulled; fewer in all than the horizon.
          payoffs: what each paid in all.
        """
        return self._solve(counts, payoffs)[1]

    def belief(self, counts: tuple[int, ...], payoffs: tuple[int, ...]) -> np.ndarray:
        """The expected mean of each arm after these counts and payoffs, [arms]."""
        n, s = np.array(counts), np.array(payoffs)
        log_weight = self._log_weight + self._log_pays @ s + self._log_fails @ (n - s)
        weight = np.exp(log_weight - log_weight.max())
        return weight @ self._means / weight.sum()

    def _solve(self, counts: tuple[int, ...], payoffs: tuple[int, ...]) -> tuple[float, int]:
        if sum(counts) == self.horizon:
            return 0.0, 0
        found = self._known.get((counts, payoffs))
        if found is None:
            values = []
            for arm, chance in enumerate(self.belief(counts, payoffs).tolist()):
                pulled = _one_more(counts, arm)
                paid = 1.0 + self._solve(pulled, _one_more(payoffs, arm))[0]
                values.append(chance * paid + (1.0 - chance) * self._solve(pulled, payoffs)[0])
            # Rounding must not decide between arms that symmetry makes equal.
            best = max(values)
            arm = next(arm for arm, value in enumerate(values) if value >= best - 1e-12)
            found = self._known[counts, payoffs] = (best, arm)
        return found


def num_tallies(arms: int, horizon: int) -> int:
    """How many counts and payoffs there can be before the last pull: 2 · arms numbers that sum to less than horizon."""
    return math.comb(horizon - 1 + 2 * arms, 2 * arms)


def _one_more(numbers: tuple[int, ...], place: int) -> tuple[int, ...]:
    return (*numbers[:place], numbers[place] + 1, *numbers[place + 1 :])
