"""Counterfactual regret minimisation: an equilibrium as the average of policies that regret."""

import numpy as np

from lapwing.core.errors import UserError
from lapwing.tabular.extensive import ExtensiveGame
from lapwing.tabular.profile_values import move_weights, reach


def cfr(game: ExtensiveGame, iterations: int) -> np.ndarray:
    """Counterfactual regret minimisation; all players are updated at once.

        v_i(I, a) = Σ_{s ∈ I} ρ_{−i}(s) Σ_{moves of a from s} p Π_{j≠i} π_j (r_i + v_i(s'))
        R_{t+1}(I, a) = R_t(I, a) + v_i(I, a) − Σ_b π_t(b | I) v_i(I, b)
        π_{t+1}(a | I) = R⁺(I, a) / Σ_b R⁺(I, b),   uniform where no regret is above 0
        π̄(a | I) ∝ Σ_t ρ_i^{π_t}(I) π_t(a | I)

    In a zero-sum game of two players π̄ goes to a Nash equilibrium as 1/√T.

    Reference: Zinkevich et al. 2007, "Regret Minimization in Games with Incomplete Information".
      https://papers.nips.cc/paper/3306-regret-minimization-in-games-with-incomplete-information

    Args:
      game: the enumerated game; every player has perfect recall.
      iterations: T, at least 1.

    Returns:
      π̄, the average profile, float64 [Q].

    Raises:
      UserError: a view forgets what its player did before, or `iterations` is below 1.
    """
    order = _Order(game, iterations)
    regret, total = np.zeros(game.num_choices), np.zeros(game.num_choices)
    for _ in range(iterations):
        profile = regret_matching(game, regret)
        total += order.own_reach(profile)[game.set_of_choice] * profile
        for player in range(game.num_players):
            regret += _regrets(game, profile, player)
    return _normalised(game, total)


def cfr_plus(game: ExtensiveGame, iterations: int) -> np.ndarray:
    """CFR⁺: regrets never fall below 0, players are updated in turn, and later policies count more.

        Q_{t+1}(I, a) = max(0, Q_t(I, a) + v_i(I, a) − Σ_b π_t(b | I) v_i(I, b))
        π̄(a | I) ∝ Σ_t t ρ_i^{π_t}(I) π_t(a | I)

    Reference: Tammelin 2014, "Solving Large Imperfect Information Games Using CFR+". https://arxiv.org/abs/1407.5042

    Args:
      game: the enumerated game; every player has perfect recall.
      iterations: T, at least 1.

    Returns:
      π̄, the average profile, float64 [Q].

    Raises:
      UserError: as of `cfr`.
    """
    order = _Order(game, iterations)
    regret, total = np.zeros(game.num_choices), np.zeros(game.num_choices)
    for iteration in range(1, iterations + 1):
        for player in range(game.num_players):
            regret = np.maximum(regret + _regrets(game, regret_matching(game, regret), player), 0.0)
        profile = regret_matching(game, regret)
        total += iteration * order.own_reach(profile)[game.set_of_choice] * profile
    return _normalised(game, total)


def regret_matching(game: ExtensiveGame, regret: np.ndarray) -> np.ndarray:
    """Choices in proportion to their positive regrets, all alike in sets where none is positive, float64 [Q]."""
    return _normalised(game, np.maximum(regret, 0.0))


class _Order:
    """The sets from the first decisions on, with the choice that leads to each."""

    def __init__(self, game: ExtensiveGame, iterations: int) -> None:
        if iterations < 1:
            raise UserError(f"CFR needs at least one iteration, not {iterations}.")
        recalled = [game.check_recall(player, everywhere=True) for player in range(game.num_players)]
        self.parent = np.maximum.reduce(recalled)
        self.set_of_choice = game.set_of_choice
        depth = np.zeros(game.num_sets, dtype=np.int64)
        follows = self.parent >= 0
        for _ in range(game.most_steps):
            depth[follows] = depth[self.set_of_choice[self.parent[follows]]] + 1
        self.levels = [np.flatnonzero(depth == level) for level in range(1, int(depth.max(initial=0)) + 1)]

    def own_reach(self, profile: np.ndarray) -> np.ndarray:
        """The product of a player's own choices on the way to each of its sets, [V]."""
        found = np.ones(len(self.parent))
        for level in self.levels:
            before = self.parent[level]
            found[level] = found[self.set_of_choice[before]] * profile[before]
        return found


def _regrets(game: ExtensiveGame, profile: np.ndarray, player: int) -> np.ndarray:
    """The counterfactual regret of each choice of a player, [Q]; 0 in other players' sets."""
    others = move_weights(game, profile, without=player)
    own = game.choice[:, player]
    decides = own >= 0
    full = others * np.where(decides, profile[own], 1.0)
    value = np.zeros(len(game.states))
    gain = np.zeros(len(own))
    for layer in game.layers:
        onward = np.where(game.terminated[layer], 0.0, value[game.target[layer]])
        gain[layer] = game.reward[layer, player] + onward
        np.add.at(value, game.source[layer], full[layer] * gain[layer])
    weighted = reach(game, others)[game.source] * others * gain
    worth = np.bincount(own[decides], weighted[decides], minlength=game.num_choices)
    mean = np.add.reduceat(profile * worth, game.choice_splits[:-1])
    is_own = game.seat[game.set_of_choice] == player
    return np.where(is_own, worth - mean[game.set_of_choice], 0.0)


def _normalised(game: ExtensiveGame, weight: np.ndarray) -> np.ndarray:
    total = np.add.reduceat(weight, game.choice_splits[:-1])[game.set_of_choice]
    return np.where(total > 0.0, weight / np.where(total > 0.0, total, 1.0), game.uniform_profile())
