"""How a history of episode returns learns: whether it rises, and whether it does so steadily."""

from collections.abc import Sequence

import numpy as np

from lapwing.core.errors import LapwingError


def improvement(returns: np.ndarray, spread: float) -> float:
    """How much better the last third of a history is than the first.

        I = (mean of the last third − mean of the first third) / spread

    A third is ⌈K/3⌉ episodes. Without spread it is 0.

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: Chen et al. 2025, "Filtering Learning Histories Enhances In-Context Reinforcement Learning" (LHF, whose
      own measures were not read). https://arxiv.org/abs/2505.15143

    Args:
      returns: of the episodes in the order in which they were played, [K], K ≥ 1, finite.
      spread: largest less smallest return in the whole data set, ≥ 0.

    Returns:
      I, in [−1, 1] where the spread covers the history, without a unit.

    Raises:
      LapwingError: there are no returns, or one is not finite.
    """
    returns = _checked(returns)
    third = -(-len(returns) // 3)
    return float((returns[-third:].mean() - returns[:third].mean()) / spread) if spread > 0 else 0.0


def stability(returns: np.ndarray) -> float:
    """How little of a history's movement is downwards.

        S = 1 − Σ max(0, R_i − R_{i+1}) / Σ |R_i − R_{i+1}|

    A history that does not move has 0: it is stable, but nothing can be learnt from it.

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: as of `improvement`. https://arxiv.org/abs/2505.15143

    Args:
      returns: of the episodes in the order in which they were played, [K], K ≥ 1, finite.

    Returns:
      S, in [0, 1], without a unit.

    Raises:
      LapwingError: there are no returns, or one is not finite.
    """
    change = np.diff(_checked(returns))
    moved = np.abs(change).sum()
    return float(1.0 - np.maximum(-change, 0.0).sum() / moved) if moved > 0 else 0.0


def keep_probability(histories: Sequence[np.ndarray], *, weight: float = 1.0, percentile: float = 0.0) -> np.ndarray:
    """With which probability each history of a data set is kept.

        U = I + λ S,   p = (U − min U) / (max U − min U),   0 where U is below the percentile

    Where all U are the same, all are kept.

    Provenance: general knowledge; the constants are Lapwing's choice.

    Reference: as of `improvement`. https://arxiv.org/abs/2505.15143

    Args:
      histories: at least one; each the returns of its episodes in order.
      weight: λ of the stability.
      percentile: in [0, 100); histories whose U is below this percentile of all U are dropped.

    Returns:
      p, float64 [histories], in [0, 1].

    Raises:
      LapwingError: there are no histories, one is empty or not finite, or `percentile` lies out of its range.
    """
    if not histories:
        raise LapwingError("There is no history to keep or drop.")
    if not 0.0 <= percentile < 100.0:
        raise LapwingError(f"percentile must be in [0, 100), but it is {percentile}.")
    spread = float(np.ptp(np.concatenate([_checked(returns) for returns in histories])))
    score = np.array([improvement(returns, spread) + weight * stability(returns) for returns in histories])
    width = np.ptp(score)
    if width <= 1e-12:
        return np.ones(len(score))
    return np.where(score >= np.percentile(score, percentile), (score - score.min()) / width, 0.0)


def _checked(returns: np.ndarray) -> np.ndarray:
    returns = np.asarray(returns, dtype=np.float64)
    if returns.ndim != 1 or not len(returns) or not np.isfinite(returns).all():
        raise LapwingError("A history needs one or more finite returns in one row.")
    return returns
