"""Optimal play where everybody sees the state: from the end on, state by state; minimax where two play against."""

import numpy as np

from lapwing.core.errors import UserError
from lapwing.tabular.extensive import ExtensiveGame
from lapwing.tabular.matrix_equilibrium import zero_sum_equilibrium

_TIE = 1e-12


def backward_induction(game: ExtensiveGame) -> tuple[np.ndarray, np.ndarray]:
    """A subgame-perfect equilibrium of a game in which every player who decides knows the state.

        one player decides:  a* = argmax_a Σ p (r_i + v_i(s'))                 Zermelo; with two, v(s) = max or min
        two decide at once:  v(s) = max_x min_y xᵀ Q(s) y,   Q(s)_ab = Σ p (r_0 + v_0(s'))        Shapley

    Reference: Zermelo 1913, "Über eine Anwendung der Mengenlehre auf die Theorie des Schachspiels"; Shapley 1953,
      "Stochastic Games". https://doi.org/10.1073/pnas.39.10.1095

    Args:
      game: the enumerated game; where several players decide at once it has two and is zero-sum.

    Returns:
      The value of each state to each player, float64 [S, P], and the profile, float64 [Q]. Of equally good actions the
      first is taken.

    Raises:
      UserError: a player who decides does not know the state, or several decide at once in a game that is not a
        zero-sum game of two.
    """
    if not game.is_observed:
        raise UserError(
            f"{game.name} hides a part of its state from who decides, so that it cannot be solved state by state; its "
            "information sets need the sequence form."
        )
    together = (game.set_of >= 0).sum(axis=1)
    if (together > 1).any() and not game.is_zero_sum:
        raise UserError(
            f"In {game.name} several players decide at once and what one wins is not what the other loses; such a "
            "game may have many equilibria with different values, and none is the optimum."
        )
    value = np.zeros((len(game.states), game.num_players))
    profile = np.zeros(game.num_choices)
    for layer in game.layers:
        onward = np.where(game.terminated[layer, None], 0.0, value[game.target[layer]])
        gain = game.chance[layer, None] * (game.reward[layer] + onward)
        order = np.argsort(game.source[layer], kind="stable")
        states, begins = np.unique(game.source[layer][order], return_index=True)
        for state, rows in zip(states.tolist(), np.split(order, begins[1:]), strict=True):
            value[state] = _solve(game, state, game.choice[layer[rows]], gain[rows], profile)
    return value, profile


def _solve(game: ExtensiveGame, state: int, choice: np.ndarray, gain: np.ndarray, profile: np.ndarray) -> np.ndarray:
    """The value of a state to each player; its part of the profile is filled in."""
    deciders = np.flatnonzero(game.set_of[state] >= 0).tolist()
    if not deciders:
        return gain.sum(axis=0)
    first = [game.choice_splits[game.set_of[state, player]] for player in deciders]
    size = [len(game.legal[game.set_of[state, player]]) for player in deciders]
    total = np.zeros((*size, game.num_players))
    np.add.at(total, tuple((choice[:, deciders] - first).T), gain)
    if len(deciders) == 1:
        worth = total[:, deciders[0]]
        best = int((worth >= worth.max() - _TIE).argmax())
        profile[first[0] + best] = 1.0
        return total[best]
    row, column, worth = zero_sum_equilibrium(total[..., deciders[0]])
    profile[first[0] : first[0] + size[0]] = row
    profile[first[1] : first[1] + size[1]] = column
    return np.array([worth, -worth])
