"""An equilibrium of a zero-sum game with hidden information, by one linear programme for each player."""

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from lapwing.core.errors import LapwingError, UserError
from lapwing.tabular.extensive import ExtensiveGame
from lapwing.tabular.profile_values import reach


def sequence_form(game: ExtensiveGame) -> tuple[float, np.ndarray]:
    """The value and an equilibrium of a zero-sum game of two players with perfect recall.

    A sequence is the list of a player's own choices so far; with perfect recall its last one tells it. The plan x gives
    each sequence the product of the choices' probabilities, which makes the payoff xᵀ A y bilinear:

        max_{x, v} v_∅   such that   x_∅ = 1,   Σ_{a ∈ I} x_a = x_{before I},
                                     v_{set of q} ≤ Σ_{J after q} v_J + Σ_p A_pq x_p   for every sequence q of the other

    Reference: Koller, Megiddo and von Stengel 1996, "Efficient Computation of Equilibria for Extensive Two-Person
      Games". https://doi.org/10.1006/game.1996.0051

    Args:
      game: the enumerated game.

    Returns:
      The value of a match to seat 0, and a profile, float64 [Q]; uniform in sets that their player never comes to.

    Raises:
      UserError: the game is not a zero-sum game of two, or a view forgets what its player did before.
    """
    if not game.is_zero_sum:
        raise UserError(
            f"{game.name} is not a zero-sum game of two players; such a game may have many equilibria with different "
            "values, and none is the optimum."
        )
    plans = [_Sequences(game, player) for player in (0, 1)]
    moves = game.chance * reach(game, game.chance)[game.source] * game.reward[:, 0]
    payoff = sparse.coo_array(
        (moves, (plans[0].of_moves, plans[1].of_moves)), shape=(plans[0].count, plans[1].count)
    ).tocsr()
    first, value = _best_plan(payoff, plans[0], plans[1])
    second, _ = _best_plan(-payoff.T.tocsr(), plans[1], plans[0])
    return value, plans[0].behaviour(first) + plans[1].behaviour(second)


class _Sequences:
    """The sequences of one player: number 0 is the empty one, then one for each of its choices."""

    def __init__(self, game: ExtensiveGame, player: int) -> None:
        recalled = game.check_recall(player, everywhere=True)
        least, most = game.last_choices(player)
        own = game.choice[:, player]
        if (least < most)[game.source[own < 0]].any():
            raise UserError(
                f"In {game.name} states are alike after different choices of seat {player}; its equilibrium cannot be "
                "computed in sequence form."
            )
        self.game = game
        self.choices = np.flatnonzero(game.seat[game.set_of_choice] == player)
        self.count = len(self.choices) + 1
        number = np.zeros(game.num_choices + 1, dtype=np.int64)
        number[self.choices] = np.arange(1, self.count)
        # −1, for no choice yet, is the last entry: sequence 0.
        self.of_moves = number[np.where(own >= 0, own, most[game.source])]
        self.sets = np.flatnonzero(game.seat == player)
        self.before = number[recalled[self.sets]]
        self.set_of = np.searchsorted(self.sets, game.set_of_choice[self.choices])

    def behaviour(self, plan: np.ndarray) -> np.ndarray:
        """[Q] the probability of each of the player's choices; 0 for other players'."""
        found = np.zeros(self.game.num_choices)
        before = plan[self.before][self.set_of]
        sizes = np.bincount(self.set_of)[self.set_of]
        found[self.choices] = np.where(before > 1e-12, plan[1:] / np.maximum(before, 1e-12), 1.0 / sizes)
        total = np.add.reduceat(found, self.game.choice_splits[:-1])[self.game.set_of_choice]
        return found / np.where(total > 0.0, total, 1.0)


def _best_plan(payoff: sparse.csr_array, own: _Sequences, other: _Sequences) -> tuple[np.ndarray, float]:
    """The plan of one player that is best against the worst of the other, and what it is worth."""
    values = len(other.sets) + 1  # of the other's sets, and v_∅ at the end
    sequence = np.arange(other.count)
    set_of = np.append(values - 1, other.set_of)
    lies_in = sparse.coo_array((np.ones(other.count), (sequence, set_of)), shape=(other.count, values))
    follows = sparse.coo_array(
        (np.ones(values - 1), (other.before, np.arange(values - 1))), shape=(other.count, values)
    )
    sets = np.arange(len(own.sets))
    inside = sparse.coo_array((np.ones(own.count - 1), (own.set_of, np.arange(1, own.count))), (len(sets), own.count))
    ahead = sparse.coo_array((np.ones(len(sets)), (sets, own.before)), shape=(len(sets), own.count))
    is_root = sparse.coo_array(([1.0], ([0], [0])), shape=(1, own.count + values))
    plan_rows = sparse.hstack([inside - ahead, sparse.coo_array((len(sets), values))])
    solved = linprog(
        np.append(np.zeros(own.count + values - 1), -1.0),
        A_ub=sparse.hstack([-payoff.T, lies_in - follows]).tocsr(),
        b_ub=np.zeros(other.count),
        A_eq=sparse.vstack([plan_rows, is_root]).tocsr(),
        b_eq=np.append(np.zeros(len(sets)), 1.0),
        bounds=[(0.0, None)] * own.count + [(None, None)] * values,
    )
    if not solved.success:
        raise LapwingError(f"The linear programme of an extensive game was not solved: {solved.message}")
    return np.maximum(solved.x[: own.count], 0.0), float(-solved.fun)
