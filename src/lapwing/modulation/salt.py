"""The advantages of identical transitions of a group, averaged."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import match_index
from lapwing.modulation._levels import one_per_step

LEVEL = "step"
SCOPE = "group"
NEEDS = ()


@checked(*NEEDS)
def salt(
    batch: EpisodeBatch, advantage: np.ndarray, *, history: int = 0, dedupe_per_episode: bool = False
) -> np.ndarray:
    """Give every step the mean advantage of the steps of its group that made the same transition.

        e_t = (group, view_t, action_t, view_{t+1}, the `history` pairs (view, action) before t)
        A′_t = mean { A_u : e_u = e_t }

    A step that success and failure share is drawn towards 0; the step at which they part keeps its credit. The
    advantage that comes in is the base credit of a whole episode (grpo, dr_grpo, rloo). The mean runs over
    occurrences, so that a loop counts each time around. A view or action whose key is 0 matches nothing. A mean that
    is 0 but for rounding is exactly 0; a transition that occurs once keeps its advantage to the last bit.

    With a history h, a step that has fewer than h steps before it matches only steps with the same whole past. The
    merge window of the original could not be read; the formula is that of GRAFT's appendix, and `history` is open to
    ablation (0, 1, 2, −1).

    Provenance: formula from the paper's text; code not seen.

    Reference: SALT 2025 (trajectory graph; step-level advantages from shared transitions).
      https://arxiv.org/abs/2510.20022

    Args:
      batch: N steps in E episodes.
      advantage: per step [N], any unit.
      history: h, how many (view, action) pairs before the step must match too, ≥ 0; −1 = all of them, which merges
        the episodes of a group to the tree of their prefixes.
      dedupe_per_episode: count an episode once per transition, with the mean of its occurrences.

    Returns:
      Advantage of each step, float64 [N], in the unit of `advantage`.

    Raises:
      UserError: `advantage` has not one number per step, or `history` is below −1.
    """
    if history < -1:
        raise UserError(f"history must be at least 0, or -1 for the whole past, but it is {history}.")
    values = one_per_step(batch, advantage, "salt")
    group = batch.group[batch.episode_of_step]
    pair = match_index(group, batch.view_key, batch.action_key, never=0)
    # Equal pairs are of one group, so that the group need not be compared again.
    edge = match_index(pair, batch.next_view_key, never=0)
    if history != 0:
        edge = match_index(edge, *_past(batch, pair, history))
    if not dedupe_per_episode:
        return _mean(values, edge)[edge]
    visit = match_index(batch.episode_of_step, edge)
    edge_of_visit = np.zeros(visit.max(initial=-1) + 1, dtype=np.int64)
    edge_of_visit[visit] = edge
    return _mean(_mean(values, visit), edge_of_visit)[edge]


def _mean(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Mean of the values with each index; exactly 0 where only rounding is left of them."""
    size = np.bincount(index)
    mean = np.bincount(index, weights=values) / size
    scale = np.bincount(index, weights=np.abs(values)) / size
    return np.where(np.abs(mean) > 1e-12 * scale, mean, 0.0)


def _past(batch: EpisodeBatch, pair: np.ndarray, history: int) -> tuple[np.ndarray, ...]:
    """Columns [N] that agree for two steps if and only if the `history` pairs before them do."""
    position = np.arange(batch.num_steps) - batch.step_splits[batch.episode_of_step]
    longest = int(position.max(initial=0))
    past = np.zeros(batch.num_steps, dtype=np.int64)
    if history == -1 or history >= longest:
        # The past of a step is that of the step before it and one pair more: one vector operation per position.
        order = np.argsort(position, kind="stable")
        bounds = np.searchsorted(position[order], np.arange(1, longest + 2))
        for t in range(longest):
            at = order[bounds[t] : bounds[t + 1]]
            past[at] = match_index(past[at - 1], pair[at - 1])
        return position, past
    before = np.maximum(np.arange(batch.num_steps) - 1, 0)
    for _ in range(history):
        # The number 0 stands for "the episode begins here".
        past = match_index(np.where(position > 0, past[before] + 1, 0), np.where(position > 0, pair[before] + 1, 0))
    return (past,)
