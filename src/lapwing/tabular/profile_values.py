"""What a profile, the policies of all players together, is worth to each player."""

import numpy as np

from lapwing.core.errors import LapwingError
from lapwing.tabular.extensive import ExtensiveGame


def profile_values(game: ExtensiveGame, profile: np.ndarray) -> np.ndarray:
    """The value of each state to each player, if all follow a profile.

        v_i(s) = Σ_a Π_j π_j(a_j | s) Σ_{s'} p(s' | s, a) (r_i + v_i(s'))     with v = 0 where the game is over

    Reference: Shoham and Leyton-Brown 2008, "Multiagent Systems", section 5.1. http://www.masfoundations.org

    Args:
      game: the enumerated game.
      profile: the probability of each choice, [Q].

    Returns:
      float64 [S, P], in units of reward.

    Raises:
      LapwingError: the profile is of another shape or is no distribution in some information set.
    """
    weight = move_weights(game, checked_profile(game, profile))
    value = np.zeros((len(game.states), game.num_players))
    for layer in game.layers:
        onward = np.where(game.terminated[layer, None], 0.0, value[game.target[layer]])
        np.add.at(value, game.source[layer], weight[layer, None] * (game.reward[layer] + onward))
    return value


def expected_values(game: ExtensiveGame, profile: np.ndarray) -> np.ndarray:
    """The value of a match to each player, float64 [P]: `profile_values` at the starts."""
    return game.start @ profile_values(game, profile)


def move_weights(game: ExtensiveGame, profile: np.ndarray, *, without: int | None = None) -> np.ndarray:
    """The probability of each move, given the state before it.

    Args:
      game: the enumerated game.
      profile: the probability of each choice, [Q].
      without: a player whose own choices count as certain.

    Returns:
      float64 [M].
    """
    weight = game.chance.copy()
    for player in range(game.num_players):
        if player != without:
            choice = game.choice[:, player]
            weight *= np.where(choice >= 0, profile[choice], 1.0)
    return weight


def reach(game: ExtensiveGame, weight: np.ndarray) -> np.ndarray:
    """The probability that a match comes to each state: the sum over all ways of the product of their moves.

    Args:
      game: the enumerated game.
      weight: of each move, [M]. Without one player's choices this is the counterfactual reach.

    Returns:
      float64 [S].
    """
    found = game.start.copy()
    for every in reversed(game.layers):
        layer = every[~game.terminated[every]]
        np.add.at(found, game.target[layer], found[game.source[layer]] * weight[layer])
    return found


def checked_profile(game: ExtensiveGame, profile: np.ndarray) -> np.ndarray:
    """The profile as float64.

    Raises:
      LapwingError: it is of another shape or is no distribution in some information set.
    """
    profile = np.asarray(profile, dtype=np.float64)
    if profile.shape != (game.num_choices,):
        raise LapwingError(f"The profile has shape {profile.shape}, the game has {game.num_choices} choices.")
    total = np.add.reduceat(profile, game.choice_splits[:-1])
    wrong = (np.abs(total - 1.0) > 1e-6) | (np.minimum.reduceat(profile, game.choice_splits[:-1]) < 0.0)
    if wrong.any():
        at = int(wrong.argmax())
        low, high = game.choice_splits[at : at + 2]
        raise LapwingError(
            f"The profile at {game.views[at]} is {profile[low:high].tolist()}; it must be probabilities that sum to 1."
        )
    return profile
