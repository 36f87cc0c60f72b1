"""Easy or hard pairs, by how far a score sets them apart."""

from typing import NamedTuple

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError, nearest
from lapwing.core.pair_batch import PairBatch
from lapwing.core.ragged import segment_sum
from lapwing.pairing._groups import part_of_steps
from lapwing.pairing.by_return import by_return

SCOPE = "batch"
NEEDS = ()

_KEPT = ("easy", "hard")
_CONFLICTS = ("drop", "flip")


class Split(NamedTuple):
    """Pairs by difficulty, and the γ that parts them; NaN where there are no pairs."""

    easy: PairBatch
    hard: PairBatch
    threshold: float


@checked(*NEEDS)
def split_by_gap(
    batch: EpisodeBatch,
    *,
    keep: str = "easy",
    threshold: float | None = None,
    part: str = "",
    on_conflict: str = "drop",
) -> PairBatch:
    """Pair the best episode of each group with its worst, and keep the pairs that a score tells apart, or the others.

        g = |s(chosen) − s(rejected)|
        easy: g > γ    hard: g ≤ γ    γ = the median of the gaps, unless it is given

    The label is the return; s is the sum of a named part of the reward, such as a reward model's score, or the return
    itself. Where s contradicts the label (s(chosen) < s(rejected)) the pair is dropped, or flipped. The median is over
    the pairs that are left. Preference optimisation learns from the easy pairs; a second stage plays from the starts of
    the hard ones, with the policy of the first stage as its reference.

    Provenance: formula from a paper note; code not seen. γ is Lapwing's choice.

    Reference: Gou and Nguyen 2024, "Mixed Preference Optimization: Reinforcement Learning with Data Selection and
      Better Reference Model". https://arxiv.org/abs/2403.19443

    Args:
      batch: E episodes.
      keep: "easy" or "hard".
      threshold: γ, ≥ 0, in units of the score; None for the median.
      part: the named part of the reward that is the score; empty for the return.
      on_conflict: "drop" or "flip".

    Returns:
      The pairs, with chosen, rejected, weight (1) and margin [P]; the margin is g, in units of the score.

    Raises:
      UserError: `keep` or `on_conflict` is unknown, `threshold` is negative, or the game pays no such part.
    """
    for name, value, known in (("keep", keep, _KEPT), ("on_conflict", on_conflict, _CONFLICTS)):
        if value not in known:
            raise UserError(f"There is no {name} '{value}'; {nearest(value, known)}")
    if part:
        judged = segment_sum(part_of_steps(batch, part, needed_by="split_by_gap"), batch.step_splits)
    else:
        judged = batch.episode_return
    split = split_pairs(by_return(batch), judged, threshold=threshold, on_conflict=on_conflict)
    return split.easy if keep == "easy" else split.hard


def split_pairs(
    pairs: PairBatch, score: np.ndarray, *, threshold: float | None = None, on_conflict: str = "drop"
) -> Split:
    """Part pairs by how far a score sets them apart.

    Args:
      pairs: whose order is the label.
      score: of each episode, [E].
      threshold: γ, ≥ 0, in units of the score; None for the median of the gaps.
      on_conflict: what becomes of pairs that the score orders the other way, "drop" or "flip".

    Returns:
      Both kinds, with the gap as margin, and γ.

    Raises:
      UserError: `threshold` is negative.
    """
    if threshold is not None and not threshold >= 0.0:
        raise UserError(f"threshold must be at least 0, or left out for the median, but it is {threshold}.")
    gap = score[pairs.chosen] - score[pairs.rejected]
    kept = gap >= 0.0 if on_conflict == "drop" else np.ones(len(gap), dtype=bool)
    chosen = np.where(gap < 0.0, pairs.rejected, pairs.chosen)[kept]
    rejected = np.where(gap < 0.0, pairs.chosen, pairs.rejected)[kept]
    gap = np.abs(gap[kept])
    if threshold is None:
        threshold = float(np.median(gap)) if len(gap) else float("nan")
    found = PairBatch(chosen, rejected, pairs.weight[kept], pairs.batch, margin=gap)
    easy = gap > threshold
    return Split(found.select(easy), found.select(~easy), threshold)
