"""How regret grows over the steps of an episode."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from lapwing.core.errors import LapwingError
from lapwing.stats.bootstrap import bootstrap
from lapwing.stats.interval import Interval


class Growth(NamedTuple):
    """Shares of two kinds of growth in a regret curve.

    Attributes:
      logarithmic: a, per unit of ln(1 + t).
      linear: b, per step.
      explained: share of the curve's squared height that the two explain, in [0, 1].
    """

    logarithmic: float
    linear: float
    explained: float


def regret_curve(regret: Sequence[Sequence[float]], *, points: int = 20) -> list[tuple[int, Interval]]:
    """Mean summed regret after some of the steps, with intervals over the episodes.

        R_t = mean_e Σ_{s≤t} r_{e,s},   r_{e,s} = μ* − μ of the arm that episode e pulled at step s

    The steps are spread evenly, and the first and the last are among them. An episode that ended before step t counts
    with all that it has.

    Reference: Nie et al. 2024, "EVOLvE: Evaluating and Optimizing LLMs For Exploration".
      https://arxiv.org/abs/2410.06238

    Args:
      regret: r, one finite number for each step of each episode, in units of reward.
      points: at most so many steps, at least 2.

    Returns:
      (t, R_t with its 95 % bootstrap interval), t = 1 … the length of the longest episode.

    Raises:
      LapwingError: there is no episode, or one has no steps or a number that is not finite.
    """
    if not regret or not all(len(episode) for episode in regret):
        raise LapwingError("A regret curve needs episodes of at least one step.")
    longest = max(len(episode) for episode in regret)
    steps = np.unique(np.round(np.linspace(1, longest, min(points, longest))).astype(int))
    summed = [np.cumsum(np.asarray(episode, dtype=np.float64)) for episode in regret]
    table = np.array([[total[min(t, len(total)) - 1] for t in steps] for total in summed])
    if not np.isfinite(table).all():
        raise LapwingError("A regret curve needs finite regrets.")
    return [(int(t), bootstrap(column)) for t, column in zip(steps, table.T, strict=True)]


def regret_growth(step: np.ndarray, regret: np.ndarray) -> Growth:
    """How much of a regret curve grows like a logarithm, and how much like a line.

        min_{a, b ≥ 0} Σ_t (R_t − a ln(1 + t) − b t)²

    Exploration that settles on the best arm has b = 0; who keeps pulling worse arms has a regret that is linear. This
    is EVOLvE's question asked of the simplest model: its own fit has further exponents.

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Nie et al. 2024, "EVOLvE: Evaluating and Optimizing LLMs For Exploration".
      https://arxiv.org/abs/2410.06238

    Args:
      step: t ≥ 1, [points].
      regret: R_t, same shape, in units of reward.

    Returns:
      a, b and the explained share; all 0 of a regret that is 0.

    Raises:
      LapwingError: the shapes differ or there are fewer than two points.
    """
    step, regret = np.asarray(step, dtype=np.float64), np.asarray(regret, dtype=np.float64)
    if step.ndim != 1 or step.shape != regret.shape or len(step) < 2:
        raise LapwingError("The growth of a regret needs two points or more, each with a step.")
    height = float(regret @ regret)
    if height == 0.0:
        return Growth(0.0, 0.0, 0.0)
    (logarithmic, linear), residual = nnls(np.stack([np.log1p(step), step], axis=1), regret)
    return Growth(float(logarithmic), float(linear), 1.0 - residual**2 / height)
