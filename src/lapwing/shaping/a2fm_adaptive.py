"""Successes in a costly mode worth less where the lightest mode would do."""

import math

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.checked import checked
from lapwing.core.errors import UserError
from lapwing.core.ragged import group_index

SCOPE = "group"
NEEDS = ("mode", "forced", "success")

_SOURCES = ("all_forced", "same_mode", "instant")
_STREAMS = ("outcome", "reward")


@checked(*NEEDS)
def a2fm_adaptive(
    batch: EpisodeBatch,
    *,
    p_from: str = "all_forced",
    easy_gate: bool = True,
    alpha: float = 2.0,
    tau: float = 0.75,
    floor: float = 0.0,
    of: str = "outcome",
) -> EpisodeBatch:
    """Multiply what a success earns by a coefficient that falls as the group's task gets easier.

        o′ = R_adapt · max(o, 0) · [success] + min(o, 0)
        R_adapt = max(1 − p^α, floor)   if the mode is above 0 and the group is easy,   else 1
        easy: the success rate of the group's episodes that were forced to mode 0 exceeds τ

    Mode 0 is the lightest. p is the success rate of the forced episodes of the group: of all of them, of those in the
    episode's own mode, or of those in mode 0. Where there are none, p is 0, and without any in mode 0 a group is not
    easy. Two descriptions of the method disagree: one takes p from the forced episodes of the costly mode ("same_mode")
    and has no gate. At p = 1 a costly success is worth as little as a failure, unless there is a `floor`. A penalty
    below 0, of a format gate that comes before, stays. Tokens that state a forced mode must not be trained on, and
    those that choose one freely must. The paper's other half is the sampler that forces modes.

    Provenance: formula from a paper note; code not seen.

    Reference: A²FM 2025, "An Adaptive Agent Foundation Model for Tool-Aware Hybrid Reasoning" (adaptive policy
      optimisation; its τ is not known here). https://arxiv.org/abs/2510.12838

    Args:
      batch: E episodes with N steps, with the columns `mode`, `forced` and `success`.
      p_from: "all_forced", "same_mode" or "instant" (mode 0), whose success rate p is.
      easy_gate: only an easy group pays less.
      alpha: α > 0; the larger, the nearer p must come to 1.
      tau: τ, in [0, 1].
      floor: the least coefficient, in [0, 1].
      of: "outcome", or "reward" for games that pay their steps: then every step's reward takes the place of o.

    Returns:
      The batch with another `outcome`, float64 [E], or `reward`, float64 [N], in units of reward.

    Raises:
      UserError: `p_from` or `of` is unknown, or `alpha`, `tau` or `floor` lies out of its range.
    """
    _check(p_from, alpha, tau, floor, of)
    success = np.asarray(batch.column("success")) > 0.5
    coefficient = np.where(success, _coefficient(batch, success, p_from, easy_gate, alpha, tau, floor), 0.0)
    if of == "reward":
        coefficient = coefficient[batch.episode_of_step]
    paid = np.asarray(batch.column(of), dtype=np.float64)
    return batch.with_columns(**{of: coefficient * np.maximum(paid, 0.0) + np.minimum(paid, 0.0)})


def _coefficient(
    batch: EpisodeBatch, success: np.ndarray, p_from: str, easy_gate: bool, alpha: float, tau: float, floor: float
) -> np.ndarray:
    """R_adapt of each episode, [E]."""
    mode, forced = np.asarray(batch.column("mode")), np.asarray(batch.column("forced")).astype(bool)
    index, _ = group_index(batch.group)
    of_instant = _rate(index, forced & (mode == 0), success)
    if p_from == "same_mode":
        p = _rate(_number(index, mode), forced, success)
    else:
        p = of_instant if p_from == "instant" else _rate(index, forced, success)
    easy = of_instant > tau if easy_gate else np.ones(len(mode), dtype=bool)
    return np.where((mode > 0) & easy, np.maximum(1.0 - p**alpha, floor), 1.0)


def _number(group: np.ndarray, mode: np.ndarray) -> np.ndarray:
    """One number for each pair of a group and a mode, [E]."""
    _, kind = np.unique(mode, return_inverse=True)
    return group * (int(kind.max(initial=0)) + 1) + kind.reshape(-1)


def _rate(group: np.ndarray, counts: np.ndarray, success: np.ndarray) -> np.ndarray:
    """The success rate of those that count in each one's group, [E]; 0 where none does."""
    groups = int(group.max(initial=-1)) + 1
    number = np.bincount(group[counts], minlength=groups)
    won = np.bincount(group[counts & success], minlength=groups)
    return (won / np.maximum(number, 1))[group]


def _check(p_from: str, alpha: float, tau: float, floor: float, of: str) -> None:
    for name, value, valid in (("p_from", p_from, _SOURCES), ("of", of, _STREAMS)):
        if value not in valid:
            raise UserError(f"There is no {name} '{value}'; valid names: {', '.join(valid)}.")
    if not 0.0 < alpha < math.inf:
        raise UserError(f"alpha must be finite and above 0, but it is {alpha}.")
    for name, value in (("tau", tau), ("floor", floor)):
        if not 0.0 <= value <= 1.0:
            raise UserError(f"{name} must be in [0, 1], but it is {value}.")
