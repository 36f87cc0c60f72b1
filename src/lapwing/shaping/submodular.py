"""Rewards with diminishing returns: what a step adds to the set of what its episode has seen."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import match_index

SCOPE = "group"
NEEDS = ()

_ITEMS = ("next_view", "action", "transition")


@checked(*NEEDS)
def submodular(
    batch: EpisodeBatch, *, items: str = "next_view", cap: int = 1, weight: float = 1.0, own_weight: float = 1.0
) -> EpisodeBatch:
    """Add to every step the marginal gain of a set function over what the episode has seen.

        r′_t = own · r_t + weight · (F(S_t ∪ {x_t}) − F(S_t)),   F(S) = Σ_x min(n_x(S), cap)

    n_x counts how often x was seen. cap = 1 is coverage, the number of different items, so that a revisit pays
    nothing; a larger one pays the first `cap` visits. Marginal gains add up to F of the whole episode less that of
    what it began with, so that credit with discount 1 is the gradient of the method; with a smaller one the sum no
    longer telescopes. Items are the views that steps lead to (the view at the start is seen already), actions, or
    both as pairs. A key of 0 matches nothing and earns nothing, or else invalid actions could be farmed. A view that
    shows a clock is new every time. The reward depends on the history, so that a policy that sees the state only
    cannot tell what is left to earn. own = 0 is the method alone; the outcome stays as it is.

    Provenance: formula and defaults from the authors' code.

    Reference: Prajapat et al. 2023, "Submodular Reinforcement Learning" (SubPO). https://arxiv.org/abs/2307.13372;
      https://github.com/manish-pra/non-additive-RL

    Args:
      batch: N steps in E episodes.
      items: "next_view", "action" or "transition" (view and action), what is counted.
      cap: how many visits to an item pay, ≥ 1.
      weight: of the gains, finite, in units of reward per item.
      own_weight: of the rewards that the game pays, finite.

    Returns:
      The batch with another `reward`, float64 [N], in units of reward.

    Raises:
      UserError: `items` is unknown, `cap` is below 1, or a weight is not finite.
    """
    if items not in _ITEMS:
        raise UserError(f"There are no items '{items}'; valid names: {', '.join(_ITEMS)}.")
    if cap < 1:
        raise UserError(f"cap must be at least 1, but it is {cap}.")
    for name, value in (("weight", weight), ("own_weight", own_weight)):
        if not math.isfinite(value):
            raise UserError(f"{name} must be finite, but it is {value}.")
    gain = (_visit_number(batch, items) < cap).astype(np.float64)
    return batch.with_columns(reward=own_weight * batch.reward + weight * gain)


def coverage(seen: Iterable[Sequence]) -> float:
    """The number of different items in all the sets."""
    return float(len(set().union(*map(set, seen))))


def capped_counts(seen: Iterable[Sequence], cap: int) -> float:
    """Σ_x min(n_x, cap), where n_x is how many of the sets hold x."""
    held = [item for items in seen for item in set(items)]
    return float(sum(min(held.count(item), cap) for item in set(held)))


def facility_location(similarity: np.ndarray, chosen: Sequence[int]) -> float:
    """How well the chosen items stand for all: Σ_j max_{i ∈ chosen} similarity_ij, 0 for none.

    Args:
      similarity: [items, points], ≥ 0.
      chosen: items.
    """
    return float(np.max(similarity[list(chosen)], axis=0).sum()) if len(chosen) else 0.0


def log_det(kernel: np.ndarray, chosen: Sequence[int], *, noise: float = 1.0) -> float:
    """The information in the chosen items: log det(I + K_chosen / noise), 0 for none.

    Args:
      kernel: positive semi-definite, [items, items].
      chosen: items; one that comes twice counts once.
      noise: > 0.
    """
    index = sorted(set(chosen))
    return float(np.linalg.slogdet(np.eye(len(index)) + kernel[np.ix_(index, index)] / noise)[1])


def marginal_gains(function: Callable[[Sequence], float], visits: Sequence) -> np.ndarray:
    """What each visit adds to a set function: F(first t visits) − F(first t − 1), float64 [visits].

    They add up to F(all) − F(none).
    """
    totals = [function(visits[:t]) for t in range(len(visits) + 1)]
    return np.diff(np.array(totals, dtype=np.float64))


def _visit_number(batch: EpisodeBatch, items: str) -> np.ndarray:
    """How often the step's item was seen before in its episode, float64 [N]; ∞ for an item without a key."""
    if items == "next_view":
        # The view at the start stands before the first step.
        item = np.insert(batch.next_view_key, batch.step_splits[:-1], batch.view_key[batch.step_splits[:-1]])
        steps = np.arange(batch.num_steps) + batch.episode_of_step + 1
        episode = np.insert(batch.episode_of_step, batch.step_splits[:-1], np.arange(batch.num_episodes))
        number = _occurrence(match_index(episode, item))
        return np.where(item == 0, np.inf, number)[steps]
    columns = [batch.action_key] if items == "action" else [batch.view_key, batch.action_key]
    number = _occurrence(match_index(batch.episode_of_step, *columns))
    return np.where(np.any([column == 0 for column in columns], axis=0), np.inf, number)


def _occurrence(index: np.ndarray) -> np.ndarray:
    """How many equal numbers stand before each, float64."""
    order = np.argsort(index, kind="stable")
    ordered = index[order]
    number = np.zeros(len(index))
    number[order] = np.arange(len(index)) - np.searchsorted(ordered, ordered)
    return number
