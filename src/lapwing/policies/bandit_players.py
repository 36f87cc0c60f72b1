"""Players of bandits that read what a player may read: UCB1, LinUCB, Thompson sampling, greedy, and Bayes-optimal."""

import math
from collections.abc import Sequence
from string import ascii_lowercase
from typing import Any

import numpy as np

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.types import Action, Ask, Decision, Memory
from lapwing.games.bandit_suite import BanditSuiteView
from lapwing.games.contextual_bandit import ContextualBanditView, regression
from lapwing.policies.baselines import plain_decision
from lapwing.stats.bandit_index import lin_ucb, ucb1
from lapwing.tabular.bandit_value import BanditValue

_BANDITS = "bandit_suite and contextual_bandit"


class _BanditPlayer:
    """Decides one ask after the other with `choose`."""

    version = 0

    def choose(self, ask: Ask) -> Action:
        raise NotImplementedError

    def act_many(self, asks: Sequence[Ask]) -> list[tuple[Decision, Memory]]:
        """Decide every ask."""
        return [(plain_decision(self.choose(ask)), None) for ask in asks]


class Ucb1(_BanditPlayer):
    """The arm with the largest sum of mean payoff and exploration bonus; every arm once at first, in order."""

    def choose(self, ask: Ask) -> Action:
        """What UCB1 pulls."""
        view = _suite_view(ask, "ucb1")
        value, bonus = ucb1(np.array(view.counts), np.array(view.totals), scale=view.scale)
        return ascii_lowercase[int(np.argmax(value + bonus))]


class LinUcb(_BanditPlayer):
    """The arm with the largest sum of a linear estimate of its payoff and the bonus for its uncertainty."""

    def __init__(self, *, alpha: float = 1.0) -> None:
        """Make the policy.

        Args:
          alpha: weight of the bonus, at least 0.

        Raises:
          UserError: `alpha` is negative or not finite.
        """
        if not 0.0 <= alpha < math.inf:
            raise UserError(f"alpha is at least 0 and finite, not {alpha}.")
        self.alpha = alpha

    def choose(self, ask: Ask) -> Action:
        """What LinUCB pulls."""
        if not isinstance(ask.view, ContextualBanditView):
            raise UserError(f"lin_ucb plays contextual_bandit, not {type(ask.game).__name__}; choose another policy.")
        value, bonus = lin_ucb(*regression(ask.view), alpha=self.alpha)
        return ascii_lowercase[int(np.argmax(value + bonus))]


class Greedy(_BanditPlayer):
    """The arm that paid best so far, with no bonus; every arm once at first, in order."""

    def choose(self, ask: Ask) -> Action:
        """What paid best so far."""
        if isinstance(ask.view, ContextualBanditView):
            gram, moment, context = regression(ask.view)
            value, _ = lin_ucb(gram, moment, context)
            untried = gram[:, 0, 0] == 0
        else:
            view = _suite_view(ask, "greedy")
            value, bonus = ucb1(np.array(view.counts), np.array(view.totals))
            untried = np.isinf(bonus)
        return ascii_lowercase[int(np.argmax(np.where(untried, np.inf, value)))]


class Thompson(_BanditPlayer):
    """Thompson sampling: the best arm of one draw from what is believed.

    Beta(1 + s, 1 + n − s) for arms that pay 1 or 0; Normal(mean, σ² / n) for Gaussian ones, each once at first;
    Normal(A⁻¹ b, A⁻¹ / 4) where the payoff is linear in features, one quarter being the largest variance of a payoff
    in [0, 1]. The draw belongs to the decision's key.

    Reference: Thompson 1933, "On the Likelihood that One Unknown Probability Exceeds Another".
      https://doi.org/10.1093/biomet/25.3-4.285; Agrawal and Goyal 2013, "Thompson Sampling for Contextual Bandits
      with Linear Payoffs". https://arxiv.org/abs/1209.3352
    """

    def choose(self, ask: Ask) -> Action:
        """The best arm of one draw."""
        drawn = rng.generator("thompson", ask.key)
        if isinstance(ask.view, ContextualBanditView):
            return ascii_lowercase[int(np.argmax(_linear_draw(ask.view, drawn)))]
        view = _suite_view(ask, "thompson")
        count, total = np.array(view.counts, dtype=np.float64), np.array(view.totals)
        if view.kind == "bernoulli":
            sample = drawn.beta(1.0 + total, 1.0 + count - total)
        else:
            pulled = np.maximum(count, 1.0)
            sample = total / pulled + view.scale / np.sqrt(pulled) * drawn.standard_normal(len(count))
            sample = np.where(count > 0, sample, np.inf)
        return ascii_lowercase[int(np.argmax(sample))]


class Bayes(_BanditPlayer):
    """What is best for one who knows what instances there are, but not which one it is; short horizons only."""

    def __init__(self) -> None:
        """Make the policy; a game is solved when it is met."""
        self._solved: dict[Any, BanditValue] = {}

    def choose(self, ask: Ask) -> Action:
        """The best arm by what is believed."""
        view = _suite_view(ask, "bayes")
        solved = self._solved.get(ask.game)
        if solved is None:
            solved = self._solved[ask.game] = BanditValue(ask.game)
        totals = tuple(round(total) for total in view.totals)
        return ascii_lowercase[solved.best_arm(view.counts, totals)]


def _suite_view(ask: Ask, name: str) -> BanditSuiteView:
    if not isinstance(ask.view, BanditSuiteView):
        raise UserError(f"{name} plays {_BANDITS if name != 'ucb1' else 'bandit_suite'}; choose another policy.")
    return ask.view


def _linear_draw(view: ContextualBanditView, drawn: np.random.Generator) -> np.ndarray:
    gram, moment, context = regression(view)
    covariance = np.linalg.inv(gram + np.eye(len(context)))
    centre = (covariance @ moment[..., None])[..., 0]
    noise = drawn.standard_normal(moment.shape)
    root = np.linalg.cholesky(covariance)
    return (centre + 0.5 * (root @ noise[..., None])[..., 0]) @ context
