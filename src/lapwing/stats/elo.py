"""Strength on the Elo scale, from who scored how much against whom."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, ndtri

from lapwing.core.errors import LapwingError
from lapwing.stats.interval import check_confidence

# A player 400 points stronger is expected to score 10 of 11.
_POINTS = 400.0 / math.log(10.0)
_MOST_STEPS = 200


class Ratings(NamedTuple):
    """Ratings with their intervals.

    Attributes:
      rating: of each player, [n], in Elo points.
      low, high: bounds of the interval, [n]; the anchor has no width.
    """

    rating: np.ndarray
    low: np.ndarray
    high: np.ndarray


def expected_score(first: float, second: float) -> float:
    """What the first of two ratings is expected to score in a match: 1 / (1 + 10^((second − first) / 400))."""
    return float(expit((first - second) / _POINTS))


def elo(
    score: np.ndarray,
    *,
    anchor: int = 0,
    anchor_rating: float = 1000.0,
    virtual_draws: float = 1.0,
    confidence: float = 0.95,
) -> Ratings:
    """Maximum likelihood of the Bradley–Terry model, on the Elo scale.

        P(i beats j) = 1 / (1 + 10^((R_j − R_i) / 400)),   a draw counts as half a win for either
        maximise  Σ_{i≠j} s_ij ln P(i beats j),   R_anchor fixed

    The interval is that of the normal approximation, R ± z √(I⁻¹), where I is the Fisher information of the ratings
    beside the anchor's. A draw varies less than a win or a loss, so that with draws it is too wide.

    A player who won or lost every match has no finite rating. `virtual_draws` are added to each pair that has met: a
    weak prior that all are equal, which keeps ratings finite and pulls them together by less the more is played. With
    0 it is the plain maximum.

    Reference: Bradley and Terry 1952, "Rank Analysis of Incomplete Block Designs: I. The Method of Paired Comparisons".
      https://doi.org/10.2307/2334029; Hunter 2004, "MM algorithms for generalized Bradley-Terry models".
      https://doi.org/10.1214/aos/1079120141

    Args:
      score: s, what player i scored against player j: wins plus half of the draws, [n, n], the diagonal is not read.
      anchor: whose rating is given.
      anchor_rating: that rating, in points.
      virtual_draws: draws added to each pair that has met, ≥ 0.
      confidence: of the intervals, in (0, 1).

    Returns:
      Ratings in points.

    Raises:
      UserError: `confidence` lies outside (0, 1).
      LapwingError: the table is none, players are not linked by matches, or without virtual draws there is no finite
        maximum.
    """
    check_confidence(confidence)
    wins = _checked(score, anchor, virtual_draws)
    n = len(wins)
    free = np.array([player for player in range(n) if player != anchor])
    played = wins + wins.T
    rating = np.zeros(n)
    for _ in range(_MOST_STEPS):
        chance = expit(rating[:, None] - rating[None, :])
        gradient = (wins - played * chance).sum(axis=1)
        information = _information(played, chance)
        step = np.zeros(n)
        step[free] = np.linalg.solve(information[np.ix_(free, free)], gradient[free])
        # Far from the maximum the likelihood is no parabola.
        rating += step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-300))
        if np.abs(step).max() < 1e-12:
            break
    chance = expit(rating[:, None] - rating[None, :])
    deviation = np.zeros(n)
    covariance = np.linalg.inv(_information(played, chance)[np.ix_(free, free)])
    deviation[free] = np.sqrt(np.diag(covariance))
    half = float(ndtri(0.5 + confidence / 2.0)) * _POINTS * deviation
    points = anchor_rating + _POINTS * rating
    return Ratings(points, points - half, points + half)


def sequential_elo(
    players: int,
    results: Iterable[tuple[int, int, float]],
    *,
    factor: float = 32.0,
    start: float = 1000.0,
    fixed: Sequence[int] = (),
) -> np.ndarray:
    """Elo's own update, match by match: a moving estimate for players who change, such as a policy that learns.

        R_i ← R_i + K (s − E),   R_j ← R_j − K (s − E),   E = 1 / (1 + 10^((R_j − R_i) / 400))

    Reference: Elo 1978, "The Rating of Chessplayers, Past and Present", section 1.6.

    Args:
      players: their number.
      results: (i, j, s) for each match in order; s is 1, ½ or 0 for a win, a draw or a loss of i.
      factor: K, above 0, in points.
      start: rating of everybody at first.
      fixed: players whose rating stays.

    Returns:
      Ratings after the last match, float64 [players].

    Raises:
      LapwingError: there is no such player, a player meets itself, or a score lies outside [0, 1].
    """
    if not 0.0 < factor < math.inf:
        raise LapwingError(f"The factor of an Elo update is above 0, not {factor}.")
    rating = np.full(players, float(start))
    stays = set(fixed)
    for first, second, score in results:
        if first == second or not (0 <= first < players and 0 <= second < players) or not 0.0 <= score <= 1.0:
            raise LapwingError(f"({first}, {second}, {score}) is no result of two of {players} players.")
        change = factor * (score - expected_score(rating[first], rating[second]))
        rating[first] += 0.0 if first in stays else change
        rating[second] -= 0.0 if second in stays else change
    return rating


def _checked(score: np.ndarray, anchor: int, virtual_draws: float) -> np.ndarray:
    """The scores with virtual draws and an empty diagonal."""
    wins = np.array(score, dtype=np.float64)
    n = len(wins)
    if wins.ndim != 2 or wins.shape != (n, n) or n < 2:
        raise LapwingError(f"Ratings need a table of scores of at least two players, not one of shape {wins.shape}.")
    np.fill_diagonal(wins, 0.0)
    if not np.isfinite(wins).all() or (wins < 0).any():
        raise LapwingError("Scores are finite and at least 0.")
    if not 0 <= anchor < n or not 0.0 <= virtual_draws < math.inf:
        raise LapwingError(f"Ratings need an anchor among {n} players and virtual draws ≥ 0.")
    met = (wins + wins.T) > 0
    wins = wins + 0.5 * virtual_draws * met
    reach = _reaches(wins > 0)
    if not reach.all():
        linked = _reaches(met).all()
        why = (
            "somebody won or lost everything against all others, and has no finite rating; add virtual draws"
            if linked
            else "some of them never met, not even through others"
        )
        raise LapwingError(f"The players cannot be rated: {why}.")
    return wins


def _reaches(linked: np.ndarray) -> np.ndarray:
    """Who comes to whom along the links, [n, n]."""
    reach = linked | np.eye(len(linked), dtype=bool)
    for _ in range(len(linked).bit_length()):
        reach = reach @ reach
    return reach


def _information(played: np.ndarray, chance: np.ndarray) -> np.ndarray:
    weight = played * chance * (1.0 - chance)
    return np.diag(weight.sum(axis=1)) - weight
