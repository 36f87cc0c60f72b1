"""How far an advantage is from the exact one: bias, variance, agreement."""

from typing import Any, NamedTuple

import numpy as np

from lapwing.core.errors import LapwingError

_BLOCKS = 20


class Accuracy(NamedTuple):
    """The error of an estimate of N advantages, in units of reward where nothing else is said.

    Attributes:
      scale: c of the least-squares fit estimate ≈ exact / c; None if that is not above 0 and finite.
      bias: root of the mean squared conditional bias; 0 where the estimate of the square is not above 0.
      bias_squared, bias_squared_error: its unbiased estimate, which may be below 0, and a standard error.
      action_bias, action_bias_squared, action_bias_squared_error: the same of the part of the bias that differs
        between the actions of a state.
      variance: mse − bias_squared.
      mse: mean squared error.
      covered: share of the steps whose state, time and action were seen in two independent units.
      sign_agreement: share of the steps with |A| > 1e-9 whose estimate has the sign of A; None without such steps.
      rank_correlation: Spearman's, over steps; None if either is constant.
    """

    scale: float | None
    bias: float
    bias_squared: float
    bias_squared_error: float
    action_bias: float
    action_bias_squared: float
    action_bias_squared_error: float
    variance: float
    mse: float
    covered: float
    sign_agreement: float | None
    rank_correlation: float | None


def accuracy(
    estimate: np.ndarray, exact: np.ndarray, place: np.ndarray, action: np.ndarray, unit: np.ndarray, *, rescale: bool
) -> Accuracy:
    """Compare an estimate with the exact advantage, step by step.

        e_n = c Â_n − A_n        c = Σ A² / Σ Â A with `rescale`, else 1
        bias² = Σ_p P(p) (E[e | p])²,   p = state, steps left, retries used and action
        action bias² = bias² − Σ_q P(q) (E[e | q])²,   q = p without the action

    Because the exact advantage is a function of p, E[e | p] is what no number of episodes averages away; a part of it
    that is the same for all actions of a state does not change the mean gradient, and is taken out of the action bias.
    The scale is fitted to the estimate, and not the other way round, because noise in the estimate would shrink it; an
    estimate that is the exact advantage times a number plus noise has no bias.

    The square of a noisy mean is too large, so that squares are means over pairs of steps from different units, which
    are independent; what is not seen in two units is left out of the bias and counted by `covered`.

    Reference: Hoeffding 1948, "A Class of Statistics with Asymptotically Normal Distribution" (U-statistics).
      https://doi.org/10.1214/aoms/1177730196

    Args:
      estimate, exact: advantage of each step, [N].
      place: number of the state, steps left and retries used of each step, [N].
      action: number of the action of each step, [N].
      unit: what is independent of each other: the number of each step's group, or episode, [N].
      rescale: fit the estimate before it is compared, because it is not in units of reward.

    Raises:
      LapwingError: the arrays are empty or of different lengths.
    """
    if not len(estimate) or len({len(column) for column in (estimate, exact, place, action, unit)}) != 1:
        raise LapwingError("An audit needs one estimate, exact value, place, action and unit for each step.")
    together, square = float(estimate @ exact), float(exact @ exact)
    scale = square / together if together > 1e-12 * square > 0 else None
    error = (scale if rescale and scale is not None else 1.0) * estimate - exact
    cell, place, unit = _number(place, action), _number(place), _number(unit)
    of_cells, of_places = _SquaredMeans(error, cell, unit), _SquaredMeans(error, place, unit)
    total, shift = of_cells.estimate(), of_places.estimate()
    without = np.array([(of_cells.estimate(block), of_places.estimate(block)) for block in range(of_cells.blocks)])
    mse = float(np.mean(error**2))
    counts = np.abs(exact) > 1e-9
    return Accuracy(
        scale=scale,
        bias=_root(total),
        bias_squared=total,
        bias_squared_error=_jackknife_error(without[:, 0]),
        action_bias=_root(total - shift),
        action_bias_squared=total - shift,
        action_bias_squared_error=_jackknife_error(without[:, 0] - without[:, 1]),
        variance=mse - total,
        mse=mse,
        covered=of_cells.covered,
        sign_agreement=float(np.mean(np.sign(estimate[counts]) == np.sign(exact[counts]))) if counts.any() else None,
        rank_correlation=_rank_correlation(estimate, exact),
    )


def _number(*columns: np.ndarray) -> np.ndarray:
    index = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        values, inverse = np.unique(column, return_inverse=True)
        index = np.unique(index * len(values) + inverse.reshape(-1), return_inverse=True)[1].reshape(-1)
    return index


def _root(square: float) -> float:
    return float(np.sqrt(max(square, 0.0)))


def _jackknife_error(without: np.ndarray) -> float:
    """The standard error of a number, from what it is without each of B blocks."""
    blocks = len(without)
    return float(np.sqrt((blocks - 1) / blocks * np.sum((without - without.mean()) ** 2))) if blocks > 1 else 0.0


class _SquaredMeans:
    """Σ_c n_c (E[e | c])² / Σ_c n_c, from products of errors of different units, with or without a block of units."""

    def __init__(self, error: np.ndarray, cell: np.ndarray, unit: np.ndarray) -> None:
        units = int(unit.max()) + 1
        pair, index = np.unique(cell * units + unit, return_inverse=True)
        self._cell, self._unit = pair // units, pair % units
        self._total = np.bincount(index.reshape(-1), error)
        self._count = np.bincount(index.reshape(-1)).astype(np.float64)
        self._cells = int(cell.max()) + 1
        self.blocks = min(_BLOCKS, units)
        steps, pairs = self._pairs(slice(None))
        self.covered = float(steps[pairs > 0].sum() / steps.sum())

    def _pairs(self, keep: Any) -> tuple[np.ndarray, np.ndarray]:
        steps = self._add(self._count, keep)
        return steps, steps**2 - self._add(self._count**2, keep)

    def _add(self, values: np.ndarray, keep: Any) -> np.ndarray:
        return np.bincount(self._cell[keep], values[keep], minlength=self._cells)

    def estimate(self, without: int | None = None) -> float:
        keep = slice(None) if without is None else np.flatnonzero(self._unit % self.blocks != without)
        steps, pairs = self._pairs(keep)
        seen = pairs > 0
        product = self._add(self._total, keep) ** 2 - self._add(self._total**2, keep)
        return float(steps[seen] @ (product[seen] / pairs[seen]) / max(steps[seen].sum(), 1.0))


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    from scipy.stats import rankdata

    ranks = [rankdata(values) for values in (first, second)]
    if any(rank.min() == rank.max() for rank in ranks):
        return None
    return float(np.clip(np.corrcoef(*ranks)[0, 1], -1.0, 1.0))
