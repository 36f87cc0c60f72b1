"""The geometric mean of what each party gets, as the outcome."""

import math
from collections.abc import Sequence

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import check_columns, checked
from lapwing.core.columns import PART_PREFIX
from lapwing.core.errors import UserError
from lapwing.core.ragged import segment_sum

SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def gtalign(
    batch: EpisodeBatch,
    *,
    parties: tuple[str, ...] = ("user", "model"),
    shares: tuple[float, ...] = (),
    floor: float = 0.0,
    epsilon: float = 1e-4,
) -> EpisodeBatch:
    """Replace the outcome by the welfare of all parties, which no party's gain can buy from another's loss.

        o′ = Π_p (u_p + ε)^{w_p},   Σ w_p = 1;   0 if a reply of the episode is invalid

    The utility u_p of a party is the sum of a named part of the game's reward over the steps, less `floor`, and at
    least 0. Two parties with equal weights give √((u + ε)(l + ε)), the authors' reward; n parties with equal weights
    the Nash welfare. A party whose utility is always 0 silences the signal of all. Rewards of steps stay as they are:
    where the parts are paid as rewards too they count twice, unless the game's weights of them are 0. The authors'
    utilities of mathematics are length, format and a payoff block in the reasoning; what a text needs for them is
    here as functions: `length_score`, `pareto_front` and `best_response`.

    Provenance: formula and defaults from the authors' code.

    Reference: Zhu et al. 2025, "GTAlign: Game-Theoretic Alignment of LLM Assistants for Mutual Welfare".
      https://arxiv.org/abs/2510.08872; https://github.com/ulab-uiuc/GTAlign

    Args:
      batch: E episodes with N steps, with the columns `part:<party>` [N].
      parties: names of parts of the game's reward, one for each party; at least one.
      shares: w, one for each party, > 0, divided by their sum; empty gives all the same.
      floor: the lowest utility a party can have, finite.
      epsilon: ε ≥ 0, what is left of the welfare where a party gets nothing, in units of utility.

    Returns:
      The batch with another `outcome`, float64 [E], in units of utility.

    Raises:
      UserError: there are no parties, one comes twice, their number is not that of the shares, or a setting lies out
        of its range.
      MissingColumnError: the game reports no such part.
    """
    _check(parties, shares, floor, epsilon)
    check_columns(batch, "gtalign", tuple(PART_PREFIX + name for name in parties))
    utility = np.array([segment_sum(batch.column(PART_PREFIX + name), batch.step_splits) for name in parties])
    welfare = nash_welfare(np.maximum(utility - floor, 0.0), shares, epsilon=epsilon)
    malformed = np.bincount(batch.episode_of_step, weights=~batch.valid, minlength=batch.num_episodes) > 0
    return batch.with_columns(outcome=np.where(malformed, 0.0, welfare))


def nash_welfare(utility: np.ndarray, weights: Sequence[float] = (), *, epsilon: float = 1e-4) -> np.ndarray:
    """The weighted geometric mean of utilities: Π_p (u_p + ε)^{w_p / Σ w}.

    Args:
      utility: u ≥ 0, [parties, …].
      weights: w > 0, one for each party; empty gives all the same.
      epsilon: ε ≥ 0.

    Returns:
      float64 […], in units of utility.
    """
    utility = np.asarray(utility, dtype=np.float64)
    share = np.array(weights or (1.0,) * len(utility), dtype=np.float64)
    share = (share / share.sum()).reshape(-1, *(1,) * (utility.ndim - 1))
    return np.prod((utility + epsilon) ** share, axis=0)


def length_score(length: float, least: float, most: float, *, slope: float = 0.005) -> float:
    """How well a length lies within soft bounds: σ(k (n − least)) · σ(k (most − n)), in (0, 1).

    Args:
      length: n, in words.
      least: soft lower bound; the authors have 20 for a response and 500 for a whole reply.
      most: soft upper bound; 500 and 1000.
      slope: k, per word.
    """
    return _sigmoid(slope * (length - least)) * _sigmoid(slope * (most - length))


def pareto_front(payoffs: Sequence[tuple[float, ...]]) -> list[int]:
    """The payoffs that no other one is at least as good as for every party and better for one, by index."""
    rows = np.asarray(payoffs, dtype=np.float64)
    return [
        i
        for i, row in enumerate(rows)
        if not any((other >= row).all() and (other > row).any() for j, other in enumerate(rows) if j != i)
    ]


def best_response(payoffs: Sequence[tuple[float, float]]) -> int:
    """The index of the payoff (user, model) with the largest sum on the Pareto front.

    Ties go to the user, then to the model, then to the first.
    """
    return max(pareto_front(payoffs), key=lambda i: (sum(payoffs[i]), *payoffs[i], -i))


def _sigmoid(x: float) -> float:
    # In the form that cannot overflow.
    return 0.5 * (1.0 + math.tanh(0.5 * x))


def _check(parties: Sequence[str], weights: Sequence[float], floor: float, epsilon: float) -> None:
    if not parties or not all(parties):
        raise UserError(f"parties must name at least one part of the game's reward, but it is {list(parties)}.")
    if len(set(parties)) < len(parties):
        raise UserError(f"parties names one part twice: {', '.join(parties)}.")
    if weights and len(weights) != len(parties):
        raise UserError(f"There are {len(parties)} parties, but {len(weights)} shares; give one for each.")
    if not all(0.0 < weight < math.inf for weight in weights):
        raise UserError(f"shares must be finite and above 0, but they are {list(weights)}.")
    if not math.isfinite(floor):
        raise UserError(f"floor must be finite, but it is {floor}.")
    if not 0.0 <= epsilon < math.inf:
        raise UserError(f"epsilon must be finite and at least 0, but it is {epsilon}.")
