"""Pairs of episodes by outcome first and by process second."""

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.pair_batch import PairBatch
from lapwing.core.ragged import segment_mean
from lapwing.pairing._groups import differs, joined, members, part_of_steps

SCOPE = "group"
NEEDS = ("success",)


@checked(*NEEDS)
def outcome_first(batch: EpisodeBatch, *, part: str = "") -> PairBatch:
    """Prefer the episode that succeeded, and of two that fared alike the one whose steps were judged better.

        o_i ≠ o_j:  the episode with o = 1 wins,  w = 1
        o_i = o_j:  the one with the larger p wins,  w = |p_i − p_j|;   p_i = p_j: no pair

    o is the column `success`. p is the mean over an episode's steps of a named part of the reward, such as a judge's
    verdict 0 or 1 on each step (then p is the share of steps that were judged right), or of the reward itself. All
    pairs of a group are formed. The weights are those of p: a process that is paid more than 1 a step weighs more than
    the outcome.

    Provenance: formula from a paper note; code not seen.

    Reference: Zhou et al. 2025, "StepORLM: A Self-Evolving Framework With Generative Process Supervision For Operations
      Research Language Models". https://arxiv.org/abs/2509.22558

    Args:
      batch: E episodes, with the column `success` [E].
      part: the named part of the reward that judges the steps; empty for the reward itself.

    Returns:
      The pairs, with chosen, rejected, weight and margin [P]; the margin is the weight.

    Raises:
      UserError: the game has no notion of success, or pays no such part.
    """
    judged = part_of_steps(batch, part, needed_by="outcome_first")
    score = segment_mean(judged, batch.step_splits)
    outcome = batch.column("success")
    found = []
    for group in members(batch.group):
        o, p = outcome[group], score[group]
        gap = p[:, None] - p
        by_outcome = o[:, None] > o
        by_process = (o[:, None] == o) & (gap > 0) & differs(gap, p[:, None], p)
        better, worse = np.nonzero(by_outcome | by_process)
        weight = np.where(by_outcome, 1.0, gap)[better, worse]
        found.append((group[better], group[worse], weight, weight))
    return joined(batch, found)
