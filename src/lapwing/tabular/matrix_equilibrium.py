"""Equilibria of a matrix game, a single simultaneous decision of two players."""

import numpy as np
from scipy.optimize import linprog

from lapwing.core.errors import LapwingError


def zero_sum_equilibrium(payoff: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """An equilibrium of a zero-sum game and its value, by linear programming.

        max_{x, v} v   such that   Σ_a x_a A_ab ≥ v for every b,   x a distribution        (the column's: of −Aᵀ)

    Reference: von Neumann 1928, "Zur Theorie der Gesellschaftsspiele"; Shoham and Leyton-Brown 2008, "Multiagent
      Systems", section 4.1. http://www.masfoundations.org

    Args:
      payoff: A, what the row player gets and the column player loses, [rows, columns], finite.

    Returns:
      The row player's mixture, the column player's, and the value to the row player.

    Raises:
      LapwingError: the payoff is no matrix of finite numbers.
    """
    payoff = np.asarray(payoff, dtype=np.float64)
    if payoff.ndim != 2 or not payoff.size or not np.isfinite(payoff).all():
        raise LapwingError("A matrix game needs a matrix of finite payoffs.")
    row, value = _maximin(payoff)
    column, _ = _maximin(-payoff.T)
    return row, column, value


def pure_equilibria(row_payoff: np.ndarray, column_payoff: np.ndarray) -> list[tuple[int, int]]:
    """The cells in which nobody gains by another action, in their order; there may be none.

    Args:
      row_payoff, column_payoff: what each player gets, [rows, columns].
    """
    row_payoff, column_payoff = np.asarray(row_payoff), np.asarray(column_payoff)
    is_best = (row_payoff == row_payoff.max(axis=0)) & (column_payoff == column_payoff.max(axis=1, keepdims=True))
    return [(int(a), int(b)) for a, b in np.argwhere(is_best)]


def matrix_gains(
    row_payoff: np.ndarray, column_payoff: np.ndarray, row: np.ndarray, column: np.ndarray
) -> tuple[float, float]:
    """What each player would gain by a best response to the other's mixture: (δ_row, δ_column), both 0 in equilibrium.

        δ_row = max_a (A y)_a − xᵀ A y,   δ_column = max_b (xᵀ B)_b − xᵀ B y

    Args:
      row_payoff, column_payoff: A and B, [rows, columns].
      row, column: x and y.
    """
    against_column, against_row = row_payoff @ column, row @ column_payoff
    return (
        float(against_column.max() - row @ against_column),
        float(against_row.max() - against_row @ column),
    )


def _maximin(payoff: np.ndarray) -> tuple[np.ndarray, float]:
    rows, columns = payoff.shape
    solved = linprog(
        np.append(np.zeros(rows), -1.0),
        A_ub=np.hstack([-payoff.T, np.ones((columns, 1))]),
        b_ub=np.zeros(columns),
        A_eq=np.append(np.ones(rows), 0.0)[None],
        b_eq=np.ones(1),
        bounds=[(0.0, None)] * rows + [(None, None)],
    )
    if not solved.success:
        raise LapwingError(f"The linear programme of a matrix game was not solved: {solved.message}")
    mixture = np.maximum(solved.x[:-1], 0.0)
    return mixture / mixture.sum(), float(solved.x[-1])
