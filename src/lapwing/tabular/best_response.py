"""The best that one player can do against all others, knowing no more than its views tell."""

from dataclasses import dataclass

import numpy as np

from lapwing.tabular.extensive import ExtensiveGame
from lapwing.tabular.profile_values import checked_profile, move_weights, reach

# Of choices that differ by no more the first is taken.
_TIE = 1e-12


@dataclass(frozen=True, eq=False)
class BestResponse:
    """A pure best response.

    Attributes:
      value: of a match to the player.
      profile: [Q] the profile with the player's part replaced by its best response.
      state_value: [S] of each state to the player.
    """

    value: float
    profile: np.ndarray
    state_value: np.ndarray


def best_response(game: ExtensiveGame, profile: np.ndarray, player: int) -> BestResponse:
    """The best response of one player to a profile, over its information sets.

        a*(I) = argmax_a Σ_{s ∈ I} ρ_{−i}(s) Σ_{moves of a from s} p Π_{j≠i} π_j (r_i + v_i(s')),   I from the end on

    with the counterfactual reach ρ_{−i}(s): the product of chance and the other players' choices on the way to s,
    summed over the ways. A set with one state needs no weight, so that in games where every player sees the state this
    is value iteration on the states, however many histories lead to them. Where several states look the same, the
    player has to remember its own choices (perfect recall), since otherwise the weights would depend on what it does.

    Reference: Johanson et al. 2011, "Accelerating Best Response Calculation in Large Extensive Games", section 3.
      https://www.ijcai.org/Proceedings/11/Papers/054.pdf

    Args:
      game: the enumerated game.
      profile: the probability of each choice, [Q]; of `player` nothing is read.
      player: who responds.

    Returns:
      The response; where choices are equally good, or a set is never reached, the first of them.

    Raises:
      UserError: a set of the player holds several states, and its view forgets what the player did before.
    """
    profile = checked_profile(game, profile)
    game.check_recall(player)
    others = move_weights(game, profile, without=player)
    own, sets = game.choice[:, player], game.set_of[:, player]
    several = (sets >= 0) & (game.states_in_set[sets] > 1)
    weight = np.where(several, reach(game, others), 1.0)
    value = np.zeros(len(game.states))
    chosen = np.full(game.num_sets, -1, dtype=np.int64)
    for layer in game.layers_of(player):
        onward = np.where(game.terminated[layer], 0.0, value[game.target[layer]])
        gain = others[layer] * (game.reward[layer, player] + onward)
        source, at = game.source[layer], own[layer]
        decides = at >= 0
        total = np.bincount(at[decides], (weight[source] * gain)[decides], minlength=game.num_choices)
        for number in np.unique(sets[source[decides]]).tolist():
            low, high = game.choice_splits[number : number + 2]
            chosen[number] = low + _first_best(total[low:high])
        taken = ~decides | (at == chosen[sets[source]])
        np.add.at(value, source[taken], gain[taken])
    response = profile.copy()
    is_own = game.seat[game.set_of_choice] == player
    response[is_own] = (np.arange(game.num_choices) == chosen[game.set_of_choice])[is_own]
    return BestResponse(value=float(game.start @ value), profile=response, state_value=value)


def _first_best(total: np.ndarray) -> int:
    return int((total >= total.max() - _TIE).argmax())
