"""Hierarchical advantage estimation: plan, switch and action each get their own advantage."""

import numpy as np

from lapwing.core.batch import EpisodeBatch, merged_reward
from lapwing.core.checked import checked
from lapwing.core.ragged import lengths_to_splits, reverse_discounted_sum
from lapwing.credit._discount import check_unit_interval
from lapwing.credit._gae import lambda_advantage, next_value, own_value
from lapwing.credit._normalised import normalised

LEVEL = "token"
SCOPE = "group"
NEEDS = ("switch", "v_low", "v_high", "v_term", "span")

_SWITCH, _SUBGOAL, _ACTION = 2, 3, 4
_EPS = 1e-8


@checked(*NEEDS)
def hae(
    batch: EpisodeBatch,
    *,
    discount: float = 1.0,
    lambda_: float = 1.0,
    segment_lambda: float = 0.95,
    bootstrap_truncated: bool = True,
    normalise: bool = False,
) -> np.ndarray:
    """Give action, subgoal and switch tokens the advantage of the level on which they decide.

        low:   A_t = δ_t + γλ A_{t+1} within a segment,     δ_t = r_t + γ V'_t − V_low(t)
               V'_t = V_low(t+1), at the end of a segment V_high of the next one's first step
        high:  A_k = δ_k + γ^{d_k} λ_seg A_{k+1},           δ_k = R_k + γ^{d_k} V_high(b_{k+1}) − V_high(b_k)
               R_k = Σ_{t=b_k}^{e_k} γ^{t−b_k} r_t,         d_k = e_k − b_k + 1
        term:  A_t = Ret_t − V_term(t),                     Ret_t = r_t + γ Ret_{t+1}, past e_k V_high(b_{k+1})

    A segment k = b_k … e_k begins at the first step of an episode and at every step with `switch`. A_low goes to the
    action tokens of its step (to all its tokens if it has no action token, where it adds to what they have), A_high
    to the subgoal tokens of the first step of the segment, A_term to the switch tokens of every step; other tokens
    get 0. The outcome is a reward of the last step. Nothing follows an episode that the rules ended. At a cut each
    level bootstraps itself as the authors' code does: low with V_low of the last step, high and term with V_high of
    the last segment; or all with 0 (the authors: on for ALFWorld, off for WebShop, where the agent must stop itself).

    A_term is the form in the authors' code. The theory's form, (q − β)(V_high(s_t) − V_low(s_t, o_{t−1})) with q = 1
    at a switch and β its probability, needs that probability and the value under the old subgoal, which no column
    holds. The paper's table of discounts could not be read; the defaults are the authors' code's, except that it
    normalises. With `normalise` the whole batch influences every number, as with a modulation of SCOPE batch.

    Provenance: formula and defaults from the authors' code.

    Reference: Peng et al. 2026, "HiPER: Hierarchical Reinforcement Learning with Explicit Credit Assignment for Large
      Language Model Agents". https://arxiv.org/abs/2602.16165; https://github.com/JonP07/HiPER-agent

    Args:
      batch: N steps with `switch`, `v_low`, `v_high`, `v_term` [N], K reply tokens with `span` [K].
      discount: γ, per step, in [0, 1].
      lambda_: λ of the low level, per step, in [0, 1].
      segment_lambda: λ_seg of the high level, per segment, in [0, 1].
      bootstrap_truncated: whether an episode that a limit cut is worth something past its end.
      normalise: centre each level, and divide it by its deviation (ddof 0) + 1e-8, over the steps of the batch with a
        token that gets it; a level without spread becomes 0.

    Returns:
      Advantage of each token, float64 [K], in units of reward (in standard deviations with `normalise`).

    Raises:
      MissingColumnError: one of the five columns is missing.
      UserError: `discount`, `lambda_` or `segment_lambda` lies outside [0, 1].
    """
    check_unit_interval(discount=discount, lambda_=lambda_, segment_lambda=segment_lambda)
    opens = batch.column("switch").astype(bool)
    opens[batch.step_splits[:-1]] = True
    low, high, term = _levels(batch, opens, discount, lambda_, segment_lambda, bootstrap_truncated)
    step, span = batch.step_of_token, batch.column("span")
    has_action = np.bincount(step[span == _ACTION], minlength=batch.num_steps) > 0
    advantage = np.zeros(batch.num_tokens)
    for of_step, gets_it in (
        (low, (span == _ACTION) | ~has_action[step]),
        (high, (span == _SUBGOAL) & opens[step]),
        (term, span == _SWITCH),
    ):
        at = step[gets_it]
        advantage[gets_it] += (_over_steps(of_step, at) if normalise else of_step)[at]
    return advantage


def _levels(
    batch: EpisodeBatch, opens: np.ndarray, discount: float, lambda_: float, segment_lambda: float, bootstrap: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A_low, A_high (0 but at the first step of a segment) and A_term, [N] each."""
    reward = merged_reward(batch)
    v_low, v_high, v_term = (batch.column(name).astype(np.float64) for name in ("v_low", "v_high", "v_term"))
    first = np.flatnonzero(opens)
    steps_of_segment = np.append(first, batch.num_steps)  # as splits
    segments_of_episode = lengths_to_splits(opens)[batch.step_splits]  # as splits
    v_segment = v_high[first]
    own_low = own_value(batch, v_low[batch.step_splits[1:] - 1]) * bootstrap
    own_high = own_value(batch, v_segment[segments_of_episode[1:] - 1]) * bootstrap

    low = lambda_advantage(
        reward,
        v_low,
        next_value(v_segment, own_low, segments_of_episode),
        steps_of_segment,
        discount=discount,
        lambda_=lambda_,
    )
    high = np.zeros(batch.num_steps)
    high[first] = lambda_advantage(
        reverse_discounted_sum(reward, discount, steps_of_segment)[first],
        v_segment,
        own_high,
        segments_of_episode,
        discount=discount ** np.diff(steps_of_segment),
        lambda_=segment_lambda,
    )
    # λ = 1 telescopes to the return, bootstrapped, minus the value.
    term = lambda_advantage(
        reward,
        v_term,
        next_value(v_segment, own_high, segments_of_episode),
        steps_of_segment,
        discount=discount,
        lambda_=1.0,
    )
    return low, high, term


def _over_steps(advantage: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Normalise over the given steps, each counted once; the others get 0."""
    used = np.zeros(len(advantage), dtype=bool)
    used[steps] = True
    result = np.zeros_like(advantage)
    one_group = np.zeros(np.count_nonzero(used), dtype=np.int64)
    result[used] = normalised(advantage[used], one_group, ddof=0, eps=_EPS)
    return result
