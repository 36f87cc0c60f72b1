"""Advantages of groups that teach little at the moment, weakened."""

import math

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import group_index, segment_sum
from lapwing.modulation._levels import with_episodes

LEVEL = "any"
SCOPE = "group"
NEEDS = ("success",)

_RULES = ("length", "length_vlm", "turns")


@checked(*NEEDS)
def adora(
    batch: EpisodeBatch, advantage: np.ndarray, *, rule: str = "length", w_bad: float = 0.1, w_good: float = 1.0
) -> np.ndarray:
    """Multiply the advantages of a group by a weight that says whether its successes are worth imitating now.

        good_g = max { L_i : i succeeded } > mean { L_i : i failed and was not truncated }
        A′ = w_good A   if good_g,   else w_bad A

    L is the number of reply tokens of an episode. With no success the maximum is −∞, with no such failure the mean is
    −∞, so that any success makes the group good then. The public code for vision-language models differs and is the
    rule "length_vlm": the mean of no failures is +∞, and groups without success are good. Both reward long thinking;
    the rule "turns" is the reverse for games, with steps for tokens: good if the quickest success took fewer
    steps than the failures did on average. The difficulty rule of the paper is left out: its constants are not public.

    Provenance: formula and defaults from the authors' code.

    Reference: Ren et al. 2026, "ADORA: Training Reasoning Models with Dynamic Advantage Estimation on Reinforcement
      Learning". https://arxiv.org/abs/2602.10019

    Args:
      batch: E episodes with N steps and K tokens, with the column `success`.
      advantage: per step [N] or per token [K], any unit, already normalised.
      rule: "length", "length_vlm" or "turns".
      w_bad: weight of groups that are not good, ≥ 0.
      w_good: weight of good groups, ≥ 0; above 1 amplifies them, with `w_bad = 1`.

    Returns:
      Advantage, float64 [N] or [K] as it came in, in the unit of `advantage`.

    Raises:
      UserError: `advantage` has neither N nor K numbers, `rule` is unknown, or a weight is negative.
    """
    if rule not in _RULES:
        raise UserError(f"There is no rule '{rule}'; valid names: {', '.join(_RULES)}.")
    for name, weight in (("w_bad", w_bad), ("w_good", w_good)):
        if not 0.0 <= weight < math.inf:
            raise UserError(f"{name} must be finite and at least 0, but it is {weight}.")
    values, episode = with_episodes(batch, advantage, "adora")
    tokens = segment_sum(np.diff(batch.token_splits), batch.step_splits)
    # Few turns are good as many tokens are.
    merit = -batch.episode_length.astype(np.float64) if rule == "turns" else tokens
    weight = np.where(_good(batch, merit, vlm=rule == "length_vlm"), w_good, w_bad)
    return values * weight[episode]


def _good(batch: EpisodeBatch, merit: np.ndarray, *, vlm: bool) -> np.ndarray:
    """Whether the best success of each episode's group beats the mean failure, bool [E]."""
    index, size = group_index(batch.group)
    success = np.asarray(batch.column("success")) > 0.5
    failure = ~success & ~batch.truncated
    best = np.full(len(size), -np.inf)
    np.maximum.at(best, index[success], merit[success])
    failures = np.bincount(index[failure], minlength=len(size))
    total = np.bincount(index[failure], weights=merit[failure], minlength=len(size))
    mean = np.where(failures > 0, total / np.maximum(failures, 1), np.inf if vlm else -np.inf)
    good = best > mean
    if vlm:
        good |= best == -np.inf
    return good[index]
