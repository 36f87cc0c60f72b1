"""Two players who learn from each other in a matrix game that is played again and again."""

import numpy as np

from lapwing.core.errors import LapwingError


def fictitious_play(row_payoff: np.ndarray, column_payoff: np.ndarray, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Both play a best response to what the other has played so far on average; at first to uniform play.

        a_t = argmax_a Σ_{s<t} A[a, b_s],   b_t = argmax_b Σ_{s<t} B[a_s, b],   the first of several

    In zero-sum games the frequencies of play go to an equilibrium, though play itself goes in circles.

    Reference: Brown 1951, "Iterative Solution of Games by Fictitious Play"; Robinson 1951, "An Iterative Method of
      Solving a Game". https://doi.org/10.2307/1969530

    Args:
      row_payoff, column_payoff: A and B, what each player gets, [rows, columns].
      rounds: T, at least 1.

    Returns:
      What each player played in each round as one-hot rows, float64 [T, rows] and [T, columns].
    """
    row_payoff, column_payoff = _checked(row_payoff, column_payoff, rounds)
    rows, columns = row_payoff.shape
    row, column = np.zeros((rounds, rows)), np.zeros((rounds, columns))
    row_gain, column_gain = row_payoff.mean(axis=1), column_payoff.mean(axis=0)
    for t in range(rounds):
        a, b = _first_best(row_gain), _first_best(column_gain)
        row[t, a] = column[t, b] = 1.0
        if t == 0:
            row_gain, column_gain = np.zeros(rows), np.zeros(columns)
        row_gain, column_gain = row_gain + row_payoff[:, b], column_gain + column_payoff[a]
    return row, column


def hedge_play(
    row_payoff: np.ndarray, column_payoff: np.ndarray, rounds: int, *, rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """Both play exponential weights on what each action would have got against the other's mixtures so far.

        x_t ∝ exp(η Σ_{s<t} A y_s),   y_t ∝ exp(η Σ_{s<t} Bᵀ x_s)

    The averages come near an equilibrium of a zero-sum game, because neither regrets much; x_t itself moves away from
    an equilibrium in which actions are mixed.

    Reference: Freund and Schapire 1999, "Adaptive Game Playing Using Multiplicative Weights".
      https://doi.org/10.1006/game.1999.0738; Bailey and Piliouras 2018, "Multiplicative Weights Update in Zero-Sum
      Games". https://doi.org/10.1145/3219166.3219235

    Args:
      row_payoff, column_payoff: A and B, [rows, columns].
      rounds: T, at least 1.
      rate: η, above 0, in inverse units of payoff.

    Returns:
      x and y of each round, float64 [T, rows] and [T, columns].
    """
    row_payoff, column_payoff = _checked(row_payoff, column_payoff, rounds)
    if not 0.0 < rate < np.inf:
        raise LapwingError(f"The rate of Hedge is finite and above 0, not {rate}.")
    rows, columns = row_payoff.shape
    row, column = np.zeros((rounds, rows)), np.zeros((rounds, columns))
    # A slight lean, since uniform play against uniform play would stay where it is.
    row_gain, column_gain = np.eye(rows)[0], np.zeros(columns)
    for t in range(rounds):
        row[t], column[t] = _softmax(rate * row_gain), _softmax(rate * column_gain)
        row_gain, column_gain = row_gain + row_payoff @ column[t], column_gain + row[t] @ column_payoff
    return row, column


def _checked(row_payoff: np.ndarray, column_payoff: np.ndarray, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    row_payoff, column_payoff = np.asarray(row_payoff, dtype=np.float64), np.asarray(column_payoff, dtype=np.float64)
    if row_payoff.ndim != 2 or row_payoff.shape != column_payoff.shape or not row_payoff.size:
        raise LapwingError(
            f"Two payoff matrices of one shape are needed, not {row_payoff.shape} and {column_payoff.shape}."
        )
    if rounds < 1:
        raise LapwingError(f"There is at least one round, not {rounds}.")
    return row_payoff, column_payoff


def _first_best(gain: np.ndarray) -> int:
    return int((gain >= gain.max() - 1e-12).argmax())


def _softmax(gain: np.ndarray) -> np.ndarray:
    weight = np.exp(gain - gain.max())
    return weight / weight.sum()
